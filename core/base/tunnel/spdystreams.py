"""The streams of one SPDY connection on a duplex, of either side."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from pinnace.core.base.tunnel.duplex import CHUNK, Duplex
from pinnace.core.base.tunnel.spdy import CANCEL, REFUSED_STREAM, Event, Leaving, Opened, Received, Reset, Spdy

PROTOCOL: Final = "SPDY/3.1"
VERSION_HEADER: Final = "X-Stream-Protocol-Version"
STREAMS: Final = 256
"""Open streams of one connection over which further ones are refused."""
_WAITING_BYTES: Final = 256 << 10
"""Bytes a stream may have unread; then the whole connection waits for its reader."""


class SpdyStream:
    """One stream; a `Duplex`."""

    def __init__(self, session: SpdySession, number: int, headers: Mapping[str, str]) -> None:
        self.number = number
        self.headers = headers
        self._session = session
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._changed = asyncio.Event()
        self.has_ended = False
        """The other side's direction is over."""
        self.is_closed = False
        """Ours is."""
        self._is_read = True

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
        """No data is a frame without any."""
        for at in range(0, len(data) or 1, CHUNK):
            if self.is_closed:
                raise ConnectionResetError("the stream is closed")
            await self._session.send(self.number, data[at : at + CHUNK])

    async def end(self) -> None:
        """Our direction only; reading goes on."""
        if not self.is_closed:
            self.is_closed = True
            with contextlib.suppress(ConnectionError):
                await self._session.send(self.number, b"", is_last=True)
        self._session.settle(self)

    async def close(self) -> None:
        """Our direction, and what still comes is not read."""
        self._is_read = False
        self._changed.set()
        await self.end()

    async def feed(self, data: bytes) -> None:
        while self._size > _WAITING_BYTES and self._is_read:
            await self._change()
        if data and self._is_read:
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
    """`run` reads until the connection ends. `opened` is called with each new stream of the other side, which is accepted already; without
    it we are the client, and only we open streams."""

    def __init__(self, duplex: Duplex, opened: Callable[[SpdyStream], Awaitable[None]] | None = None) -> None:
        self._duplex = duplex
        self._opened = opened
        self._spdy = Spdy(is_client=opened is None)
        self._streams: dict[int, SpdyStream] = {}
        self._is_over = False

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
            self._is_over = True
            for stream in self._streams.values():
                stream.ended(was_reset=True)

    async def open(self, headers: Mapping[str, str], *, is_written: bool = True) -> SpdyStream:
        """A stream of ours; `is_written` False ends our direction at once. When the connection is over, so is the stream."""
        number = self._spdy.open(headers, is_last=not is_written)
        stream = self._streams[number] = SpdyStream(self, number, headers)
        stream.is_closed = not is_written
        if self._is_over:
            stream.ended(was_reset=True)
        with contextlib.suppress(ConnectionError):  # `run` notices, too
            await self._duplex.write(self._spdy.data_to_send())  # at once: whoever opens several has them all before the first answer
        return stream

    async def send(self, number: int, data: bytes, *, is_last: bool = False) -> None:
        self._spdy.send(number, data, is_last=is_last)
        await self._flush()

    def settle(self, stream: SpdyStream) -> None:
        """Forget a stream of which both directions are over."""
        if stream.has_ended and stream.is_closed:
            self._streams.pop(stream.number, None)

    async def _take(self, event: Event) -> None:
        if isinstance(event, Opened):
            if self._opened is None or len(self._streams) >= STREAMS or event.stream in self._streams:
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
        """A frame that has begun is sent whole, also for a task that is cancelled meanwhile: others' frames follow."""
        if data := self._spdy.data_to_send():
            sending = asyncio.ensure_future(self._duplex.write(data))
            sending.add_done_callback(_heard)
            await asyncio.shield(sending)

    async def refuse(self, stream: SpdyStream) -> None:
        """End a stream at once."""
        stream.ended(was_reset=True)
        self._spdy.reset(stream.number, CANCEL)
        self.settle(stream)
        await self._flush()


def _heard(sending: asyncio.Future[None]) -> None:
    """Whoever still waits is told of a fault; nobody else misses it."""
    if not sending.cancelled():
        sending.exception()
