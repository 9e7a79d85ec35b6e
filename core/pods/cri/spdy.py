"""SPDY/3.1 as container runtimes serve exec, attach and port-forward with it: one connection, a few streams opened by us.

Every CRI runtime's streaming server speaks it, it is what kubelets use, and unlike the WebSocket form of that server it can end one
direction of a stream, which `tar x` in a container and a forwarded port need. Headers that come back are not needed and never unpacked.
Streams have no windows of their own there; TCP's holds a fast sender back.
"""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import Mapping
from enum import IntEnum
from typing import Final
from urllib.parse import urlsplit

from pinnace.core.base.runtime import RuntimeFailed

_CONTROL: Final = 0x8003
_FIN: Final = 1
_MOST_FRAME: Final = 1 << 20
_CHUNK: Final = 32 << 10
_SECONDS: Final = 30.0
_LIMIT: Final = 64 << 10
_ANY_ADDRESS: Final = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 # what a runtime calls itself in the address it gives


class _Kind(IntEnum):
    """Of control frames, as far as they mean something here."""

    SYN_STREAM = 1
    RST_STREAM = 3
    PING = 6
    GOAWAY = 7


class Channel:
    """One stream. `received` holds what came, up to a bound that stops the connection from reading on; b"" is its end."""

    def __init__(self, connection: SpdyConnection, number: int) -> None:
        self._connection = connection
        self.number = number
        self.received: asyncio.Queue[bytes] = asyncio.Queue(16)
        self.is_closed = False

    async def send(self, data: bytes) -> None:
        """Nothing happens after the connection ended."""
        if not self.is_closed:
            for at in range(0, len(data), _CHUNK):
                await self._connection.send_data(self.number, data[at : at + _CHUNK], is_last=False)

    async def close(self) -> None:
        """End our direction."""
        if not self.is_closed:
            self.is_closed = True
            await self._connection.send_data(self.number, b"", is_last=True)


class SpdyConnection:
    """Made by `connect`; `pump` must run while it is used, it reads what comes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._channels: dict[int, Channel] = {}
        self._pack = zlib.compressobj()
        self._next = 1
        self._is_over = False

    async def open(self, headers: Mapping[str, str], *, is_written: bool = True) -> Channel:
        """A new stream; `is_written` False ends our direction at once."""
        number = self._next
        self._next += 2
        channel = self._channels[number] = Channel(self, number)
        channel.is_closed = not is_written or self._is_over
        if self._is_over:
            channel.received.put_nowait(b"")
        block = struct.pack(">I", len(headers))
        for name, value in headers.items():
            for each in (name.lower().encode(), value.encode()):
                block += struct.pack(">I", len(each)) + each
        packed = self._pack.compress(block) + self._pack.flush(zlib.Z_SYNC_FLUSH)
        body = struct.pack(">IIBB", number, 0, 0, 0) + packed
        await self._control(_Kind.SYN_STREAM, body, flags=0 if is_written else _FIN)
        return channel

    async def send_data(self, number: int, data: bytes, *, is_last: bool) -> None:
        await self._write(struct.pack(">II", number, (_FIN if is_last else 0) << 24 | len(data)) + data)

    async def _control(self, kind: int, body: bytes, *, flags: int = 0) -> None:
        await self._write(struct.pack(">HHI", _CONTROL, kind, flags << 24 | len(body)) + body)

    async def _write(self, data: bytes) -> None:
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError:
            return  # the reading side notices and says so

    async def pump(self) -> None:
        """Read until the connection ends, then end every stream."""
        try:
            while await self._frame():
                pass
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._is_over = True
            for each in self._channels.values():
                each.is_closed = True
        for each in list(self._channels.values()):
            await each.received.put(b"")

    async def _frame(self) -> bool:
        head = await self._reader.readexactly(8)
        first, second = struct.unpack(">II", head)
        flags, size = second >> 24, second & 0xFFFFFF
        if size > _MOST_FRAME:
            return False
        body = await self._reader.readexactly(size)
        if not first & 0x8000_0000:
            channel = self._channels.get(first)
            if channel is not None:
                if body:
                    await channel.received.put(body)
                if flags & _FIN:
                    await channel.received.put(b"")
            return True
        match first & 0xFFFF:
            case _Kind.PING if len(body) == 4 and not body[3] & 1:
                await self._control(_Kind.PING, body)
            case _Kind.RST_STREAM if len(body) >= 8:
                channel = self._channels.get(int.from_bytes(body[:4], "big") & 0x7FFF_FFFF)
                if channel is not None:
                    channel.is_closed = True
                    await channel.received.put(b"")
            case _Kind.GOAWAY:
                return bool(self._channels)
            case _:
                pass
        return True

    def close(self) -> None:
        self._writer.close()


async def connect(url: str, protocol: str) -> SpdyConnection:
    """Upgrade an HTTP connection to the address that the runtime gave. Raises RuntimeFailed."""
    parts = urlsplit(url)
    if parts.scheme != "http":
        raise RuntimeFailed(
            f"the container runtime wants {parts.scheme} for exec, attach and port-forward;"
            " switch TLS streaming off in its configuration (it listens on loopback)"
        )
    host = "127.0.0.1" if (parts.hostname or "") in _ANY_ADDRESS else str(parts.hostname)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    request = (
        f"POST {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
        f"X-Stream-Protocol-Version: {protocol}\r\nContent-Length: 0\r\n\r\n"
    )
    try:
        async with asyncio.timeout(_SECONDS):
            reader, writer = await asyncio.open_connection(host, parts.port or 80, limit=_LIMIT)
            try:
                writer.write(request.encode())
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                status = head.split("\r\n", 1)[0]
                if " 101 " not in status + " ":
                    said = (await reader.read(512)).decode(errors="replace").strip()
                    raise RuntimeFailed(
                        f"the container runtime's streaming server refused SPDY/3.1 ({status}: {said});"
                        " exec, attach and port-forward need a runtime that serves it, as containerd and CRI-O do"
                    )
            except BaseException:
                writer.close()
                raise
    except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise RuntimeFailed(
            f"the container runtime's streaming server at {parts.netloc} does not answer: {str(error) or 'time-out'}"
        ) from error
    return SpdyConnection(reader, writer)
