"""Each mailbox keeps the promise of its name."""

from __future__ import annotations

import asyncio

import pytest

from pinnace.core.base.aio.mailbox import BlockingMailbox, DropOldest, LatestByKey


async def test_blocking_mailbox_makes_the_sender_wait() -> None:
    box: BlockingMailbox[int] = BlockingMailbox(1)
    await box.put(1)
    second = asyncio.ensure_future(box.put(2))
    await asyncio.sleep(0)
    assert not second.done()
    assert await box.get() == 1
    await second
    assert await box.get() == 2


async def test_drop_oldest_counts_what_went() -> None:
    box: DropOldest[int] = DropOldest(2)
    for item in (1, 2, 3):
        box.put(item)
    assert (box.dropped, await box.get(), await box.get(), len(box)) == (1, 2, 3, 0)


async def test_latest_by_key_keeps_the_newest_in_the_order_of_first_arrival() -> None:
    box: LatestByKey[str, int] = LatestByKey(2)
    box.put("a", 1)
    box.put("b", 2)
    box.put("a", 3)
    with pytest.raises(OverflowError):
        box.put("c", 4)
    assert [await box.get(), await box.get()] == [("a", 3), ("b", 2)]


async def test_a_waiting_reader_wakes() -> None:
    latest: LatestByKey[str, int] = LatestByKey(2)
    oldest: DropOldest[int] = DropOldest(2)
    readers = asyncio.gather(latest.get(), oldest.get())
    await asyncio.sleep(0)
    latest.put("a", 1)
    oldest.put(2)
    first, second = await readers
    assert (first, second) == (("a", 1), 2)
