"""Pods at the edge: a kubelet in small. `rules` decide, `lifecycle` acts, one worker a pod; `material` makes what containers need, `probes`
asks whether they live, `upkeep` looks after the node; `oci` with `images` is the built-in runtime, `cri` the way to another."""
