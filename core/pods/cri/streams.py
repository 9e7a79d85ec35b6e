"""Exec, attach and port-forward: the runtime's streaming server behind our `Stream` and `Connection`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, Self

from pinnace.core.base.runtime import RuntimeFailed
from pinnace.core.base.tunnel.duplex import StreamDuplex
from pinnace.core.base.tunnel.spdy import SpdyError
from pinnace.core.base.tunnel.spdystreams import SpdySession, SpdyStream
from pinnace.core.pods.cri.upgrade import connect

REMOTE_COMMAND: Final = "v4.channel.k8s.io"
PORT_FORWARD: Final = "portforward.k8s.io"
_KILLED: Final = "signal: killed"
"""How CRI-O says that a command went with its container."""
_LEAVE_SECONDS: Final = 5.0
"""What is written and not sent yet has so long to go out."""


class _Open:
    """A connection and the task that reads it, from entering to leaving."""

    def __init__(self, address: Callable[[], Awaitable[str]], protocol: str) -> None:
        self._address = address
        self._protocol = protocol
        self._writer: asyncio.StreamWriter | None = None
        self._running: asyncio.Task[None] | None = None

    async def _connect(self) -> SpdySession:
        reader, self._writer = await connect(await self._address(), self._protocol)
        session = SpdySession(StreamDuplex(reader, self._writer))
        self._running = asyncio.create_task(_run(session), name="runtime stream")
        return session

    async def __aexit__(self, *exc: object) -> None:
        if self._writer is not None:
            self._writer.close()  # and no waiting: a runtime that reads no more must not hold up whoever leaves, nor keep the connection
            asyncio.get_running_loop().call_later(_LEAVE_SECONDS, self._writer.transport.abort)
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)


async def _run(session: SpdySession) -> None:
    """However it ends, whoever reads from a stream sees its end."""
    with contextlib.suppress(SpdyError, OSError):
        await session.run()


async def _write(stream: SpdyStream | None, data: bytes) -> None:
    """Nothing happens when there is no such stream, or it has ended."""
    if stream is not None and not stream.is_closed:
        with contextlib.suppress(OSError):
            await stream.write(data)


class CommandStream(_Open):
    """Implements `Stream`. `address` asks the runtime for the URL and says whether there is a terminal."""

    def __init__(self, address: Callable[[], Awaitable[tuple[str, bool]]], *, stdin: bool, is_attach: bool) -> None:
        super().__init__(self._url, REMOTE_COMMAND)
        self._ask = address
        self._has_stdin = stdin
        self._is_attach = is_attach
        self._tty = False
        self._stdin: SpdyStream | None = None
        self._resize: SpdyStream | None = None
        self._outputs: list[tuple[int, SpdyStream]] = []
        self._error: SpdyStream | None = None
        self._exit_code: asyncio.Task[int] | None = None

    async def _url(self) -> str:
        url, self._tty = await self._ask()
        return url

    async def __aenter__(self) -> Self:
        session = await self._connect()
        try:
            self._error = await session.open({"streamType": "error"}, is_written=False)
            if self._has_stdin:
                self._stdin = await session.open({"streamType": "stdin"})
            self._outputs = [(1, await session.open({"streamType": "stdout"}, is_written=False))]
            if not self._tty:
                self._outputs.append((2, await session.open({"streamType": "stderr"}, is_written=False)))
            else:
                self._resize = await session.open({"streamType": "resize"})
        except BaseException:
            await super().__aexit__()
            raise
        self._exit_code = asyncio.create_task(self._verdict(self._error), name="exit code of a command")
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._exit_code is not None:
            self._exit_code.cancel()
            await asyncio.gather(self._exit_code, return_exceptions=True)
        await super().__aexit__(*exc)

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """(1, stdout) and (2, stderr) as they come."""
        waiting = {asyncio.create_task(channel.read()): (number, channel) for number, channel in self._outputs}
        try:
            while waiting:
                done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for each in done:
                    number, channel = waiting.pop(each)
                    data = each.result()
                    if data:
                        waiting[asyncio.create_task(channel.read())] = (number, channel)
                        yield number, data
        finally:
            for task in waiting:
                task.cancel()

    async def write(self, data: bytes) -> None:
        await _write(self._stdin, data)

    async def close_stdin(self) -> None:
        if self._stdin is not None:
            await self._stdin.end()

    async def resize(self, columns: int, rows: int) -> None:
        await _write(self._resize, json.dumps({"Width": columns, "Height": rows}).encode())

    async def wait(self) -> int:
        """Raises RuntimeFailed when the command could not be run or its end was not seen."""
        assert self._exit_code is not None, "wait outside of the context"
        return await asyncio.shield(self._exit_code)

    async def _verdict(self, channel: SpdyStream) -> int:
        said = bytearray()
        while data := await channel.read():
            said += data[: 65536 - len(said)]
        return 0 if self._is_attach else exit_code(bytes(said))


def exit_code(said: bytes) -> int:
    """Of the error stream: a Kubernetes Status, with the exit code as a cause when there was one. Raises RuntimeFailed."""
    try:
        status: Any = json.loads(said)
        if status.get("status") == "Success":
            return 0
        for cause in (status.get("details") or {}).get("causes") or ():
            if cause.get("reason") == "ExitCode":
                return int(cause["message"])
        message = str(status.get("message", ""))
    except (ValueError, AttributeError, TypeError, KeyError):
        message = said.decode(errors="replace")
    if message.endswith(_KILLED):
        return 128 + signal.SIGKILL
    raise RuntimeFailed(f"the command did not run to its end: {message[:1024] or 'the container runtime broke off the stream'}")


class PortStream(_Open):
    """Implements `Connection`."""

    def __init__(self, address: Callable[[], Awaitable[str]], port: int) -> None:
        super().__init__(address, PORT_FORWARD)
        self._port = port
        self._data: SpdyStream | None = None
        self._error: SpdyStream | None = None
        self._rest = b""
        self._is_over = False

    async def __aenter__(self) -> Self:
        session = await self._connect()
        try:
            names = {"port": str(self._port), "requestID": "0"}
            self._error = await session.open({**names, "streamType": "error"}, is_written=False)
            self._data = await session.open({**names, "streamType": "data"})
        except BaseException:
            await super().__aexit__()
            raise
        return self

    async def read(self, most: int = 65536) -> bytes:
        """b"" at the end. Raises RuntimeFailed when nothing listens there."""
        assert self._data is not None, "read outside of the context"
        if not self._rest and not self._is_over:
            self._rest = await self._data.read()
            if not self._rest:
                self._is_over = True
                await self._complain()
        data, self._rest = self._rest[:most], self._rest[most:]
        return data

    async def _complain(self) -> None:
        """At the end of the data: what the runtime says went wrong, if anything; it says so before or soon after."""
        assert self._error is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                said = await self._error.read()
                if said:
                    raise RuntimeFailed(f"port {self._port}: {said.decode(errors='replace')[:1024]}")

    async def write(self, data: bytes) -> None:
        assert self._data is not None, "write outside of the context"
        await _write(self._data, data)

    async def close_write(self) -> None:
        assert self._data is not None, "close_write outside of the context"
        await self._data.end()
