"""What was seen where and when of each lamp: the only thing the screen and the script of `pinnace up` know."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum

from pinnace.core.base.errors import PinnaceError

BOUND = 4096
"""Sightings kept; the oldest go."""


class Place(Enum):
    """The public interfaces a value passes, in its order."""

    WANTED = "desired in the API"
    DELTA = "delta on MQTT"
    PIN = "pin"
    REPORT = "report on MQTT"
    SHOWN = "reported in the API"


@dataclass(frozen=True, slots=True)
class Sighting:
    """`at` is in Unix seconds; `version` is the Device's resource version (WANTED) or the twin's edge version (SHOWN)."""

    place: Place
    lamp: str
    value: str
    at: float
    version: str = ""


class NotSeen(PinnaceError):
    """Something that should have happened was not seen in time."""


class Journal:
    """Notes sightings; somebody may wait for one. A place that goes on showing the same value is noted once."""

    def __init__(self) -> None:
        self._latest: dict[tuple[Place, str], Sighting] = {}
        self._all: deque[Sighting] = deque(maxlen=BOUND)
        self._changed = asyncio.Condition()
        self.version = 0
        """Counts changes."""

    async def note(self, sighting: Sighting) -> None:
        key = (sighting.place, sighting.lamp)
        last = self._latest.get(key)
        if last is not None and last.value == sighting.value:
            return
        async with self._changed:
            self._latest[key] = sighting
            self._all.append(sighting)
            self.version += 1
            self._changed.notify_all()

    async def forget(self, place: Place, *, but: Collection[str] = ()) -> None:
        """A place shows no lamps any more except these."""
        gone = [key for key in self._latest if key[0] is place and key[1] not in but]
        if not gone:
            return
        async with self._changed:
            for key in gone:
                del self._latest[key]
            self.version += 1
            self._changed.notify_all()

    def latest(self, place: Place, lamp: str) -> Sighting | None:
        return self._latest.get((place, lamp))

    def since(self, at: float, lamp: str) -> list[Sighting]:
        """What was seen of a lamp from `at` on."""
        return [each for each in self._all if each.at >= at and each.lamp == lamp]

    async def until(self, condition: Callable[[], bool], what: str, seconds: float) -> None:
        """Wait for a condition on the journal. Raises NotSeen that says `what`."""
        try:
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(condition)
        except TimeoutError:
            raise NotSeen(f"not seen within {seconds:g} s: {what}") from None

    async def changed(self, version: int) -> None:
        """Wait for a version other than this one."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.version != version)

    async def sees(self, place: Place, lamp: str, value: str, *, seconds: float) -> Sighting:
        """Wait until a place shows a value of a lamp; returns the sighting."""

        def shows() -> bool:
            last = self.latest(place, lamp)
            return last is not None and last.value == value

        await self.until(shows, f"{lamp} {value}: {place.value}", seconds)
        return self._latest[(place, lamp)]

    def trace(self, lamp: str) -> list[Sighting]:
        """How the value wanted now went through the places, as far as it has come; of what was seen before it was wanted, nothing."""
        wanted = self.latest(Place.WANTED, lamp)
        if wanted is None:
            return []
        seen = [self.latest(place, lamp) for place in Place]
        return [each for each in seen if each is not None and each.value == wanted.value and each.at >= wanted.at - _SKEW]


_SKEW = 0.5
"""Seconds by which one watcher may lag behind another."""


def hops(trace: list[Sighting]) -> list[tuple[str, float]]:
    """The times between one place and the next, in milliseconds; together the time from the first to the last. A watcher that was late
    takes its time from the next hop, which then is 0."""
    found: list[tuple[str, float]] = []
    reached = trace[0].at if trace else 0.0
    for each in trace[1:]:
        found.append((each.place.value, max(0.0, (each.at - reached) * 1000)))
        reached = max(reached, each.at)
    return found
