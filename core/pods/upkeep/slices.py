"""Has systemd make, limit and stop the slices of pods: what it was not told of it takes away from a cgroup (systemd, D-Bus interface)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from pinnace.core.pods.rules.slices import Property
from pinnace.core.pods.upkeep.dbus import SYSTEM_BUS, MessageBus, Target
from pinnace.core.pods.upkeep.dbuswire import DbusFailed

JOB_SECONDS: Final = 30.0
_SYSTEMD: Final = Target("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
_BUS: Final = Target("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
_ENDED: Final = "JobRemoved"
_RULE: Final = f"type='signal',sender='{_SYSTEMD.destination}',interface='{_SYSTEMD.interface}',member='{_ENDED}',path='{_SYSTEMD.path}'"
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
                (job,) = await bus.call(_SYSTEMD, "StopUnit", "ss", name, "replace")
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
                await bus.match(_RULE)
                await bus.call(_SYSTEMD, "Subscribe")
                (systemd,) = await bus.call(_BUS, "GetNameOwner", "s", _SYSTEMD.destination)
                yield bus, systemd
        except OSError as error:  # a TimeoutError is one
            raise DbusFailed(f"the message bus at {self._bus} cannot be reached: {error.strerror or 'no answer'}") from error


async def _begin(bus: MessageBus, name: str, properties: Sequence[Property]) -> str:
    """The job that starts the slice, which systemd may know already: from a former agent, or because a container's scope asked for it."""
    try:
        (job,) = await bus.call(_SYSTEMD, "StartTransientUnit", "ssa(sv)a(sa(sv))", name, "replace", [*_NEW, *properties], [])
    except DbusFailed as error:
        if error.name != _EXISTS:
            raise
        await bus.call(_SYSTEMD, "SetUnitProperties", "sba(sv)", name, True, properties)
        (job,) = await bus.call(_SYSTEMD, "StartUnit", "ss", name, "replace")
    return str(job)


async def _job(bus: MessageBus, systemd: str, name: str, job: str) -> None:
    """Wait for its end, which only systemd can tell: anybody on the bus may send us a signal directly."""
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
