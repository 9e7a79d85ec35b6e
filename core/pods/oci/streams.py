"""Streams into running containers: exec, attach, port-forward."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, Self

from pinnace.core.base.runtime import ExecResult, RuntimeFailed
from pinnace.core.pods.oci.frames import MOST, frame, read_frame
from pinnace.core.pods.oci.shims import Running

MOST_OUTPUT: Final = 16 << 20
"""Bytes of each stream that `exec_sync` keeps; what comes after is read and left out."""


class ShimStream:
    """`base.runtime.Stream` over frames. `open_` connects when the context is entered; `None` means there is nothing to attach to (any
    more): the stream is at its end from the start."""

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
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._code: asyncio.Future[int] | None = None

    async def __aenter__(self) -> Self:
        self._code = asyncio.get_running_loop().create_future()
        opened = await self._open()
        if isinstance(opened, Running):
            self._running = opened
            self._reader, self._writer = opened.reader, opened.writer
        elif opened is not None:
            self._reader, self._writer = opened
        else:
            self._code.set_result(0)
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._running is not None:
            await asyncio.shield(self._running.end())
        elif self._writer is not None:
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()
        if self._code is not None and not self._code.done():
            self._code.cancel()
        elif self._code is not None:
            self._code.exception()  # seen: whoever did not wait for the code does not want it

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """Raises RuntimeFailed when the command cannot be run. What an attached reader was too slow for is left out, and said so."""
        while self._reader is not None and (got := await read_frame(self._reader)) is not None:
            kind, body = got
            if kind in (b"1", b"2"):
                yield int(kind), body
            elif kind == b"L":
                yield (1 if self._tty else 2), b"\r\n[%s bytes of output left out: the reader was too slow]\r\n" % body
            elif kind == b"e":
                failed = RuntimeFailed(body.decode(errors="replace"))
                self._settle(failed)
                raise failed
            elif kind == b"E":
                self._settle(int(body))
                return
        self._settle(RuntimeFailed("the container's shim ended") if self._is_exec else 0)

    def _settle(self, code: int | RuntimeFailed) -> None:
        if self._code is None or self._code.done():
            return
        if isinstance(code, int):
            self._code.set_result(code)
        else:
            self._code.set_exception(code)

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
        """The exit code, once `output` has been read to its end."""
        assert self._code is not None, "enter the stream first"
        return await asyncio.shield(self._code)


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
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()

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
