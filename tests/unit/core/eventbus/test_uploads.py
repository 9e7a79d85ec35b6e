"""Uploads between a broker and the outbox."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from fakes.clock import settle

from pinnace.core.base.aio.backoff import Backoff
from pinnace.core.base.contract.classes import MessageClass
from pinnace.core.base.errors import StoreError, StoreFull
from pinnace.core.eventbus import uploads as module
from pinnace.core.eventbus.uploads import MAX_PAYLOAD, REFUSED_BOUND, Uploads, compose


class FakeOutbox:
    def __init__(self) -> None:
        self.rows: list[tuple[str, bytes]] = []
        self.full = False
        self.disk = asyncio.Event()
        self.disk.set()
        self.commits = 0
        self.fault: Exception | None = None
        self.redelivered = 0

    def redeliver(self) -> None:
        self.redelivered += 1

    def put(self, kind: MessageClass, subject: str, item: str, body: bytes) -> None:
        if self.full:
            raise StoreFull("no space left")
        self.rows.append((item, body))

    def discard(self, kind: MessageClass, subject: str) -> None: ...

    def compose_with(self, kind: MessageClass, composer: Any) -> None: ...

    def on_confirmed(self, kind: MessageClass, listener: Any) -> None: ...

    async def committed(self) -> None:
        self.commits += 1
        await self.disk.wait()
        if self.fault is not None:
            raise self.fault


@pytest.fixture
def outbox() -> FakeOutbox:
    return FakeOutbox()


@pytest.fixture
def uploads(outbox: FakeOutbox) -> Uploads:
    return Uploads(outbox, committed=outbox.committed, redeliver=outbox.redeliver, backoff=Backoff(0.001, 0.002))


@contextlib.asynccontextmanager
async def running(uploads: Uploads) -> AsyncIterator[None]:
    task = asyncio.create_task(uploads.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until_acknowledged(acknowledged: list[str], count: int) -> None:
    async with asyncio.timeout(10):
        while len(acknowledged) < count:
            await asyncio.sleep(0)


def test_the_envelope_is_upstreams() -> None:
    envelope = compose("id-1", {"default/t1": b"payload one"})
    assert (envelope.msg_id, envelope.source, envelope.group, envelope.operation) == ("id-1", "bus", "user", "upload")
    assert (envelope.resource, envelope.body, envelope.parent_id, envelope.sync) == ("default/t1", b'"payload one"', "", False)


@pytest.mark.parametrize(("payload", "text"), [(b"", ""), (b'{"a":1}', '{"a":1}'), (b"\xff\xfe", "\ufffd\ufffd"), ("ü\0".encode(), "ü\0")])
def test_the_content_is_a_string(payload: bytes, text: str) -> None:
    assert orjson.loads(compose("id", {"t": payload}).body) == text


async def test_acknowledges_one_commit_for_all_that_came_meanwhile(outbox: FakeOutbox, uploads: Uploads) -> None:
    done: list[str] = []
    outbox.disk.clear()
    async with running(uploads):
        for name in "abc":
            uploads.put(name, b"", lambda name=name: done.append(name))  # type: ignore[misc]
        await settle()
        uploads.put("d", b"", lambda: done.append("d"))
        uploads.put("e", b"", None)
        await settle()
        assert (done, outbox.commits) == ([], 1)
        outbox.disk.set()
        await until_acknowledged(done, 4)
    assert done == ["a", "b", "c", "d"]
    assert outbox.commits == 2
    assert [topic for topic, _ in outbox.rows] == ["a", "b", "c", "d", "e"]


async def test_acknowledges_at_once_without_committed(outbox: FakeOutbox) -> None:
    uploads = Uploads(outbox, committed=None, redeliver=outbox.redeliver)
    done: list[str] = []
    uploads.put("a", b"", lambda: done.append("a"))
    assert done == ["a"]


async def test_a_failed_commit_is_tried_again(outbox: FakeOutbox, uploads: Uploads) -> None:
    done: list[str] = []
    outbox.fault = StoreError("the disk is gone")
    async with running(uploads):
        uploads.put("a", b"", lambda: done.append("a"))
        async with asyncio.timeout(10):
            while outbox.commits < 3:
                await asyncio.sleep(0)
        assert done == []
        outbox.fault = None
        await until_acknowledged(done, 1)


async def test_a_restarted_run_acknowledges_what_the_last_one_could_not(outbox: FakeOutbox, uploads: Uploads) -> None:
    done: list[str] = []
    outbox.disk.clear()
    async with running(uploads):
        uploads.put("a", b"", lambda: done.append("a"))
        await settle()
    outbox.disk.set()
    async with running(uploads):
        uploads.put("b", b"", lambda: done.append("b"))
        await until_acknowledged(done, 2)
    assert done == ["a", "b"]


async def test_what_is_refused_waits_in_order(outbox: FakeOutbox, uploads: Uploads, caplog: pytest.LogCaptureFixture) -> None:
    done: list[str] = []
    outbox.full = True
    async with running(uploads):
        uploads.put("a", b"1", lambda: done.append("a"))
        uploads.put("b", b"2", None)
        outbox.full = False
        uploads.put("c", b"3", lambda: done.append("c"))  # must not overtake
        await until_acknowledged(done, 2)
    assert outbox.rows == [("a", b"1"), ("b", b"2"), ("c", b"3")]
    assert done == ["a", "c"]
    assert caplog.text.count("eventbus.upload-refused") == 1


@pytest.mark.parametrize("size", [0, module.REFUSED_BYTES_BOUND // 10])
async def test_what_waits_is_bounded(outbox: FakeOutbox, uploads: Uploads, caplog: pytest.LogCaptureFixture, size: int) -> None:
    done: list[str] = []
    outbox.full = True
    payload = b"x" * size
    for number in range(REFUSED_BOUND + 10):
        uploads.put(str(number), payload, lambda number=number: done.append(str(number)))  # type: ignore[misc]
    kept = len(uploads._refused)
    assert kept == (REFUSED_BOUND if not size else 11)
    outbox.full = False
    async with running(uploads):
        await until_acknowledged(done, kept)
        uploads.put("later", b"", None)
    assert [topic for topic, _ in outbox.rows] == [*map(str, range(kept)), "later"]
    assert done == [str(number) for number in range(kept)]
    assert outbox.redelivered == 1  # the broker still has the others
    assert f"eventbus.uploads-resumed skipped={REFUSED_BOUND + 10 - kept}" in caplog.text


async def test_what_is_too_large_is_acknowledged_and_gone(outbox: FakeOutbox, uploads: Uploads) -> None:
    done: list[str] = []
    uploads.put("a", b"x" * (MAX_PAYLOAD + 1), lambda: done.append("a"))
    uploads.put("a", b"x" * (MAX_PAYLOAD + 1), None)
    assert done == ["a"]
    assert outbox.rows == []
