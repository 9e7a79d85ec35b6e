"""What keeps a node with pods in order.

`cgroups.py` is the pods' part of the cgroup tree, over `hierarchies.py` (v1, v2, hybrids) or, where systemd has the tree, `slices.py`;
`eviction.py` ends pods when the node runs low, by what `measuring.py` reads; `collecting.py` throws away containers, images and logs nobody
needs; `logs.py` rotates; `shutdown.py` ends pods in order when the machine does; `duties.py` puts these together. `dbus.py` is how slices
and shutdown talk with systemd. `statics.py` reads pods from files, `events.py` tells people.
"""

from pinnace.core.pods.upkeep.cgroups import PodCgroups
from pinnace.core.pods.upkeep.duties import Upkeep
from pinnace.core.pods.upkeep.events import EventRecorder
from pinnace.core.pods.upkeep.statics import StaticPods

__all__ = ["EventRecorder", "PodCgroups", "StaticPods", "Upkeep"]
