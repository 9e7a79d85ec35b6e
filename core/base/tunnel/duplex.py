"""A byte stream in both directions, whatever carries it, and joining two of them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Final, Protocol, cast

CHUNK: Final = 32 << 10
BUFFERED: Final = 128 << 10
"""Bytes that one end of a connection keeps for a reader who stopped: in the transport, unsent in the kernel, and received unread."""


def bound(transport: asyncio.BaseTransport) -> None:
    """Keep little for a slow reader. By itself Linux queues megabytes on each side of every hop (net.ipv4.tcp_wmem, tcp_rmem)."""
    cast(asyncio.WriteTransport, transport).set_write_buffer_limits(BUFFERED)  # uvloop's is none by inheritance
    found = transport.get_extra_info("socket")
    if found is None or found.family not in (socket.AF_INET, socket.AF_INET6):
        return
    with contextlib.suppress(OSError):
        found.setsockopt(socket.IPPROTO_TCP, _NOTSENT_LOWAT, BUFFERED)  # what is in flight is not counted: no slower on long ways
        found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFERED)  # Linux doubles it


_NOTSENT_LOWAT: Final = 25  # tcp(7); Python names it from 3.12 on


class Duplex(Protocol):
    """Reading and writing wait for each other's side: nothing is buffered without bound."""

    async def read(self) -> bytes:
        """Some bytes; b"" at the end."""
        ...

    async def write(self, data: bytes) -> None:
        """Raises ConnectionError when the other end is gone."""
        ...

    async def close(self) -> None:
        """Both directions; what was written still arrives. May be called again."""
        ...


class StreamDuplex:
    """An asyncio connection, of which little is kept for a reader who stops."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        bound(writer.transport)

    async def read(self) -> bytes:
        try:
            return await self._reader.read(CHUNK)
        except OSError:
            return b""

    async def write(self, data: bytes) -> None:
        if self._writer.is_closing():
            raise ConnectionResetError("the connection is closed")
        self._writer.write(data)
        await self._writer.drain()

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


class WithRest:
    """A duplex of which something was read already."""

    def __init__(self, inner: Duplex, rest: bytes) -> None:
        self._inner = inner
        self._rest = rest

    async def read(self) -> bytes:
        if self._rest:
            rest, self._rest = self._rest, b""
            return rest
        return await self._inner.read()

    async def write(self, data: bytes) -> None:
        await self._inner.write(data)

    async def close(self) -> None:
        await self._inner.close()


async def copy(source: Duplex, target: Duplex) -> None:
    """Until the source ends or the target is gone."""
    with contextlib.suppress(ConnectionError):
        while data := await source.read():
            await target.write(data)


async def join(left: Duplex, right: Duplex) -> None:
    """Copy both ways until either side ends, then close both."""
    tasks = [asyncio.create_task(copy(left, right)), asyncio.create_task(copy(right, left))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await left.close()
        await right.close()
