"""Bounded queues whose class name says what happens at the bound. For one event loop; `put` never waits unless the name says so."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from typing import Generic, TypeVar

K = TypeVar("K")
T = TypeVar("T")


class BlockingMailbox(Generic[T]):
    """First in, first out; `put` waits while it is full."""

    def __init__(self, bound: int) -> None:
        self._queue: asyncio.Queue[T] = asyncio.Queue(bound)

    async def put(self, item: T) -> None:
        await self._queue.put(item)

    async def get(self) -> T:
        return await self._queue.get()

    def __len__(self) -> int:
        return self._queue.qsize()


class DropOldest(Generic[T]):
    """First in, first out; at the bound the oldest item goes and `dropped` counts it."""

    def __init__(self, bound: int) -> None:
        self._items: deque[T] = deque()
        self._bound = bound
        self._ready = asyncio.Event()
        self.dropped = 0

    def put(self, item: T) -> None:
        if len(self._items) >= self._bound:
            self._items.popleft()
            self.dropped += 1
        self._items.append(item)
        self._ready.set()

    async def get(self) -> T:
        while not self._items:
            self._ready.clear()
            await self._ready.wait()
        return self._items.popleft()

    def __len__(self) -> int:
        return len(self._items)


class LatestByKey(Generic[K, T]):
    """One item a key, the newest, served in the order in which the keys first became due. At the bound `put` raises OverflowError."""

    def __init__(self, bound: int) -> None:
        self._items: OrderedDict[K, T] = OrderedDict()
        self._bound = bound
        self._ready = asyncio.Event()

    def put(self, key: K, item: T) -> None:
        if key not in self._items and len(self._items) >= self._bound:
            raise OverflowError(f"{self._bound} keys are waiting")
        self._items[key] = item
        self._ready.set()

    async def get(self) -> tuple[K, T]:
        while not self._items:
            self._ready.clear()
            await self._ready.wait()
        return self._items.popitem(last=False)

    def discard(self, key: K) -> None:
        self._items.pop(key, None)

    def __len__(self) -> int:
        return len(self._items)
