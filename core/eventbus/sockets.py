"""A non-blocking connection for paho: opened without blocking the loop, read in large pieces."""

from __future__ import annotations

import asyncio
import socket
import ssl

from pinnace.core.base.errors import LinkError
from pinnace.core.eventbus.settings import BrokerAddress

_CHUNK = 1 << 16


class BufferedSocket:
    """A socket that serves paho's many small reads from one buffer. `buffered` says that a read would not go to the kernel."""

    def __init__(self, inner: socket.socket) -> None:
        self._inner = inner
        self._buffer = b""
        self._at = 0

    @property
    def buffered(self) -> bool:
        return self._at < len(self._buffer) or (isinstance(self._inner, ssl.SSLSocket) and self._inner.pending() > 0)

    def recv(self, size: int) -> bytes:
        if self._at >= len(self._buffer):
            self._buffer = self._inner.recv(_CHUNK)
            self._at = 0
        piece = self._buffer[self._at : self._at + size]
        self._at += size
        return piece

    def send(self, data: bytes) -> int:
        return self._inner.send(data)

    def setblocking(self, blocking: bool) -> None:
        self._inner.setblocking(blocking)

    def fileno(self) -> int:
        return self._inner.fileno()

    def close(self) -> None:
        self._inner.close()


async def open_socket(address: BrokerAddress, tls: ssl.SSLContext | None) -> BufferedSocket:
    """Connect, and shake hands if `tls` is given. Raises OSError (ssl.SSLError too) and LinkError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    fault: OSError | None = None
    for family, kind, proto, _, target in found:
        sock = socket.socket(family, kind, proto)
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, target)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls is not None:
                sock = tls.wrap_socket(sock, server_hostname=address.host, do_handshake_on_connect=False)
                await _handshake(loop, sock)
        except OSError as error:
            sock.close()
            fault = error
        except BaseException:
            sock.close()
            raise
        else:
            return BufferedSocket(sock)
    raise fault or LinkError(f"{address.host} has no address")


async def _handshake(loop: asyncio.AbstractEventLoop, sock: ssl.SSLSocket) -> None:
    while True:
        try:
            sock.do_handshake()
        except ssl.SSLWantReadError:
            await _ready(loop, sock, reading=True)
        except ssl.SSLWantWriteError:
            await _ready(loop, sock, reading=False)
        else:
            return


async def _ready(loop: asyncio.AbstractEventLoop, sock: socket.socket, *, reading: bool) -> None:
    waiter: asyncio.Future[None] = loop.create_future()
    add, remove = (loop.add_reader, loop.remove_reader) if reading else (loop.add_writer, loop.remove_writer)
    number = sock.fileno()
    add(number, lambda: waiter.done() or waiter.set_result(None))
    try:
        await waiter
    finally:
        remove(number)
