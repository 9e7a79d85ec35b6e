"""One timer for all pods, so that a pod that only waits costs an entry in a table."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from pinnace.core.base.aio.clock import Clock


class Alarms:
    """At most one alarm a key, in the clock's monotonic seconds; setting it again moves it."""

    def __init__(self, clock: Clock, ring: Callable[[str], None]) -> None:
        self._clock = clock
        self._ring = ring
        self._times: dict[str, float] = {}
        self._sooner = asyncio.Event()
        self._next = float("inf")

    def set(self, key: str, at: float) -> None:
        """Ring for `key` at that moment; infinite: not at all."""
        if at == float("inf"):
            self._times.pop(key, None)
            return
        self._times[key] = at
        if at < self._next:
            self._sooner.set()

    def clear(self, key: str) -> None:
        self._times.pop(key, None)

    async def run(self) -> None:
        """For ever."""
        while True:
            self._sooner.clear()
            now = self._clock.now()
            for key in [key for key, at in self._times.items() if at <= now]:
                del self._times[key]
                self._ring(key)
            self._next = min(self._times.values(), default=float("inf"))
            await self._wait(self._next - self._clock.now())

    async def _wait(self, longest: float) -> None:
        sooner = asyncio.ensure_future(self._sooner.wait())
        waits: list[asyncio.Future[Any]] = [sooner]
        if longest != float("inf"):
            waits.append(asyncio.ensure_future(self._clock.sleep(longest)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
