"""The cloud core: controllers on the Kubernetes API and the hub that all edges connect to.

`server.py` is the composition root. `kube/` is the only code that talks with an API server, `watch/` turns lists and watches into
per-object work, `hub/` accepts nodes, `controllers/` holds one reconciler a file, `admission/` the webhooks, `standalone/` an embedded
Kubernetes API for one machine, `local/` the `pinnace up` of everything on one machine. They meet through the Protocols of `ports.py`.
"""
