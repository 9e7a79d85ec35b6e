"""Bounded lines of work."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from fakes.clock import settle

from pinnace.core.base.aio.lanes import Lane


class Worker:
    """Works when told."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.go = asyncio.Event()

    async def work(self, item: str) -> None:
        await self.go.wait()
        self.done.append(item)


@contextlib.asynccontextmanager
async def running(lane: Lane[str]) -> AsyncIterator[None]:
    task = asyncio.create_task(lane.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_in_order_and_put_waits_at_the_count() -> None:
    worker = Worker()
    lane = Lane(worker.work, count=2)
    async with running(lane):
        await lane.put("a")
        await lane.put("b")
        assert lane.is_full
        third = asyncio.create_task(lane.put("c"))
        await settle()
        assert not third.done()
        worker.go.set()
        await third
        await lane.idle()
    assert worker.done == ["a", "b", "c"]


async def test_put_waits_at_the_bytes_but_takes_one_of_any_size() -> None:
    worker = Worker()
    lane = Lane(worker.work, size_bound=10)
    async with running(lane):
        await lane.put("a", 1_000)
        second = asyncio.create_task(lane.put("b", 1))
        await settle()
        assert not second.done()
        worker.go.set()
        await second
        await lane.idle()
    assert worker.done == ["a", "b"]


async def test_idle_waits_for_the_work_itself() -> None:
    worker = Worker()
    lane = Lane(worker.work)
    async with running(lane):
        await lane.put("a")
        idle = asyncio.create_task(lane.idle())
        await settle()
        assert not idle.done()
        worker.go.set()
        await idle


async def test_what_was_begun_is_done_again_after_a_restart() -> None:
    worker = Worker()
    lane = Lane(worker.work)
    async with running(lane):
        await lane.put("a")
        await settle()
    worker.go.set()
    async with running(lane):
        await lane.idle()
    assert worker.done == ["a"]
