"""Everything that keeps a node with pods in order, put together: collecting, eviction, log rotation, graceful shutdown."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from pinnace.core.base.aio.backoff import Backoff
from pinnace.core.base.aio.clock import Clock, LoopClock
from pinnace.core.base.aio.supervise import supervise
from pinnace.core.base.runtime import Runtime
from pinnace.core.base.settings.edged import EdgedSettings
from pinnace.core.pods.ports import Events, PodControl
from pinnace.core.pods.upkeep.collecting import ContainerCollector, ImageCollector
from pinnace.core.pods.upkeep.eviction import Evictor
from pinnace.core.pods.upkeep.logs import LogRotation
from pinnace.core.pods.upkeep.measuring import Measures, PodCounts
from pinnace.core.pods.upkeep.shutdown import NodeShutdown

_PODS: Final = "pods"


class Upkeep:
    """Begin it when all pods are known: what belongs to no pod is thrown away."""

    def __init__(
        self,
        runtime: Runtime,
        control: PodControl,
        events: Events,
        counts: PodCounts,
        settings: EdgedSettings,
        *,
        clock: Clock | None = None,
    ) -> None:
        clock = clock or LoopClock()
        kubelet = settings.tailored_kubelet_config
        self._containers = ContainerCollector(runtime, control, settings.pod_logs_dir, clock=clock)
        self._images = ImageCollector(runtime, control, events, kubelet, clock=clock)
        self.measures = Measures(runtime, counts, pods_dir=settings.root_directory / _PODS, logs_dir=settings.pod_logs_dir)
        relief = (self._containers.free_all, self._images.free_all)
        self._evictor = Evictor(self.measures, control, events, kubelet, relief=relief, clock=clock)
        self._logs = LogRotation(runtime, max_size=kubelet.container_log_max_size, max_files=kubelet.container_log_max_files, clock=clock)
        self._shutdown = NodeShutdown(control, events, kubelet, clock=clock)

    @property
    def pressures(self) -> frozenset[str]:
        """Of MemoryPressure, DiskPressure, PIDPressure; for the Node's status and for admission."""
        return self._evictor.pressures

    @property
    def problem(self) -> str:
        """Why no pod may start now; "" otherwise."""
        return self._shutdown.problem

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` when `pressures` or `problem` changed; plain, must not block."""
        self._evictor.on_change(listener)
        self._shutdown.on_change(listener)

    async def run(self) -> None:
        """For ever. Each duty is started again when it fails."""
        duties: dict[str, Callable[[], Awaitable[None]]] = {
            "container collection": self._containers.run,
            "image collection": self._images.run,
            "eviction": self._evictor.run,
            "log rotation": self._logs.run,
            "graceful shutdown": self._shutdown.run,
        }
        async with asyncio.TaskGroup() as group:
            for name, run in duties.items():
                group.create_task(supervise(name, run, Backoff(1.0, 60.0)), name=name)
