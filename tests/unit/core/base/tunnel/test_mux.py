"""Two ends of a tunnel joined in memory: order, credit, ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from websockets.exceptions import ConnectionClosedOK

from pinnace.core.base.tunnel import frames, mux
from pinnace.core.base.tunnel.frames import Opening
from pinnace.core.base.tunnel.mux import CHANNELS, WINDOW, Channel, Tunnel

OPENING = Opening("GET", "/x", "", ())


class Socket:
    """One direction each is a queue; `sent` counts data bytes."""

    def __init__(self, out: asyncio.Queue[bytes | None], into: asyncio.Queue[bytes | None]) -> None:
        self._out, self._into = out, into
        self.sent = 0
        self.kinds: set[int] = set()

    async def send(self, message: bytes, text: bool | None = None) -> None:
        assert text is True  # the opcode that KubeEdge wants
        frame = frames.decode(message)
        self.kinds.add(frame.kind)
        self.sent += len(frame.data) if frame.kind == frames.DATA else 0
        await self._out.put(message)
        await asyncio.sleep(0)  # as a real one: others have their turn

    async def recv(self, decode: bool | None = None) -> bytes:
        message = await self._into.get()
        if message is None:
            raise ConnectionClosedOK(None, None)
        return message


class Ends:
    """A cloud, an edge, and the channels that the edge was given."""

    def __init__(self, *, is_paced: bool) -> None:
        self.down: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.up: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.accepted: asyncio.Queue[Channel] = asyncio.Queue()
        self.edge_socket = Socket(self.up, self.down)
        self.cloud_socket = Socket(self.down, self.up)
        self.cloud = Tunnel(self.cloud_socket, is_paced=is_paced)
        self.edge = Tunnel(self.edge_socket, is_paced=is_paced, accept=self._accept)
        self.release = asyncio.Event()

    async def _accept(self, channel: Channel, kind: int, opening: Opening) -> None:
        await self.accepted.put(channel)
        await self.release.wait()

    async def pair(self, number: int) -> tuple[Channel, Channel]:
        mine = await self.cloud.open(number, frames.EXEC, OPENING)
        return mine, await self.accepted.get()


@contextlib.asynccontextmanager
async def ends(*, is_paced: bool = True) -> AsyncIterator[Ends]:
    made = Ends(is_paced=is_paced)
    tasks = [asyncio.create_task(each.run()) for each in (made.cloud, made.edge)]
    try:
        async with asyncio.timeout(20):
            yield made
    finally:
        made.release.set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


@pytest.mark.parametrize("is_paced", [True, False])
async def test_bytes_keep_their_order_and_ends_are_told(*, is_paced: bool) -> None:
    async with ends(is_paced=is_paced) as both:
        mine, theirs = await both.pair(5)
        data = bytes(range(256)) * 4096

        async def write() -> None:
            await theirs.write(data)
            await theirs.close()

        writing = asyncio.create_task(write())
        received = b""
        while part := await mine.read():
            received += part
        await writing
        assert received == data
        with pytest.raises(ConnectionResetError):
            await mine.write(b"x")
        await mine.close()
        await settle()
        assert len(both.cloud) == len(both.edge) == 0


async def test_a_writer_waits_for_its_own_reader_only() -> None:
    async with ends() as both:
        slow, slow_far = await both.pair(1)
        quick, quick_far = await both.pair(2)
        writing = asyncio.create_task(slow_far.write(bytes(4 * WINDOW)))
        await settle()
        assert both.edge_socket.sent == WINDOW
        await quick_far.write(b"quick")
        assert await quick.read() == b"quick"
        size = 0
        while size < 4 * WINDOW:
            size += len(await slow.read())
        await writing


async def test_what_several_write_at_once_stays_whole() -> None:
    async with ends() as both:
        mine, theirs = await both.pair(1)
        writing = asyncio.gather(*[theirs.write(letter * 2 * WINDOW) for letter in (b"a", b"b")])
        received = b""
        while len(received) < 4 * WINDOW:
            received += await mine.read()
        await writing
        assert received == b"a" * 2 * WINDOW + b"b" * 2 * WINDOW


async def test_a_peer_of_kubeedge_gets_no_kinds_it_does_not_know() -> None:
    async with ends(is_paced=False) as both:
        mine, theirs = await both.pair(1)
        writing = asyncio.create_task(theirs.write(bytes(2 * WINDOW)))
        size = 0
        while size < 2 * WINDOW:
            size += len(await mine.read())
        await writing
        assert max(both.cloud_socket.kinds | both.edge_socket.kinds) <= frames.ATTACH


async def test_a_reader_that_never_reads_is_cut_off_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mux, "PATIENCE", 0.01)
    async with ends(is_paced=False) as both:
        slow, slow_far = await both.pair(1)
        quick, quick_far = await both.pair(2)
        with pytest.raises(ConnectionResetError):  # noqa: PT012 - which write it is depends on the buffers
            while True:
                await slow_far.write(bytes(64 << 10))
                await asyncio.sleep(0)
        await quick_far.write(b"quick")
        assert await quick.read() == b"quick"
        assert slow.is_closed


async def test_more_than_the_credit_ends_the_channel() -> None:
    async with ends() as both:
        mine, _ = await both.pair(1)
        await both.up.put(frames.encode(1, frames.DATA, bytes(WINDOW)))
        await both.up.put(frames.encode(1, frames.DATA, b"x"))
        await settle()
        assert mine.is_closed


async def test_a_lost_connection_ends_every_channel() -> None:
    async with ends() as both:
        mine, theirs = await both.pair(1)
        await both.up.put(None)
        await both.down.put(None)
        assert await mine.read() == b""
        assert await theirs.read() == b""
        await settle()
        with pytest.raises(ConnectionResetError):
            await both.cloud.open(2, frames.EXEC, OPENING)


async def test_too_many_channels_are_refused() -> None:
    async with ends() as both:
        for number in range(CHANNELS):
            await both.cloud.open(number, frames.EXEC, OPENING)
        with pytest.raises(ConnectionRefusedError):
            await both.cloud.open(CHANNELS, frames.EXEC, OPENING)
        await settle()
        await both.down.put(frames.encode_opening(CHANNELS + 1, frames.EXEC, OPENING))
        await both.down.put(frames.encode(9, 9, b"unknown"))
        await both.down.put(b"\xff")
        await settle()
        assert len(both.edge) == CHANNELS


async def test_who_makes_us_answer_and_reads_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mux, "OUTBOX", 8)

    class Deaf(Socket):
        async def send(self, message: bytes, text: bool | None = None) -> None:
            await asyncio.Event().wait()

    down: asyncio.Queue[bytes | None] = asyncio.Queue()
    up: asyncio.Queue[bytes | None] = asyncio.Queue()
    for number in range(64):
        up.put_nowait(frames.encode_opening(number, frames.EXEC, OPENING))
    async with asyncio.timeout(20):
        assert "reads nothing" in await Tunnel(Deaf(down, up), is_paced=True).run()
    assert up.qsize() > 40
