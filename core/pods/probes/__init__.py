"""Probes and lifecycle hooks: looks at running containers from outside.

`looks.py` is one look by any handler, over `http.py` and `health.py` (gRPC); `prober.py` keeps looking and counts; `hooks.py` runs
postStart and preStop. What a row of results means is in `rules/probing.py`.
"""

from pinnace.core.pods.probes.hooks import LifecycleHooks
from pinnace.core.pods.probes.prober import ProbeRunner

__all__ = ["LifecycleHooks", "ProbeRunner"]
