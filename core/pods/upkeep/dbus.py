"""A connection to a D-Bus message bus: calls, signals, descriptors. The few calls we make need no library."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

from pinnace.core.pods.upkeep.dbuswire import DbusFailed, Decoder, Kind, Message, encode, types_of

SYSTEM_BUS: Final = Path("/run/dbus/system_bus_socket")
CALL_SECONDS: Final = 25.0
_SIGNALS: Final = 100
"""That may wait; beyond, the oldest go."""
_FDS: Final = 16


class Target(NamedTuple):
    """An object's interface at a peer."""

    destination: str
    path: str
    interface: str


SYSTEMD: Final = Target("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
_BUS: Final = Target("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")


class MessageBus:
    """An async context manager. One task at a time reads signals; calls may come from several."""

    def __init__(self, address: Path = SYSTEM_BUS) -> None:
        self._address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._decoder = Decoder()
        self._serial = 0
        self._waiting: dict[int, asyncio.Future[Message]] = {}
        self._signals: deque[Message] = deque(maxlen=_SIGNALS)
        self._has_signal = asyncio.Event()
        self._fds: deque[int] = deque()
        self._problem: DbusFailed | None = None

    async def __aenter__(self) -> MessageBus:
        """Raises OSError when there is no bus, DbusFailed when it does not let us in."""
        loop = asyncio.get_running_loop()
        self._socket.setblocking(False)
        try:
            async with asyncio.timeout(CALL_SECONDS):
                await loop.sock_connect(self._socket, str(self._address))
                await self._authenticate(loop)
                loop.add_reader(self._socket, self._read)
                await self.call(_BUS, "Hello")
        except BaseException:
            self._close()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._close()

    async def call(self, target: Target, member: str, signature: str = "", *values: Any) -> tuple[Any, ...]:
        """The answer's values; a value of type h is a descriptor that is the caller's now. Raises DbusFailed, OSError."""
        if self._problem is not None:
            raise self._problem
        self._serial += 1
        serial = self._serial
        destination, path, interface = target
        message = Message(
            Kind.CALL, serial, path, interface, member, destination=destination, signature=signature, body=values if signature else ()
        )
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[Message] = loop.create_future()
        self._waiting[serial] = waiting
        try:
            async with asyncio.timeout(CALL_SECONDS):
                await loop.sock_sendall(self._socket, encode(message))
                answer = await waiting
        except TimeoutError as error:
            _forget(waiting)
            raise DbusFailed(f"{interface}.{member}: no answer within {CALL_SECONDS:g} s") from error
        except asyncio.CancelledError:
            _forget(waiting)
            raise
        finally:
            self._waiting.pop(serial, None)
        if answer.kind is Kind.ERROR:
            why = answer.body[0] if answer.body else ""
            raise DbusFailed(f"{interface}.{member}: {answer.error}: {why}", name=answer.error)
        return answer.body

    async def match(self, source: Target, member: str) -> None:
        """Ask for a signal of `source`. Raises DbusFailed, OSError."""
        sender, path, interface = source
        rule = f"type='signal',sender='{sender}',interface='{interface}',member='{member}',path='{path}'"
        await self.call(_BUS, "AddMatch", "s", rule)

    async def owner(self, target: Target) -> str:
        """A peer's own name on the bus, which its signals carry: anybody may send us one directly, whatever we asked for. Raises
        DbusFailed, OSError."""
        (name,) = await self.call(_BUS, "GetNameOwner", "s", target.destination)
        return str(name)

    async def signal(self) -> Message:
        """The next one. Raises DbusFailed when the bus is gone."""
        while not self._signals:
            if self._problem is not None:
                raise self._problem
            self._has_signal.clear()
            await self._has_signal.wait()
        return self._signals.popleft()

    async def _authenticate(self, loop: asyncio.AbstractEventLoop) -> None:
        """SASL EXTERNAL: the socket says who we are."""
        identity = str(os.geteuid()).encode().hex()
        await self._ask(loop, f"\0AUTH EXTERNAL {identity}\r\n", "OK")
        await self._ask(loop, "NEGOTIATE_UNIX_FD\r\n", "AGREE_UNIX_FD")
        await loop.sock_sendall(self._socket, b"BEGIN\r\n")

    async def _ask(self, loop: asyncio.AbstractEventLoop, line: str, expected: str) -> None:
        await loop.sock_sendall(self._socket, line.encode())
        answer = b""
        while not answer.endswith(b"\r\n"):
            data = await loop.sock_recv(self._socket, 256)
            if not data or len(answer) > 1024:
                raise DbusFailed(f"the bus at {self._address} closed the connection")
            answer += data
        if not answer.startswith(expected.encode()):
            raise DbusFailed(f"the bus at {self._address} does not let us in: {answer[:80].decode(errors='replace').strip()}")

    def _read(self) -> None:
        try:
            data, fds, _, _ = socket.recv_fds(self._socket, 65536, _FDS)
            self._fds.extend(fds)
            if not data:
                raise DbusFailed("the bus closed the connection")
            for message in self._decoder.feed(data):
                self._take(message)
        except BlockingIOError:
            return
        except (OSError, DbusFailed) as error:
            self._fail(error if isinstance(error, DbusFailed) else DbusFailed(str(error)))

    def _take(self, message: Message) -> None:
        fds = [self._fds.popleft() for _ in range(min(message.fds, len(self._fds)))]
        waiting = self._waiting.get(message.reply_serial) if message.kind in (Kind.RETURN, Kind.ERROR) else None
        if waiting is not None and not waiting.done():
            body = [
                fds[value] if kind == "h" and value < len(fds) else value
                for kind, value in zip(types_of(message.signature), message.body, strict=False)
            ]
            waiting.set_result(replace(message, body=tuple(body)))
            return
        for fd in fds:
            os.close(fd)
        if message.kind is Kind.SIGNAL:
            self._signals.append(message)
            self._has_signal.set()

    def _fail(self, problem: DbusFailed) -> None:
        self._problem = problem
        asyncio.get_running_loop().remove_reader(self._socket)
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(problem)
        self._has_signal.set()

    def _close(self) -> None:
        if self._problem is None:
            with contextlib.suppress(ValueError, OSError):
                asyncio.get_running_loop().remove_reader(self._socket)
            self._problem = DbusFailed("the connection is closed")
        self._socket.close()
        while self._fds:
            os.close(self._fds.popleft())


def _forget(answer: asyncio.Future[Message]) -> None:
    """Nobody waits for it any more: what it brought is let go."""
    if answer.done() and not answer.cancelled() and answer.exception() is None:
        for kind, value in zip(types_of(answer.result().signature), answer.result().body, strict=False):
            if kind == "h":
                os.close(value)
    answer.cancel()
