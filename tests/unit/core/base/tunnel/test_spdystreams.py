"""Both sides of one SPDY connection over a real pair of sockets."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from collections.abc import AsyncIterator

import pytest

from pinnace.core.base.tunnel.duplex import StreamDuplex
from pinnace.core.base.tunnel.spdystreams import SpdySession, SpdyStream


class Pair:
    """A client, a server, and what the server saw opened."""

    def __init__(self, client: StreamDuplex, server: StreamDuplex) -> None:
        self.opened: asyncio.Queue[SpdyStream] = asyncio.Queue()
        self.ends = (client, server)
        self.client, self.server = SpdySession(client), SpdySession(server, self.opened.put)

    async def streams(self, *, is_written: bool = True) -> tuple[SpdyStream, SpdyStream]:
        """The two ends of a new one."""
        return await self.client.open({"streamType": "data"}, is_written=is_written), await self.opened.get()


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    left, right = socket.socketpair()
    made = Pair(*[StreamDuplex(*await asyncio.open_connection(sock=each)) for each in (left, right)])
    running = [asyncio.create_task(each.run()) for each in (made.client, made.server)]
    async with asyncio.timeout(20):
        yield made
    for each in made.ends:
        await each.close()
    await asyncio.gather(*running)


async def whole(stream: SpdyStream) -> bytes:
    said = b""
    while data := await stream.read():
        said += data
    return said


async def test_one_direction_may_end_before_the_other(pair: Pair) -> None:
    ours, theirs = await pair.streams()
    assert theirs.headers == {"streamtype": "data"}
    await ours.write(b"asked")
    await ours.end()
    assert await whole(theirs) == b"asked"
    await theirs.write(b"answered")
    await theirs.close()
    assert await whole(ours) == b"answered"
    with pytest.raises(ConnectionError):
        await ours.write(b"more")


async def test_a_stream_we_only_read(pair: Pair) -> None:
    ours, theirs = await pair.streams(is_written=False)
    assert await whole(theirs) == b""
    await theirs.write(bytes(100_000))
    await theirs.close()
    assert len(await whole(ours)) == 100_000


async def test_who_reads_slowly_is_waited_for_and_who_closed_is_not(pair: Pair) -> None:
    (slow, to_slow), (quick, to_quick) = await pair.streams(), await pair.streams()
    filling = asyncio.create_task(to_slow.write(bytes(8 << 20)))
    await slow.read()
    assert not (await asyncio.wait({filling}, timeout=0.2))[0]
    await slow.close()
    await filling
    await to_quick.write(b"through")
    assert await quick.read() == b"through"


async def test_a_client_lets_nobody_open_streams_to_it(pair: Pair) -> None:
    stream = await pair.server.open({"streamType": "data"})
    assert await whole(stream) == b""
    assert stream.is_closed


async def test_with_the_connection_every_stream_ends(pair: Pair) -> None:
    ours, theirs = await pair.streams()
    await pair.ends[1].close()
    assert await whole(ours) == b""
    with contextlib.suppress(ConnectionError):
        await theirs.write(b"to nobody")
    late = await pair.client.open({"streamType": "data"})
    assert await whole(late) == b""


class Halting(StreamDuplex):
    """Sends half of what is written, and the rest when it is released."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__(reader, writer)
        self.released = asyncio.Event()
        self.released.set()
        self.has_halted = asyncio.Event()

    async def write(self, data: bytes) -> None:
        await super().write(data[: len(data) // 2])
        self.has_halted.set()
        await self.released.wait()
        await super().write(data[len(data) // 2 :])


@contextlib.asynccontextmanager
async def halting() -> AsyncIterator[tuple[Halting, Pair]]:
    left, right = socket.socketpair()
    near = Halting(*await asyncio.open_connection(sock=left))
    pair = Pair(near, StreamDuplex(*await asyncio.open_connection(sock=right)))
    running = [asyncio.create_task(each.run()) for each in (pair.client, pair.server)]
    async with asyncio.timeout(20):
        yield near, pair
    for each in pair.ends:
        await each.close()
    await asyncio.gather(*running)


async def give_up_writing(near: Halting, stream: SpdyStream) -> None:
    near.released.clear()
    near.has_halted.clear()
    writing = asyncio.create_task(stream.write(b"x" * 1000))
    await near.has_halted.wait()
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)


async def test_a_writer_who_is_cancelled_cuts_no_frame() -> None:
    async with halting() as (near, pair):
        given_up, _ = await pair.streams()
        other, far = await pair.streams()
        await give_up_writing(near, given_up)
        near.released.set()
        await other.write(b"still")
        assert await far.read() == b"still"


async def test_the_fault_of_a_write_that_was_given_up_troubles_nobody() -> None:
    faults: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(str(context.get("exception"))))
    async with halting() as (near, pair):
        given_up, _ = await pair.streams()
        await give_up_writing(near, given_up)
        await near.close()
        near.released.set()
    gc.collect()
    assert faults == []
