"""The composition root of the pods: the runtime that is asked for, the parts of the kubelet and the node's upkeep, wired together.

runtime ── images            the store ── materials ─┐
   ├─ prober, hooks                                  ├─ service (one worker a pod) ── statuses to the cloud
   └─ upkeep, static pods                            cgroups
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from pinnace.core.base.aio.backoff import Backoff
from pinnace.core.base.aio.clock import Clock, LoopClock
from pinnace.core.base.aio.supervise import supervise
from pinnace.core.base.contract.keys import NodeName
from pinnace.core.base.contract.scheduling import amounts
from pinnace.core.base.errors import PinnaceError
from pinnace.core.base.pod import Object, Pod
from pinnace.core.base.ports import ObjectChange, ObjectStore, Outbox, Uplink
from pinnace.core.base.runtime import Runtime, RuntimeState
from pinnace.core.base.settings.edged import EdgedSettings, seconds
from pinnace.core.pods.material.service import KINDS, Host, PodMaterials
from pinnace.core.pods.ports import Events
from pinnace.core.pods.probes import LifecycleHooks, ProbeRunner
from pinnace.core.pods.rules.allocatable import allocatable, quantities, unreserved
from pinnace.core.pods.service import PodService
from pinnace.core.pods.upkeep.cgroups import PodCgroups
from pinnace.core.pods.upkeep.duties import Upkeep
from pinnace.core.pods.upkeep.events import EventRecorder
from pinnace.core.pods.upkeep.statics import StaticPods

logger = logging.getLogger(__name__)

STATE_SECONDS: Final = 5.0
TROUBLED_SECONDS: Final = 0.5
"""How often the runtime is asked how it is, while all is well and while it is not."""


def runtime_of(settings: EdgedSettings, events: Events | None = None, came: Callable[[], None] = lambda: None) -> Runtime:
    """The runtime that `containerRuntimeEndpoint` names, or the built-in one, which tells of imported images in `events` of the node, and
    then calls `came`. Only the one that is used is imported."""
    kubelet = settings.tailored_kubelet_config
    if kubelet.container_runtime_endpoint:
        from pinnace.core.pods.cri.runtime import CriRuntime

        return CriRuntime(
            kubelet.container_runtime_endpoint,
            kubelet.image_service_endpoint,
            request_seconds=seconds(kubelet.runtime_request_timeout),
            cgroup_driver=kubelet.cgroup_driver,
        )
    from pinnace.core.pods.images.imports import Imported
    from pinnace.core.pods.images.store import BuiltinImages
    from pinnace.core.pods.oci.runtime import OciRuntime

    images = BuiltinImages(settings.builtin_runtime)

    def imported(what: Imported) -> None:
        assert events is not None
        if what.problem:
            events.node("Warning", "FailedImport", what.problem)
        else:
            events.node("Normal", "ImagesImported", f"imported {', '.join(what.names) or 'images without a name'} from {what.path}")
            came()

    if events is not None:
        images.on_import(imported)
    return OciRuntime(settings.builtin_runtime, images, cgroup_driver=kubelet.cgroup_driver)


class PodNode:
    """Everything that runs pods here; implements base.ports.PodHost. `capacity` is the machine's, as quantities; `addresses` its own, the
    preferred one first. Wire `changed` to the store's changes of `kinds`."""

    kinds = frozenset({"pod", *KINDS})

    def __init__(
        self,
        settings: EdgedSettings,
        node: NodeName,
        *,
        capacity: Mapping[str, str],
        addresses: Callable[[], Sequence[str]],
        objects: ObjectStore,
        uplink: Uplink,
        outbox: Outbox,
        clock: Clock | None = None,
        runtime: Runtime | None = None,
    ) -> None:
        kubelet = settings.tailored_kubelet_config
        machine = amounts(capacity)
        self._clock = clock or LoopClock()
        self._settings = kubelet
        self._listeners: list[Callable[[], None]] = []
        self._state = RuntimeState("", "", "the container runtime was not asked yet")
        self.events = EventRecorder(node, outbox, is_sending=settings.report_event, clock=self._clock)
        self.containers = runtime or runtime_of(settings, self.events, self._images_came)
        self.cgroups = PodCgroups(kubelet, room=unreserved(machine, kubelet))
        self._prober = ProbeRunner(self.containers, self.events, clock=self._clock)
        self._materials = PodMaterials(
            settings,
            Host(node, machine.get("memory", 0), addresses, lambda: self.allocatable(capacity)),
            objects=objects,
            uplink=uplink,
            events=self.events,
            cgroups=self.cgroups,
            clock=self._clock,
        )
        self.service = PodService(
            settings,
            node,
            objects=objects,
            uplink=uplink,
            runtime=self.containers,
            materials=self._materials,
            prober=self._prober,
            hooks=LifecycleHooks(self.containers, clock=self._clock),
            events=self.events,
            cgroups=self.cgroups,
            host_ips=addresses,
            clock=self._clock,
            allocatable=lambda: allocatable(machine, kubelet),
            pressure=lambda: self.pressures,
            is_closing=lambda: bool(self._upkeep.problem),
        )
        self._upkeep = Upkeep(self.containers, self.service, self.events, self.cgroups, settings, clock=self._clock)
        self._upkeep.on_change(self._tell)
        statics = StaticPods(
            kubelet.static_pod_path, node, self.service.set_static, look_seconds=seconds(kubelet.file_check_frequency), clock=self._clock
        )
        self._parts = {
            "pods": self._run_pods,
            "static pods": statics.run,
            "runtime state": self._watch_state,
        }
        uplink.on_connected(self._materials.connected)

    def _images_came(self) -> None:
        self.service.images_came()

    async def run(self) -> None:
        """For ever. Containers go on when it is cancelled."""
        async with asyncio.TaskGroup() as group:
            for name, part in self._parts.items():
                group.create_task(supervise(name, part, Backoff(0.2, 10.0)), name=name)

    async def _run_pods(self) -> None:
        """The upkeep throws away what belongs to no pod: it begins when all are known, and ends with who knows them."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.service.run())
                await self.service.loaded.wait()
                group.create_task(self._upkeep.run())
        finally:
            await self._prober.close()

    async def changed(self, change: ObjectChange) -> None:
        """An object of `kinds` was written to the store, or deleted from it."""
        if change.key.kind == "pod":
            await self.service.changed(change)
            return
        await self._materials.changed(change)
        await self.service.looked_for(change)

    def pods(self) -> Sequence[Pod]:
        return self.service.pods()

    def recent_events(self, pod_uid: str = "") -> Sequence[Object]:
        """The last events of a pod, or of all that is here."""
        return self.events.recent(pod_uid)

    @property
    def runtime(self) -> str:
        return f"{self._state.name}://{self._state.version}" if self._state.name else ""

    @property
    def problem(self) -> str:
        return self._state.problem or self._state.network_problem or self._upkeep.problem

    @property
    def pressures(self) -> frozenset[str]:
        return self._upkeep.pressures

    @property
    def max_pods(self) -> int:
        return self._settings.max_pods

    def allocatable(self, capacity: Mapping[str, str]) -> Mapping[str, str]:
        return {**capacity, **quantities(allocatable(amounts(capacity), self._settings))}

    def on_change(self, listener: Callable[[], None]) -> None:
        self._listeners.append(listener)

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()

    async def _watch_state(self) -> None:
        started = asyncio.ensure_future(self.service.loaded.wait())
        timer = asyncio.ensure_future(self._clock.sleep(TROUBLED_SECONDS))
        try:  # a runtime that is still starting would be told of as not ready, for one more round
            await asyncio.wait((started, timer), return_when=asyncio.FIRST_COMPLETED)
        finally:
            started.cancel()
            timer.cancel()
        while True:
            try:
                state = await self.containers.state()
            except PinnaceError as error:
                state = RuntimeState(self._state.name, self._state.version, f"the container runtime does not answer: {error}")
            if state != self._state:
                if problem := state.problem or state.network_problem:
                    logger.warning("pods.runtime.not-ready reason=%s", problem)
                elif self._state.problem or self._state.network_problem:
                    logger.info("pods.runtime.ready name=%s version=%s", state.name, state.version)
                self._state = state
                self._tell()
            await self._clock.sleep(TROUBLED_SECONDS if self.problem else STATE_SECONDS)
