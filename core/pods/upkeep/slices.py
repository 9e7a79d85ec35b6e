"""Has systemd make, limit and stop the slices of pods: what it was not told of it takes away from a cgroup (systemd, D-Bus interface)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from pinnace.core.pods.rules.slices import Property
from pinnace.core.pods.upkeep.dbus import SYSTEM_BUS, SYSTEMD, MessageBus
from pinnace.core.pods.upkeep.dbuswire import DbusFailed

JOB_SECONDS: Final = 30.0
_ENDED: Final = "JobRemoved"
_EXISTS: Final = "org.freedesktop.systemd1.UnitExists"
_UNKNOWN: Final = "org.freedesktop.systemd1.NoSuchUnit"
_NEW: Final[Sequence[Property | tuple[str, tuple[str, str]]]] = (
    ("Description", ("s", "Pods of Pinnace")),
    ("DefaultDependencies", ("b", False)),
)
"""Without default dependencies a shutdown of the machine stops no pod before the agent could end it in order."""


class Slices:
    """Each question has a connection of its own, which a restart of the bus cannot spoil."""

    def __init__(self, bus: Path = SYSTEM_BUS) -> None:
        self._bus = bus

    async def hold(self, wanted: Mapping[str, Sequence[Property]]) -> None:
        """Have slices by name, those above first, with these properties; a slice that is there already is given them. Raises DbusFailed."""
        async with self._connection() as (bus, systemd):
            for name, properties in wanted.items():
                await _job(bus, systemd, name, await _begin(bus, name, properties))

    async def stop(self, name: str) -> None:
        """End a slice with what is in it; nothing happens when there is none. Raises DbusFailed."""
        async with self._connection() as (bus, systemd):
            try:
                (job,) = await bus.call(SYSTEMD, "StopUnit", "ss", name, "replace")
            except DbusFailed as error:
                if error.name != _UNKNOWN:
                    raise
                return
            await _job(bus, systemd, name, job)

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[tuple[MessageBus, str]]:
        """One that is told of systemd's jobs, and systemd's name on the bus."""
        try:
            async with MessageBus(self._bus) as bus:
                await bus.match(SYSTEMD, _ENDED)
                await bus.call(SYSTEMD, "Subscribe")
                yield bus, await bus.owner(SYSTEMD)
        except OSError as error:  # a TimeoutError is one
            raise DbusFailed(f"the message bus at {self._bus} cannot be reached: {error.strerror or 'no answer'}") from error


async def _begin(bus: MessageBus, name: str, properties: Sequence[Property]) -> str:
    """The job that starts the slice, which systemd may know already: from a former agent, or because a container's scope asked for it."""
    try:
        (job,) = await bus.call(SYSTEMD, "StartTransientUnit", "ssa(sv)a(sa(sv))", name, "replace", [*_NEW, *properties], [])
    except DbusFailed as error:
        if error.name != _EXISTS:
            raise
        await bus.call(SYSTEMD, "SetUnitProperties", "sba(sv)", name, True, properties)
        (job,) = await bus.call(SYSTEMD, "StartUnit", "ss", name, "replace")
    return str(job)


async def _job(bus: MessageBus, systemd: str, name: str, job: str) -> None:
    """Wait for its end, which only systemd can tell."""
    try:
        async with asyncio.timeout(JOB_SECONDS):
            while True:
                signal = await bus.signal()
                if signal.sender == systemd and signal.member == _ENDED and signal.body[1] == job:
                    break
    except TimeoutError as error:
        raise DbusFailed(f"{name}: systemd was not done with it within {JOB_SECONDS:g} s") from error
    if signal.body[3] != "done":
        raise DbusFailed(f"{name}: systemd's job came to nothing: {signal.body[3]}; see systemctl status {name}")
