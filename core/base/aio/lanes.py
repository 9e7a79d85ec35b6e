"""Bounded lines of work: in order within a lane, lanes beside each other."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

T = TypeVar("T")

COUNT: Final = 1_000
BYTES: Final = 32 << 20


class Lane(Generic[T]):
    """Items for one worker, first in, first out; `put` waits while `count` or `size_bound` bytes are reached."""

    def __init__(self, work: Callable[[T], Awaitable[None]], *, count: int = COUNT, size_bound: int = BYTES) -> None:
        self._work = work
        self._count = count
        self._size_bound = size_bound
        self._items: deque[tuple[T, int]] = deque()
        self._size = 0
        self._ready = asyncio.Event()
        self._room = asyncio.Event()

    def __len__(self) -> int:
        return len(self._items)

    @property
    def is_full(self) -> bool:
        return len(self._items) >= self._count or self._size >= self._size_bound

    async def put(self, item: T, size: int = 0) -> None:
        while self.is_full:
            self._room.clear()
            await self._room.wait()
        self._items.append((item, size))
        self._size += size
        self._ready.set()

    async def idle(self) -> None:
        """Return when nothing is left to do."""
        while self._items:
            self._room.clear()
            await self._room.wait()

    async def run(self) -> None:
        """Work for ever; `work` deals with its own errors."""
        while True:
            while not self._items:
                self._ready.clear()
                await self._ready.wait()
            item, size = self._items[0]
            await self._work(item)
            self._items.popleft()
            self._size -= size
            self._room.set()
