"""The streams of one SPDY connection on a duplex, and sessions of commands over them (`v4.channel.k8s.io`)."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final

import orjson

from pinnace.core.base.tunnel.duplex import CHUNK, Duplex
from pinnace.core.stream.http import Exchange, Refusal
from pinnace.core.stream.remote import STDERR, STDOUT, Event, InputEnded, Typed, Wanted
from pinnace.core.stream.spdy import CANCEL, REFUSED_STREAM, Leaving, Opened, Received, Reset, Spdy, SpdyError
from pinnace.core.stream.websocket import resized

PROTOCOL: Final = "SPDY/3.1"
VERSION_HEADER: Final = "X-Stream-Protocol-Version"
STREAMS: Final = 256
"""Open streams of one connection over which further ones are refused."""
_WAITING_BYTES: Final = 256 << 10
"""Bytes a stream may have unread; then the whole connection waits for its reader."""
_STREAMS_SECONDS: Final = 30.0


class SpdyStream:
    """One stream; a `Duplex`. `close` ends our direction."""

    def __init__(self, session: SpdySession, number: int, headers: Mapping[str, str]) -> None:
        self.number = number
        self.headers = headers
        self._session = session
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._changed = asyncio.Event()
        self.has_ended = False
        self.is_closed = False

    async def read(self) -> bytes:
        while not self._waiting:
            if self.has_ended:
                return b""
            await self._change()
        data = self._waiting.popleft()
        self._size -= len(data)
        self._changed.set()
        return data

    async def write(self, data: bytes) -> None:
        for at in range(0, len(data), CHUNK):
            if self.is_closed:
                raise ConnectionResetError("the stream is closed")
            await self._session.send(self.number, data[at : at + CHUNK])

    async def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            with contextlib.suppress(ConnectionError):
                await self._session.send(self.number, b"", is_last=True)
        self._session.settle(self)

    async def feed(self, data: bytes) -> None:
        while self._size > _WAITING_BYTES and not self.is_closed:
            await self._change()
        if data and not self.is_closed:
            self._waiting.append(data)
            self._size += len(data)
            self._changed.set()

    def ended(self, *, was_reset: bool = False) -> None:
        self.has_ended = True
        self.is_closed = self.is_closed or was_reset
        self._changed.set()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()


class SpdySession:
    """`run` reads until the connection ends; `opened` is called with each new stream, which is accepted already."""

    def __init__(self, duplex: Duplex, opened: Callable[[SpdyStream], Awaitable[None]]) -> None:
        self._duplex = duplex
        self._opened = opened
        self._spdy = Spdy()
        self._streams: dict[int, SpdyStream] = {}

    async def run(self) -> None:
        """Raises SpdyError, ConnectionError."""
        try:
            while data := await self._duplex.read():
                for event in self._spdy.receive(data):
                    if isinstance(event, Leaving) and not self._streams:
                        return
                    await self._take(event)
                await self._flush()
        finally:
            for stream in self._streams.values():
                stream.ended(was_reset=True)

    async def send(self, number: int, data: bytes, *, is_last: bool = False) -> None:
        self._spdy.send(number, data, is_last=is_last)
        await self._flush()

    def settle(self, stream: SpdyStream) -> None:
        """Forget a stream of which both directions are over."""
        if stream.has_ended and stream.is_closed:
            self._streams.pop(stream.number, None)

    async def _take(self, event: Any) -> None:
        if isinstance(event, Opened):
            if len(self._streams) >= STREAMS or event.stream in self._streams:
                self._spdy.reset(event.stream, REFUSED_STREAM)
                return
            stream = self._streams[event.stream] = SpdyStream(self, event.stream, event.headers)
            self._spdy.reply(event.stream)
            await self._flush()
            if event.is_last:
                stream.ended()
            await self._opened(stream)
            return
        if isinstance(event, Leaving) or (found := self._streams.get(event.stream)) is None:
            return
        if isinstance(event, Received):
            await found.feed(event.data)
            if event.is_last:
                found.ended()
        elif isinstance(event, Reset):
            found.ended(was_reset=True)
        self.settle(found)

    async def _flush(self) -> None:
        if data := self._spdy.data_to_send():
            await self._duplex.write(data)

    async def refuse(self, stream: SpdyStream) -> None:
        """End a stream at once."""
        stream.ended(was_reset=True)
        self._spdy.reset(stream.number, CANCEL)
        self.settle(stream)
        await self._flush()


def chosen(exchange: Exchange, known: tuple[str, ...]) -> str:
    """The first protocol of the request that is known here. Raises Refusal."""
    offered = exchange.head.all(VERSION_HEADER)
    found = next((each for each in offered if each in known), "")
    if not found:
        raise Refusal(
            403, f"unable to upgrade: none of the protocols {', '.join(offered) or '(none)'} is known; known are {', '.join(known)}"
        )
    return found


async def switched(exchange: Exchange, known: tuple[str, ...]) -> Duplex:
    """Answer an upgrade to SPDY. Raises Refusal."""
    protocol = chosen(exchange, known)
    return await exchange.switch((("Upgrade", PROTOCOL), (VERSION_HEADER, protocol)))


class SpdyRemote:
    """Implements remote.Remote with a stream for each direction. `open` waits for those the request asked for."""

    def __init__(self, duplex: Duplex, wanted: Wanted) -> None:
        self._duplex = duplex
        self._names = {"error"} | {name for name, is_wanted in (
            ("stdin", wanted.stdin), ("stdout", wanted.stdout), ("stderr", wanted.stderr and not wanted.tty), ("resize", wanted.tty),
        ) if is_wanted}  # fmt: skip
        self._streams: dict[str, SpdyStream] = {}
        self._all_there = asyncio.Event()
        self._session = SpdySession(duplex, self._opened)
        self._running: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Raises ConnectionError when the streams do not come."""
        self._running = asyncio.create_task(self._session.run())
        try:
            there = asyncio.create_task(self._all_there.wait())
            try:
                await asyncio.wait({there, self._running}, timeout=_STREAMS_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            finally:
                there.cancel()
            if not self._all_there.is_set():
                raise ConnectionResetError("the streams of the session were not opened")
            yield
        finally:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
            await self._duplex.close()

    async def events(self) -> AsyncIterator[Event]:
        queue: asyncio.Queue[Event | None] = asyncio.Queue(16)  # full: its writers wait
        assert self._running is not None

        async def stdin(stream: SpdyStream) -> None:
            while data := await stream.read():
                await queue.put(Typed(data))
            await queue.put(InputEnded())

        async def resizes(stream: SpdyStream) -> None:
            rest = b""
            while data := await stream.read():
                *texts, rest = (rest + data).replace(b"}", b"}\n").split(b"\n")
                for text in texts:
                    if (event := resized(text)) is not None:
                        await queue.put(event)

        async def end(running: asyncio.Task[None]) -> None:
            await asyncio.wait({running})
            await queue.put(None)

        tasks = [asyncio.create_task(end(self._running))]
        tasks += [asyncio.create_task(stdin(self._streams["stdin"]))] if "stdin" in self._streams else []
        tasks += [asyncio.create_task(resizes(self._streams["resize"]))] if "resize" in self._streams else []
        try:
            while (event := await queue.get()) is not None:
                yield event
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def send(self, channel: int, data: bytes) -> None:
        stream = self._streams.get({STDOUT: "stdout", STDERR: "stderr"}.get(channel, ""))
        if stream is not None:
            await stream.write(data)

    async def finish(self, status: dict[str, Any]) -> None:
        with contextlib.suppress(ConnectionError):
            for name in ("stdout", "stderr"):
                if name in self._streams:
                    await self._streams[name].close()
            await self._streams["error"].write(orjson.dumps(status))
            await self._streams["error"].close()

    async def _opened(self, stream: SpdyStream) -> None:
        name = stream.headers.get("streamtype", "")
        if name not in self._names or name in self._streams:
            await self._session.refuse(stream)
            return
        self._streams[name] = stream
        if self._names <= self._streams.keys():
            self._all_there.set()


__all__ = ["PROTOCOL", "SpdyError", "SpdyRemote", "SpdySession", "SpdyStream", "chosen", "switched"]
