"""What every pod's worker is given."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pinnace.core.base.aio.clock import Clock
from pinnace.core.base.pod import Container, Pod
from pinnace.core.base.runtime import Runtime
from pinnace.core.base.settings.edged import EdgedSettings
from pinnace.core.pods.lifecycle.pulls import PullQueue
from pinnace.core.pods.ports import Cgroups, Events, Hooks, Materials, Prober


@dataclass(frozen=True, slots=True)
class Means:
    """`starts` bounds how many pods make sandboxes and containers at once; `host_ips` are the node's addresses, the first one preferred."""

    settings: EdgedSettings
    runtime: Runtime
    materials: Materials
    prober: Prober
    hooks: Hooks
    events: Events
    cgroups: Cgroups
    clock: Clock
    pulls: PullQueue
    starts: asyncio.Semaphore
    host_ips: Callable[[], Sequence[str]]

    def note(self, pod: Pod, container: Container, reason: str, message: str) -> None:
        """A Normal event about a container."""
        self.events.pod(pod, "Normal", reason, message, container=container.name, is_init=container.is_init)

    def warn(self, pod: Pod, container: Container, reason: str, message: str) -> None:
        """A Warning event about a container."""
        self.events.pod(pod, "Warning", reason, message, container=container.name, is_init=container.is_init)
