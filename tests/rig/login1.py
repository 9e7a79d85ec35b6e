"""A real dbus-daemon of the test's own, and a logind on it that does only what graceful shutdown asks for."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from pinnace.core.pods.upkeep.dbuswire import Decoder, Kind, Message, encode

_CONF = """\
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/> <allow own="*"/> <allow send_destination="*" eavesdrop="false"/> <allow receive_sender="*"/>
    <allow send_type="signal"/>
  </policy>
</busconfig>
"""
_LOGIN, _PATH = "org.freedesktop.login1", "/org/freedesktop/login1"
MANAGER = "org.freedesktop.login1.Manager"


@contextlib.asynccontextmanager
async def message_bus() -> AsyncIterator[Path]:
    """The socket of a bus that lives as long as the block, in a short folder: a socket's path has 107 characters at most."""
    with tempfile.TemporaryDirectory(prefix="bus-", dir="/tmp") as folder:
        path, conf = Path(folder, "bus"), Path(folder, "bus.conf")
        conf.write_text(_CONF.format(socket=path))
        daemon = subprocess.Popen(["dbus-daemon", "--nofork", "--nopidfile", f"--config-file={conf}"])
        try:
            async with asyncio.timeout(20):
                while not _listens(path):
                    await asyncio.sleep(0.01)
            yield path
        finally:
            daemon.terminate()
            daemon.wait()


def _listens(path: Path) -> bool:
    """Whether somebody is there: a socket has its name before it takes callers."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        return caller.connect_ex(str(path)) == 0


class Peer:
    """Somebody on the bus, on a blocking socket: sends what it is told."""

    def __init__(self, bus: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(str(bus))
        self._decoder = Decoder()
        self._serial = 0
        self._send_line(f"\0AUTH EXTERNAL {str(os.geteuid()).encode().hex()}", "OK")
        self._send_line("NEGOTIATE_UNIX_FD", "AGREE_UNIX_FD")
        self._socket.sendall(b"BEGIN\r\n")
        self._ask("Hello")

    def own(self, name: str) -> None:
        self._ask("RequestName", "su", name, 4)

    def emit(self, member: str, signature: str, *body: Any, destination: str = "") -> None:
        self.send(Message(Kind.SIGNAL, 0, _PATH, MANAGER, member, destination=destination, signature=signature, body=body))

    def send(self, message: Message, fd: int | None = None) -> None:
        self._serial += 1
        numbered = Message(**{each: getattr(message, each) for each in Message.__slots__ if each != "serial"}, serial=self._serial)
        if fd is None:
            self._socket.sendall(encode(numbered))
        else:
            socket.send_fds(self._socket, [encode(numbered)], [fd])

    def received(self) -> list[Message]:
        """What came next; waits for it. Nothing when the bus is gone."""
        data = self._socket.recv(65536)
        return self._decoder.feed(data) if data else []

    async def serve(self, answer: Callable[[Message], None]) -> None:
        """For as long as there is a bus; whoever is called is asked no other thing meanwhile."""
        loop = asyncio.get_running_loop()
        self._socket.setblocking(False)
        while data := await loop.sock_recv(self._socket, 65536):
            for message in self._decoder.feed(data):
                if message.kind is Kind.CALL:
                    answer(message)

    def close(self) -> None:
        self._socket.close()

    def _ask(self, member: str, signature: str = "", *body: Any) -> None:
        bus = "org.freedesktop.DBus"
        self.send(Message(Kind.CALL, 0, "/org/freedesktop/DBus", bus, member, destination=bus, signature=signature, body=body))
        while not any(each.kind is Kind.RETURN for each in self.received()):
            pass

    def _send_line(self, line: str, expected: str) -> None:
        self._socket.sendall(f"{line}\r\n".encode())
        answer = self._socket.recv(1024).decode()
        assert answer.startswith(expected), answer


class Login:
    """Answers Inhibit with a pipe's end, InhibitDelayMaxUSec and systemd's KillUnit. `locked` and `released` tell of the lock."""

    def __init__(self, bus: Path, *, delay_seconds: float) -> None:
        self.peer = Peer(bus)
        self.peer.own(_LOGIN)
        self.peer.own("org.freedesktop.systemd1")
        self.delay_seconds = delay_seconds
        self.after_reload: float | None = None
        """The delay once the configuration was read again."""
        self.inhibited: list[tuple[Any, ...]] = []
        self.callers: list[str] = []
        self.is_preparing = False
        self.locked = asyncio.Event()
        self.released = asyncio.Event()
        self._task = asyncio.create_task(self.peer.serve(self._answer))

    def _answer(self, call: Message) -> None:
        match call.member:
            case "Inhibit":
                self.inhibited.append(call.body)
                self.callers.append(call.sender)
                ours, theirs = os.pipe()
                self._reply(call, "h", 0, fd=theirs)
                os.close(theirs)
                self.released.clear()
                asyncio.get_running_loop().add_reader(ours, self._let_go, ours)
                self.locked.set()
            case "Get" if call.body[1] == "PreparingForShutdown":
                self._reply(call, "v", ("b", self.is_preparing))
            case "Get":
                self._reply(call, "v", ("t", int(self.delay_seconds * 1e6)))
            case "KillUnit":
                assert call.body == ("systemd-logind.service", "all", 1)
                self.delay_seconds = self.after_reload or self.delay_seconds
                self._reply(call, "")
            case _:
                pass

    def _let_go(self, fd: int) -> None:
        asyncio.get_running_loop().remove_reader(fd)
        os.close(fd)
        self.locked.clear()
        self.released.set()

    def _reply(self, call: Message, signature: str, *body: Any, fd: int | None = None) -> None:
        reply = Message(
            Kind.RETURN, reply_serial=call.serial, destination=call.sender, signature=signature, body=body, fds=0 if fd is None else 1
        )
        self.peer.send(reply, fd)

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self.peer.close()
