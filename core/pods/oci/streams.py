"""Streams into running containers: exec, attach, port-forward."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, Self

from pinnace.core.base.runtime import ExecResult, RuntimeFailed
from pinnace.core.pods.oci.frames import MOST, frame, read_frame
from pinnace.core.pods.oci.shims import Running, leave

MOST_OUTPUT: Final = 16 << 20
"""Bytes of each stream that `exec_sync` keeps; what comes after is read and left out."""


WAITING: Final = 16
"""Frames read and not asked for yet; the command is not read from while there are so many, and so waits."""


class ShimStream:
    """`base.runtime.Stream` over frames. `open_` connects when the context is entered; `None` means there is nothing to attach to (any
    more): the stream is at its end from the start.

    Frames are read ahead of who asks for them, WAITING of them at most, so that the exit code comes though nobody reads the output.
    """

    def __init__(
        self,
        open_: Callable[[], Awaitable[Running | tuple[asyncio.StreamReader, asyncio.StreamWriter] | None]],
        *,
        is_exec: bool,
        tty: bool = False,
    ) -> None:
        self._open = open_
        self._is_exec = is_exec
        self._tty = tty
        self._running: Running | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._reading: asyncio.Task[int] | None = None

    async def __aenter__(self) -> Self:
        opened = await self._open()
        reader: asyncio.StreamReader | None = None
        if isinstance(opened, Running):
            self._running = opened
            reader, self._writer = opened.reader, opened.writer
        elif opened is not None:
            reader, self._writer = opened
        self._reading = asyncio.create_task(self._read(reader), name="output of a container")
        self._reading.add_done_callback(lambda _: self._news.set())
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._reading is not None
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        if self._running is not None:
            await asyncio.shield(self._running.end())
        elif self._writer is not None:
            await leave(self._writer)

    async def _read(self, reader: asyncio.StreamReader | None) -> int:
        """Pass output on; the exit code. Raises RuntimeFailed when the command cannot be run."""
        while reader is not None and (got := await read_frame(reader)) is not None:
            kind, body = got
            if kind in (b"1", b"2"):
                await self._put(int(kind), body)
            elif kind == b"L":
                await self._put(1 if self._tty else 2, b"\r\n[%s bytes of output left out: the reader was too slow]\r\n" % body)
            elif kind == b"e":
                raise RuntimeFailed(body.decode(errors="replace"))
            elif kind == b"E":
                return int(body)
        if self._is_exec:
            raise RuntimeFailed("what ran the command ended before it")
        return 0

    async def _put(self, number: int, data: bytes) -> None:
        while len(self._waiting) >= WAITING:
            self._room.clear()
            await self._room.wait()
        self._waiting.append((number, data))
        self._news.set()

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """Raises RuntimeFailed when the command cannot be run. What an attached reader was too slow for is left out, and said so."""
        assert self._reading is not None, "enter the stream first"
        while self._waiting or not self._reading.done():
            if self._waiting:
                got = self._waiting.popleft()
                self._room.set()
                yield got
            else:
                self._news.clear()
                await self._news.wait()
        await asyncio.shield(self._reading)

    async def write(self, data: bytes) -> None:
        if self._writer is None:
            return
        with contextlib.suppress(ConnectionError):
            for at in range(0, len(data), MOST):
                self._writer.write(frame(b"I", data[at : at + MOST]))
                await self._writer.drain()

    async def close_stdin(self) -> None:
        await self._send(b"C")

    async def resize(self, columns: int, rows: int) -> None:
        def short(number: int) -> bytes:
            return max(0, min(number, 65535)).to_bytes(2, "big")

        await self._send(b"W", short(columns) + short(rows))

    async def _send(self, kind: bytes, body: bytes = b"") -> None:
        if self._writer is None:
            return
        with contextlib.suppress(ConnectionError):
            self._writer.write(frame(kind, body))
            await self._writer.drain()

    async def wait(self) -> int:
        """Raises RuntimeFailed when the command could not be run."""
        assert self._reading is not None, "enter the stream first"
        return await asyncio.shield(self._reading)


async def collected(stream: ShimStream) -> ExecResult:
    """All a command says, and its exit code."""
    kept: dict[int, bytearray] = {1: bytearray(), 2: bytearray()}
    async with stream:
        async for number, data in stream.output():
            kept[number] += data[: max(0, MOST_OUTPUT - len(kept[number]))]
        code = await stream.wait()
    return ExecResult(code, bytes(kept[1]), bytes(kept[2]))


class PodConnection:
    """`base.runtime.Connection` over a socket that `open_` gives."""

    def __init__(self, open_: Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]) -> None:
        self._open = open_
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await self._open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._writer is not None:
            await leave(self._writer)

    async def read(self, most: int = 65536) -> bytes:
        assert self._reader is not None, "enter the connection first"
        try:
            return await self._reader.read(most)
        except ConnectionError:
            return b""

    async def write(self, data: bytes) -> None:
        assert self._writer is not None, "enter the connection first"
        with contextlib.suppress(ConnectionError):
            self._writer.write(data)
            await self._writer.drain()

    async def close_write(self) -> None:
        assert self._writer is not None, "enter the connection first"
        with contextlib.suppress(OSError):
            if self._writer.can_write_eof():
                self._writer.write_eof()
