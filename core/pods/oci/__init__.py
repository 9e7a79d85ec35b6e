"""The built-in runtime: crun and a shim a container, CNI plugins, no daemon."""
