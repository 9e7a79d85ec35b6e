"""Looks at the node's memory, disks and process ids; when one runs low, frees disk and then ends the pod that ranks first."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from pinnace.core.base.aio.clock import Clock, LoopClock
from pinnace.core.base.errors import PinnaceError
from pinnace.core.base.pod import Pod
from pinnace.core.base.settings.edged import KubeletSettings, seconds
from pinnace.core.pods.ports import Events, PodControl
from pinnace.core.pods.rules import eviction as rules
from pinnace.core.pods.rules.admission import DISK_PRESSURE, MEMORY_PRESSURE, PID_PRESSURE
from pinnace.core.pods.rules.eviction import Level, PodUse, Shortfall

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 10.0
LIMITS_SECONDS: Final = 60.0
"""Between looks at pods' own disk limits: measuring walks their folders."""
EVICTION_SECONDS: Final = 60.0
_WORDS: Final = {
    MEMORY_PRESSURE: ("NodeHasInsufficientMemory", "NodeHasSufficientMemory"),
    DISK_PRESSURE: ("NodeHasDiskPressure", "NodeHasNoDiskPressure"),
    PID_PRESSURE: ("NodeHasInsufficientPID", "NodeHasSufficientPID"),
}


class Meter(Protocol):
    """What there is and who takes it (measuring.py)."""

    async def levels(self) -> dict[str, Level]: ...

    async def uses(self, pods: Sequence[Pod], *, with_disk: bool) -> list[PodUse]: ...


Relief = Callable[[], Awaitable[object]]
"""Throws away what nobody needs (collecting.py); may raise PinnaceError, OSError."""


class Evictor:
    """Each ten seconds. `pressures` are the conditions that hold, for the node's status and for admission; `relief` is tried in order
    before a pod goes for want of disk."""

    def __init__(
        self,
        meter: Meter,
        control: PodControl,
        events: Events,
        settings: KubeletSettings,
        *,
        relief: Sequence[Relief] = (),
        clock: Clock | None = None,
    ) -> None:
        self._meter = meter
        self._control = control
        self._events = events
        self._thresholds = settings.eviction_hard
        self._hold_seconds = seconds(settings.eviction_pressure_transition_period)
        self._relief = relief
        self._clock = clock or LoopClock()
        self._observed: dict[str, float] = {}
        self._listeners: list[Callable[[], None]] = []
        self._limits_looked_at = float("-inf")
        self._slow: set[str] = set()

    @property
    def pressures(self) -> frozenset[str]:
        """Of MemoryPressure, DiskPressure, PIDPressure."""
        return frozenset(self._observed)

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` when `pressures` changed; plain, must not block."""
        self._listeners.append(listener)

    async def run(self) -> None:
        """For ever."""
        while True:
            try:
                await self.look()
            except PinnaceError as error:
                logger.warning("pods.eviction.failed reason=%s", error)
            await self._clock.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Once: see what runs low, and do the next thing about it."""
        short = await self._shortfalls()
        self._hold(short)
        if await self._evict_over_limits():
            return
        disk = next((each for each in short if each.signal in rules.DISK_SIGNALS), None)
        if disk is not None:
            await self._free(disk)
            short = await self._shortfalls()
        if short:
            await self._evict_for(short[0])

    async def _shortfalls(self) -> list[Shortfall]:
        return rules.shortfalls(self._thresholds, await self._meter.levels())

    def _hold(self, short: Sequence[Shortfall]) -> None:
        before = self.pressures
        self._observed = rules.held(self._observed, short, self._clock.now(), self._hold_seconds)
        for condition in sorted(before ^ self.pressures):
            reason = _WORDS[condition][condition not in self.pressures]
            logger.warning("pods.eviction.condition status=%s", reason)
            self._events.node("Warning" if condition in self.pressures else "Normal", reason, f"Node status is now: {reason}")
        if before != self.pressures:
            for listener in self._listeners:
                listener()

    async def _free(self, short: Shortfall) -> None:
        self._events.node("Warning", "EvictionThresholdMet", f"Attempting to reclaim {rules.resource(short)}")
        for each in self._relief:
            try:
                await each()
            except (PinnaceError, OSError) as error:
                logger.warning("pods.eviction.nothing-freed reason=%s", error)

    async def _evict_for(self, short: Shortfall) -> None:
        """End the pod that ranks first; the next look says whether that was enough."""
        uses = await self._meter.uses(self._control.pods(), with_disk=short.signal in rules.DISK_SIGNALS)
        self._slow &= {each.pod.uid for each in uses}
        ranked = [each for each in rules.ranked(uses, short.signal) if each.pod.uid not in self._slow]
        if not ranked:
            told = "only critical pods and those that do not end are left"
            logger.warning("pods.eviction.nobody signal=%s available=%d: %s", short.signal, short.available, told)
            return
        await self._evict(ranked[0].pod, rules.message(short, ranked[0]))

    async def _evict_over_limits(self) -> bool:
        """Pods that use more disk than they may, whatever the node has left."""
        if self._clock.now() - self._limits_looked_at < LIMITS_SECONDS:
            return False
        self._limits_looked_at = self._clock.now()
        limited = [each for each in self._control.pods() if rules.has_disk_limits(each) and rules.is_evictable(each)]
        found = (
            [(use.pod, why) for use in await self._meter.uses(limited, with_disk=True) if (why := rules.over_limit(use))] if limited else []
        )
        for pod, why in found:
            await self._evict(pod, why)
        return bool(found)

    async def _evict(self, pod: Pod, message: str) -> None:
        logger.warning("pods.eviction.evicted pod=%s/%s reason=%s", pod.namespace, pod.name, message)
        self._events.pod(pod, "Warning", rules.EVICTED, message)
        try:
            async with asyncio.timeout(EVICTION_SECONDS):
                await self._control.evict(pod.uid, reason=rules.EVICTED, message=message, grace_seconds=0)
        except TimeoutError:
            self._slow.add(pod.uid)  # it ends when it can; if that is not enough it is the next one's turn
            logger.warning("pods.eviction.slow pod=%s/%s: its containers have not ended yet", pod.namespace, pod.name)
