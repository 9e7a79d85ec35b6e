"""What containers need, made from a pod's spec and from what is stored: volumes, variables, tokens, files, configurations.

`service.py` implements the port. `sources.py` and `tokens.py` get objects from the store or the cloud; `volumes.py` sets volumes up, with
`content.py` (which files), `atomic.py` (changing them at once), `persistent.py` (claims), `hostpath.py`; `remote.py` lets go of servers
that are away; `binding.py` makes a container's mounts, `trees.py` walks what others write in, `cleaning.py` takes it all away.
"""

from pinnace.core.pods.material.service import KINDS, Host, PodMaterials

__all__ = ["KINDS", "Host", "PodMaterials"]
