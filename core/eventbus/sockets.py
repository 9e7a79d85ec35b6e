"""A non-blocking connection for paho: opened without blocking the loop, read and written in large pieces."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl

from pinnace.core.base.errors import LinkError
from pinnace.core.eventbus.settings import BrokerAddress

_CHUNK = 1 << 16


class BufferedSocket:
    """Serves paho's many small reads from one buffer and gathers its many small writes until `push`."""

    def __init__(self, inner: socket.socket) -> None:
        self._inner = inner
        self._buffer = b""
        self._at = 0
        self._gathered = bytearray()
        self.reads = 0
        """Served since the connection was opened."""

    @property
    def buffered(self) -> bool:
        """Would a read be served without going to the kernel?"""
        return self._at < len(self._buffer) or (isinstance(self._inner, ssl.SSLSocket) and self._inner.pending() > 0)

    def recv(self, buffer_size: int) -> bytes:
        if self._at >= len(self._buffer):
            self._at = 0
            self._buffer = b""
            self._buffer = self._inner.recv(_CHUNK)
        piece = self._buffer[self._at : self._at + buffer_size]
        self._at += buffer_size
        self.reads += 1
        return piece

    def send(self, buffer: bytes | bytearray) -> int:
        """Take all of `buffer`; it leaves with the next `push`. Raises BlockingIOError while too much waits already."""
        if len(self._gathered) >= _CHUNK and not self.push() and len(self._gathered) >= _CHUNK:
            raise BlockingIOError
        self._gathered += buffer
        return len(buffer)

    def push(self) -> bool:
        """Write what was gathered; False when the kernel does not take all of it now. Raises OSError when the connection is gone."""
        gathered = self._gathered
        while gathered:
            try:
                with memoryview(gathered) as whole, whole[:_CHUNK] as piece:  # released before the buffer shrinks
                    sent = self._inner.send(piece)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return False
            del gathered[:sent]
        return True

    def setblocking(self, flag: bool) -> None:
        self._inner.setblocking(flag)

    def fileno(self) -> int:
        return self._inner.fileno()

    def close(self) -> None:
        """Close, after a last attempt to send what was gathered (a DISCONNECT, as a rule)."""
        with contextlib.suppress(OSError):
            self.push()
        self._inner.close()


async def open_socket(address: BrokerAddress, tls: ssl.SSLContext | None) -> BufferedSocket:
    """Connect, and shake hands if `tls` is given. Raises OSError (ssl.SSLError too) and LinkError."""
    loop = asyncio.get_running_loop()
    fault: OSError | None = None
    for family, kind, proto, _, target in await _resolve(address):
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


async def _resolve(address: BrokerAddress) -> list[tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[object, ...]]]:
    """Addresses for `sock_connect`. A literal one is not worth waking the loop's threads for."""
    try:
        return socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)  # type: ignore[return-value]
    except socket.gaierror:
        return await asyncio.get_running_loop().getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)  # type: ignore[return-value]
    except UnicodeError as error:
        raise LinkError(f"{address.host} is no host name: {error}") from error


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

    def wake() -> None:
        if not waiter.done():
            waiter.set_result(None)

    add(number, wake)
    try:
        await waiter
    finally:
        remove(number)
