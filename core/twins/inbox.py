"""What MQTT clients sent and the twins have not looked at yet, and whom to tell once it is on disk."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from pinnace.core.base.aio.backoff import Backoff
from pinnace.core.base.contract.twin import PAYLOAD_LIMIT
from pinnace.core.base.errors import StoreError

logger = logging.getLogger(__name__)

COUNT: Final = 10_000
BYTES: Final = 16 << 20
"""What may wait; beyond, the oldest goes, which is sent again where its sender wants it acknowledged."""


class Arrival(NamedTuple):
    """`payload` is None when it was too long to keep. `acknowledge` is to be called when all it led to is on disk; None for QoS 0."""

    topic: str
    payload: bytes | None
    acknowledge: Callable[[], None] | None


class Inbox:
    """First in, first out, for one reader. At either bound the oldest goes, counted in `dropped` and logged once a burst; when one with
    an acknowledgement went, `redeliver` is called as soon as all the others were taken."""

    def __init__(self, redeliver: Callable[[], None], *, count: int = COUNT, size_bound: int = BYTES) -> None:
        self._redeliver = redeliver
        self.dropped = 0
        self._count = count
        self._size_bound = size_bound
        self._items: deque[Arrival] = deque()
        self._size = 0
        self._ready = asyncio.Event()
        self._is_dropping = False
        self._is_owed = False

    def __len__(self) -> int:
        return len(self._items)

    def put(self, topic: str, payload: bytes, acknowledge: Callable[[], None] | None) -> None:
        kept = payload if len(payload) <= PAYLOAD_LIMIT else None
        self._items.append(Arrival(topic, kept, acknowledge))
        self._size += len(kept or b"")
        while len(self._items) > self._count or (self._size > self._size_bound and len(self._items) > 1):
            oldest = self.take()
            assert oldest is not None
            self.dropped += 1
            self._is_owed = self._is_owed or oldest.acknowledge is not None
            if not self._is_dropping:
                logger.warning("twins.overrun topic=%s waiting=%d: more arrives than can be taken; dropped", oldest.topic, len(self._items))
                self._is_dropping = True
        self._ready.set()

    def take(self) -> Arrival | None:
        """The oldest, None when nothing waits."""
        if not self._items:
            return None
        oldest = self._items.popleft()
        self._size -= len(oldest.payload or b"")
        return oldest

    async def wait(self) -> None:
        """Return when something waits."""
        while not self._items:
            self._is_dropping = False
            if self._is_owed:
                self._is_owed = False
                self._redeliver()
            self._ready.clear()
            await self._ready.wait()


class Receipts:
    """Acknowledgements that wait for the group commit; many go with one. While nothing can be written they wait."""

    def __init__(self, committed: Callable[[], Awaitable[None]], *, backoff: Backoff | None = None) -> None:
        self._committed = committed
        self._backoff = backoff or Backoff(0.2, 10.0)
        self._waiting: list[Callable[[], None]] = []
        self._ready = asyncio.Event()

    def add(self, acknowledge: Callable[[], None]) -> None:
        self._waiting.append(acknowledge)
        self._ready.set()

    async def run(self) -> None:
        while True:
            await self._ready.wait()
            self._ready.clear()
            waiting, self._waiting = self._waiting, []
            try:
                await self._committed()
            except StoreError:  # the store's own health fact says what is wrong
                self._waiting[:0] = waiting
                self._ready.set()
                await asyncio.sleep(self._backoff.next())
                continue
            self._backoff.reset()
            for acknowledge in waiting:
                acknowledge()
