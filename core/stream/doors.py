"""The two local doors to the kubelet's API: HTTP on loopback, which only reads, and a socket that only root can open."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from pinnace.core.base.errors import ConfigError
from pinnace.core.base.tunnel.duplex import StreamDuplex
from pinnace.core.base.tunnel.heads import read_head
from pinnace.core.stream.api import EVERYTHING, READ_ONLY, KubeletApi
from pinnace.core.stream.http import Exchange, with_rest

logger = logging.getLogger(__name__)

LOOPBACK: Final = "127.0.0.1"
HEAD_SECONDS: Final = 10.0
CONNECTIONS: Final = 64
"""At once, for each door; further ones are closed."""
_CREDENTIALS: Final = struct.Struct("3i")


class Door:
    """Accepts connections of one listener and serves one exchange on each."""

    def __init__(self, name: str, api: KubeletApi, allowed: frozenset[str], *, root_only: bool) -> None:
        self._name = name
        self._api = api
        self._allowed = allowed
        self._root_only = root_only
        self._tasks: set[asyncio.Task[None]] = set()
        self._open: set[asyncio.WriteTransport] = set()

    def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._tasks) >= CONNECTIONS or (self._root_only and not _is_from_root(writer)):
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """What is not sent by now is not sent: somebody who reads nothing would keep us for ever."""
        for transport in self._open:
            transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer.transport)
        duplex = StreamDuplex(reader, writer)
        try:
            async with asyncio.timeout(HEAD_SECONDS):
                head, rest = await read_head(duplex)
            exchange = Exchange(head, with_rest(duplex, rest))
            if not self._root_only and head.first[0] not in ("GET", "HEAD"):
                await exchange.answer(405, "this endpoint only reads\n")
            else:
                await self._api.serve(exchange, self._allowed)
        except (ValueError, EOFError, TimeoutError, ConnectionError) as error:
            logger.debug("stream.door.left door=%s reason=%s", self._name, error)
        except Exception:  # one connection's fault ends that connection only
            logger.exception("stream.door.failed door=%s", self._name)
        finally:
            await duplex.close()
            self._open.discard(writer.transport)


@contextlib.asynccontextmanager
async def read_only_door(api: KubeletApi, port: int) -> AsyncIterator[int]:
    """Listen on loopback; gives the port in use. Raises ConfigError."""
    door = Door("read-only", api, READ_ONLY, root_only=False)
    try:
        server = await asyncio.start_server(door.connected, LOOPBACK, port)
    except OSError as error:
        raise ConfigError(
            f"modules.edged.tailoredKubeletConfig.readOnlyPort: cannot listen on {LOOPBACK} port {port}: {error.strerror}; "
            "choose another port, or 0 for no such endpoint"
        ) from error
    async with _closing(server, door):
        yield int(server.sockets[0].getsockname()[1])


@contextlib.asynccontextmanager
async def root_door(api: KubeletApi, path: Path) -> AsyncIterator[None]:
    """Listen on the control socket, mode 0600; whoever connects must be root, or the user this process runs as. Raises ConfigError."""
    door = Door("control", api, EVERYTHING, root_only=True)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        _remove_stale(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            os.fchmod(listener.fileno(), 0o600)  # before bind: the path never has another mode, and threads keep their umask
            listener.bind(str(path))
        except OSError:
            listener.close()
            raise
        server = await asyncio.start_unix_server(door.connected, sock=listener)
    except OSError as error:
        raise ConfigError(
            f"modules.edged.controlSocket: cannot listen on {path}: {error.strerror or error}; choose another path"
        ) from error
    try:
        async with _closing(server, door):
            yield
    finally:
        path.unlink(missing_ok=True)  # noqa: ASYNC240 - a tmpfs


@contextlib.asynccontextmanager
async def _closing(server: asyncio.Server, door: Door) -> AsyncIterator[None]:
    try:
        yield
    finally:
        server.close()
        await door.close()


def _remove_stale(path: Path) -> None:
    """A socket that nobody listens on is what an agent left that was killed."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except FileNotFoundError:
            return
    raise OSError("another agent of this machine listens there already")


def _is_from_root(writer: asyncio.StreamWriter) -> bool:
    """By the kernel's word (SO_PEERCRED), not by the file's mode alone."""
    peer = writer.get_extra_info("socket")
    try:
        credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    except OSError:
        return False
    _, uid, _ = _CREDENTIALS.unpack(credentials)
    return uid in (0, os.geteuid())
