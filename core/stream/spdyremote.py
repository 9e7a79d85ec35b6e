"""Commands over SPDY (`v4.channel.k8s.io`), and the answer to an upgrade to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final

import orjson

from pinnace.core.base.tunnel.duplex import Duplex
from pinnace.core.base.tunnel.spdystreams import PROTOCOL, VERSION_HEADER, SpdySession, SpdyStream
from pinnace.core.stream.http import Exchange, Refusal
from pinnace.core.stream.remote import ERROR, STDERR, STDOUT, Event, InputEnded, Typed, Wanted
from pinnace.core.stream.websocket import resized

_STREAMS_SECONDS: Final = 30.0
_SIZE_BYTES: Final = 1024
"""Of a terminal's size as text: what is longer is none, and not kept."""


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
                rest = rest if len(rest) <= _SIZE_BYTES else b""
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
        stream = self._streams.get({STDOUT: "stdout", STDERR: "stderr", ERROR: "error"}.get(channel, ""))
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
