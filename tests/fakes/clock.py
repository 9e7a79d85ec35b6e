"""A clock that moves only when told."""

from __future__ import annotations

import asyncio
import heapq
import itertools


class FakeClock:
    """Implements aio.clock.Clock. `advance` wakes sleepers in order and lets the loop settle after each."""

    def __init__(self, *, now: float = 1_000.0, wall: float = 1_800_000_000.0) -> None:
        self._now = now
        self._offset = wall - now
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def now(self) -> float:
        return self._now

    def wall(self) -> float:
        return self._now + self._offset

    def set_wall(self, wall: float) -> None:
        """As when somebody, or time synchronisation, sets the machine's clock."""
        self._offset = wall - self._now

    async def sleep(self, seconds: float) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + max(seconds, 0.0), next(self._order), waiter))
        await waiter

    async def advance(self, seconds: float) -> None:
        end = self._now + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            at, _, waiter = heapq.heappop(self._sleepers)
            self._now = max(self._now, at)
            if not waiter.done():
                waiter.set_result(None)
                await settle()
        self._now = end
        await settle()


async def settle(rounds: int = 20) -> None:
    """Let everything that is ready run."""
    for _ in range(rounds):
        await asyncio.sleep(0)
