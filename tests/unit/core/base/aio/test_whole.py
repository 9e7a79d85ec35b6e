"""Work that is seen through."""

from __future__ import annotations

import asyncio
import threading

import pytest

from pinnace.core.base.aio.whole import whole


async def test_what_it_gives_and_raises() -> None:
    assert await whole(asyncio.to_thread(int, "7")) == 7
    with pytest.raises(ValueError, match="invalid literal"):
        await whole(asyncio.to_thread(int, "x"))


async def test_who_cancels_waits_for_its_end() -> None:
    begun, go_on, done = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        assert go_on.wait(30)
        done.set()

    task = asyncio.create_task(whole(asyncio.to_thread(work)))
    await asyncio.to_thread(begun.wait, 30)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done.is_set()


async def test_it_is_waited_for_no_longer_than_said() -> None:
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    task = asyncio.create_task(whole(work(), seconds=0.05))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
