"""The probes of running containers: one task for each probe, the verdicts, and what changes them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from random import random
from typing import Final

from pinnace.core.base.aio.clock import Clock, LoopClock
from pinnace.core.base.pod import Container, Object, Pod
from pinnace.core.pods.ports import Events, ProbeKind, ProbeResult
from pinnace.core.pods.probes.looks import Executor, Look, Looks, Target
from pinnace.core.pods.rules.probing import Outcome, ProbeSpec, Tally, counted, probe_spec

logger = logging.getLogger(__name__)

_FIELDS: Final = {ProbeKind.STARTUP: "startupProbe", ProbeKind.LIVENESS: "livenessProbe", ProbeKind.READINESS: "readinessProbe"}
_INITIAL: Final = {
    ProbeKind.STARTUP: ProbeResult.UNKNOWN,
    ProbeKind.LIVENESS: ProbeResult.SUCCESS,
    ProbeKind.READINESS: ProbeResult.FAILURE,
}
_WORDS: Final = {
    Outcome.WARNING: ("ProbeWarning", "warning"),
    Outcome.FAILURE: ("Unhealthy", "failed"),
    Outcome.UNKNOWN: ("Unhealthy", "errored"),
}


class _Watched:
    """One container: what is probed, what came of it, and who is at it."""

    def __init__(self, pod: Pod, target: Target, specs: dict[ProbeKind, ProbeSpec], *, is_restart: bool, started_at: float) -> None:
        self.pod = pod
        self.target = target
        self.specs = specs
        self.is_restart = is_restart
        self.started_at = started_at
        self.tallies = {kind: Tally() for kind in specs}
        self.tasks: list[asyncio.Task[None]] = []


class ProbeRunner:
    """Implements ports.Prober. `draw` gives numbers of [0, 1)."""

    def __init__(self, runtime: Executor, events: Events, *, clock: Clock | None = None, draw: Callable[[], float] = random) -> None:
        self._looks = Looks(runtime)
        self._events = events
        self._clock = clock or LoopClock()
        self._draw = draw
        self._watched: dict[str, _Watched] = {}
        self._listeners: list[Callable[[str], None]] = []

    def watch(
        self, pod: Pod, container: Container, container_id: str, pod_ip: str, *, is_restart: bool = False, started_at: float = 0.0
    ) -> None:
        if container_id in self._watched:
            return
        specs = {kind: spec for kind, field in _FIELDS.items() if (spec := probe_spec(container.spec.get(field) or {})) is not None}
        target = Target(container, container_id, pod_ip, pod.host_network)
        watched = _Watched(pod, target, specs, is_restart=is_restart, started_at=started_at)
        if is_restart:
            _recall(watched)
        self._watched[container_id] = watched
        if ProbeKind.STARTUP in specs and watched.tallies[ProbeKind.STARTUP].verdict is not True:
            self._begin(watched, ProbeKind.STARTUP)
        else:
            self._begin_rest(watched)

    def forget(self, container_id: str) -> None:
        watched = self._watched.pop(container_id, None)
        for task in watched.tasks if watched else ():
            task.cancel()

    def result(self, container_id: str, kind: ProbeKind) -> ProbeResult:
        watched = self._watched.get(container_id)
        if watched is None:
            return _INITIAL[kind]
        tally = watched.tallies.get(kind)
        if tally is None:
            return ProbeResult.SUCCESS if kind is not ProbeKind.READINESS or self._is_started(watched) else ProbeResult.FAILURE
        if tally.verdict is None:
            return _INITIAL[kind]
        return ProbeResult.SUCCESS if tally.verdict else ProbeResult.FAILURE

    def on_change(self, listener: Callable[[str], None]) -> None:
        self._listeners.append(listener)

    async def close(self) -> None:
        """Stop looking."""
        tasks = [task for watched in self._watched.values() for task in watched.tasks]
        for container_id in tuple(self._watched):
            self.forget(container_id)
        await asyncio.gather(*tasks, return_exceptions=True)

    @staticmethod
    def _is_started(watched: _Watched) -> bool:
        startup = watched.tallies.get(ProbeKind.STARTUP)
        return startup is None or startup.verdict is True

    def _begin_rest(self, watched: _Watched) -> None:
        for kind in watched.specs:
            if kind is not ProbeKind.STARTUP:
                self._begin(watched, kind)

    def _begin(self, watched: _Watched, kind: ProbeKind) -> None:
        watched.tasks.append(asyncio.create_task(self._probe(watched, kind), name=f"{kind.value} probe of {watched.target.container.name}"))

    async def _probe(self, watched: _Watched, kind: ProbeKind) -> None:
        """Until it is forgotten, or the container is to be started anew or has started."""
        spec = watched.specs[kind]
        await self._clock.sleep(self._first_wait(watched, spec))
        while True:
            began = self._clock.now()
            try:
                seen = await self._looks.look(spec.method, spec.action, watched.target, spec.timeout)
            except Exception as error:  # one probe's trouble is not the others'
                logger.exception("pods.probe.broken pod=%s container=%s", watched.pod.name, watched.target.container.name)
                seen = Look(Outcome.UNKNOWN, str(error))
            self._tell(watched, kind, seen)
            before = watched.tallies[kind]
            after = watched.tallies[kind] = counted(before, seen.outcome, spec)
            if after.verdict is not before.verdict:
                self._changed(watched, kind, after.verdict)
            if kind is ProbeKind.STARTUP and after.verdict is True:
                self._begin_rest(watched)
                return
            if kind is not ProbeKind.READINESS and after.verdict is False:
                return  # the container is killed now; a new one has a new id
            await self._clock.sleep(max(began + spec.period - self._clock.now(), 0.1))

    def _first_wait(self, watched: _Watched, spec: ProbeSpec) -> float:
        """Seconds before the first look. A clock that was set back since the container started makes nobody wait longer than its delay."""
        if not watched.is_restart:
            return spec.initial_delay
        left = spec.initial_delay - max(self._clock.wall() - watched.started_at, 0.0)
        return max(self._draw() * spec.period, left)

    def _tell(self, watched: _Watched, kind: ProbeKind, seen: Look) -> None:
        if seen.outcome is Outcome.SUCCESS:
            return
        reason, word = _WORDS[seen.outcome]
        text = f"{kind.value.capitalize()} probe {word}: {seen.message}"
        container = watched.target.container
        self._events.pod(watched.pod, "Warning", reason, text, container=container.name, is_init=container.is_init)

    def _changed(self, watched: _Watched, kind: ProbeKind, verdict: bool | None) -> None:
        pod, container = watched.pod, watched.target.container.name
        logger.info("pods.probe.changed pod=%s/%s container=%s probe=%s ok=%s", pod.namespace, pod.name, container, kind.value, verdict)
        for listener in self._listeners:
            listener(pod.uid)


def _recall(watched: _Watched) -> None:
    """What the pod's status says of a container that ran before we did: a restart of the agent makes nothing unready."""
    statuses: list[Object] = []
    for field in ("containerStatuses", "initContainerStatuses"):
        statuses += watched.pod.status.get(field) or ()
    own = next((each for each in statuses if str(each.get("containerID", "")).endswith(f"//{watched.target.container_id}")), {})
    if ProbeKind.STARTUP in watched.specs and own.get("started"):
        watched.tallies[ProbeKind.STARTUP] = Tally(True, True, 1)
    if ProbeKind.READINESS in watched.specs and own.get("ready"):
        watched.tallies[ProbeKind.READINESS] = Tally(True, True, 1)
