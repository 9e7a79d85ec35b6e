"""Ends pods in order when the machine shuts down: logind waits for us while we hold its delay lock.

Kubernetes, graceful node shutdown; systemd, inhibitor locks. Unlike there a pod of restartPolicy Always does not become Failed: its
containers end, and it runs again with the machine, with or without a cloud that could make another one.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from pinnace.core.base.aio.backoff import Backoff
from pinnace.core.base.aio.clock import Clock, LoopClock
from pinnace.core.base.errors import PinnaceError
from pinnace.core.base.pod import Pod, RestartPolicy
from pinnace.core.base.settings.edged import KubeletSettings, seconds
from pinnace.core.pods.ports import Events, PodControl
from pinnace.core.pods.rules.phase import TERMINAL
from pinnace.core.pods.upkeep.dbus import SYSTEM_BUS, SYSTEMD, MessageBus, Target
from pinnace.core.pods.upkeep.dbuswire import DbusFailed

logger = logging.getLogger(__name__)

REASON: Final = "Terminated"
MESSAGE: Final = "Pod was terminated in response to imminent node shutdown."
PROBLEM: Final = "node is shutting down"
_DROP_IN: Final = Path("/etc/systemd/logind.conf.d/99-pinnace.conf")
_LOGIN: Final = Target("org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager")
_PROPERTIES: Final = Target("org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.DBus.Properties")
_SIGNAL: Final = "PrepareForShutdown"
_HANG_UP: Final = 1
_TRIES: Final = 20
_LEAST_SECONDS: Final = 1.0
"""For pods without any grace: to be killed takes a moment too."""


class NodeShutdown:
    """Off while shutdownGracePeriod is 0s. Ordinary pods have the grace period but for its last part, which is the critical ones'."""

    def __init__(
        self,
        control: PodControl,
        events: Events,
        settings: KubeletSettings,
        *,
        bus: Path = SYSTEM_BUS,
        drop_in: Path = _DROP_IN,
        clock: Clock | None = None,
    ) -> None:
        self._control = control
        self._events = events
        self._grace = seconds(settings.shutdown_grace_period)
        self._critical_grace = seconds(settings.shutdown_grace_period_critical_pods)
        self._bus = bus
        self._drop_in = drop_in
        self._clock = clock or LoopClock()
        self._is_ending = False
        self._lock = -1
        self._told = ""
        self._ending: set[asyncio.Future[None]] = set()
        self._listeners: list[Callable[[], None]] = []

    @property
    def problem(self) -> str:
        """Why no pod may start: the machine shuts down; "" otherwise."""
        return PROBLEM if self._is_ending else ""

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` when `problem` changed; plain, must not block."""
        self._listeners.append(listener)

    async def run(self) -> None:
        """For ever: hold the lock, and end the pods when the time comes. Without a bus it is tried again."""
        if self._grace <= 0:
            await asyncio.get_running_loop().create_future()
        backoff = Backoff(5.0, 300.0)
        while True:
            try:
                async with MessageBus(self._bus) as bus:
                    await self._watch(bus, backoff)
            except (OSError, PinnaceError) as error:
                if str(error) != self._told:
                    self._told = str(error)
                    logger.warning("pods.shutdown.unwatched reason=%s; pods would not be ended in order", error)
            finally:
                self._release()
            await self._clock.sleep(backoff.next())

    async def _watch(self, bus: MessageBus, backoff: Backoff) -> None:
        await self._lengthen_delay(bus)
        await bus.match(_LOGIN, _SIGNAL)
        if self._is_ending and not await self._property(bus, "PreparingForShutdown"):
            self._go_on()  # said while the bus was away
        await self._take(bus)
        backoff.reset()
        self._told = ""
        logger.info("pods.shutdown.watched grace=%g critical=%g", self._grace, self._critical_grace)
        while True:
            signal = await bus.signal()
            if signal.member != _SIGNAL or signal.path != _LOGIN.path or not signal.body:
                continue
            if signal.sender != await bus.owner(_LOGIN):
                logger.warning("pods.shutdown.not-believed sender=%s: only logind's word counts", signal.sender)
                continue
            if signal.body[0]:
                await self._end_all()
                self._release()
            else:
                self._go_on()
                await self._take(bus)

    def _go_on(self) -> None:
        self._set(is_ending=False)
        self._control.wake()
        self._events.node("Normal", "ShutdownCancelled", "the machine does not shut down after all")

    async def _take(self, bus: MessageBus) -> None:
        if self._lock < 0:
            (self._lock,) = await bus.call(_LOGIN, "Inhibit", "ssss", "shutdown", "pinnace", "Pods need time to end", "delay")

    def _release(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    async def _lengthen_delay(self, bus: MessageBus) -> None:
        """logind waits InhibitDelayMaxSec at most, 5 s by default; a drop-in says what we need."""
        if await self._delay(bus) >= self._grace:
            return
        try:
            await asyncio.to_thread(_write, self._drop_in, f"[Login]\nInhibitDelayMaxSec={self._grace:.0f}\n")
            await bus.call(SYSTEMD, "KillUnit", "ssi", "systemd-logind.service", "all", _HANG_UP)
        except (OSError, DbusFailed) as error:
            logger.warning("pods.shutdown.delay-short file=%s reason=%s", self._drop_in, error)
            return
        delay = await self._delay(bus)
        for _ in range(_TRIES):
            if delay >= self._grace:
                return
            await self._clock.sleep(0.1)
            delay = await self._delay(bus)
        told = "set InhibitDelayMaxSec in logind.conf or shorten shutdownGracePeriod"
        logger.warning("pods.shutdown.delay-short has=%g needs=%g: %s", delay, self._grace, told)

    async def _delay(self, bus: MessageBus) -> float:
        return float(await self._property(bus, "InhibitDelayMaxUSec")) / 1e6

    async def _property(self, bus: MessageBus, name: str) -> Any:
        (value,) = await bus.call(_PROPERTIES, "Get", "ss", _LOGIN.interface, name)
        return value

    async def _end_all(self) -> None:
        logger.warning("pods.shutdown.began grace=%g", self._grace)
        self._set(is_ending=True)
        self._events.node("Normal", "NodeShutdown", "Shutdown manager detected shutdown event")
        pods = [each for each in self._control.pods() if each.status.get("phase") not in TERMINAL]
        await self._end([each for each in pods if not each.is_critical], self._grace - self._critical_grace)
        await self._end([each for each in pods if each.is_critical], self._critical_grace)
        logger.warning("pods.shutdown.ended pods=%d", len(pods))

    async def _end(self, pods: Sequence[Pod], grace: float) -> None:
        """At the same time; what has not ended within the time is left to the machine."""
        if not pods:
            return
        ending = {asyncio.ensure_future(self._end_one(each, min(each.grace_seconds, grace))) for each in pods}
        timer = asyncio.ensure_future(self._clock.sleep(max(grace, _LEAST_SECONDS)))
        self._ending |= ending
        for each in ending:
            each.add_done_callback(self._ending.discard)
        all_ended = asyncio.gather(*ending)
        try:
            waits: list[asyncio.Future[Any]] = [all_ended, timer]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
        if not all_ended.done():
            logger.warning("pods.shutdown.slow pods=%d grace=%g", len(self._ending), grace)

    async def _end_one(self, pod: Pod, grace: float) -> None:
        try:
            if pod.restart_policy is RestartPolicy.ALWAYS:
                await self._control.rest(pod.uid, grace_seconds=grace)
            else:  # what runs to completion was cut short: whoever wants it done makes another one
                await self._control.evict(pod.uid, reason=REASON, message=MESSAGE, grace_seconds=grace)
        except PinnaceError as error:
            logger.warning("pods.shutdown.not-ended pod=%s/%s reason=%s", pod.namespace, pod.name, error)
        except Exception:  # the others are ended all the same
            logger.exception("pods.shutdown.broken pod=%s/%s", pod.namespace, pod.name)

    def _set(self, *, is_ending: bool) -> None:
        if self._is_ending != is_ending:
            self._is_ending = is_ending
            for listener in self._listeners:
                listener()


def _write(path: Path, text: str) -> None:
    """Blocking. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
