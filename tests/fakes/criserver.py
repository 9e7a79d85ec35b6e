"""A gRPC server on a unix socket that answers as told: for runtimes that this machine lacks (CRI-O), and for such as misbehave."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded, StreamReset, WindowUpdated
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

from pinnace.core.pods.cri.protobuf import Message


@dataclass
class Failure(Exception):
    """A gRPC status."""

    code: int
    message: str = ""


@dataclass
class Raw:
    """Bytes of the stream as they are, before the trailers."""

    content: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=lambda: [("grpc-status", "0")])
    http: str = "200"


Answer = Message | Raw | Failure
Method = Callable[[bytes], Answer | Awaitable[Answer]]


@dataclass
class Call:
    """A request being read; for a streaming method `push` sends one more message."""

    connection: _Connection
    number: int
    method: str
    body: bytearray = field(default_factory=bytearray)

    async def push(self, message: Message) -> None:
        await self.connection.send(self.number, framed(message.encode()))


def framed(content: bytes) -> bytes:
    return b"\0" + len(content).to_bytes(4, "big") + content


class _Connection(asyncio.Protocol):
    def __init__(self, server: CriServer) -> None:
        self._server = server
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self._calls: dict[int, Call] = {}
        self._room = asyncio.Event()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._server.connections.append(self)
        self.h2.local_settings = Settings(client=False, initial_values={SettingCodes.MAX_CONCURRENT_STREAMS: self._server.most_streams})
        self.h2.initiate_connection()
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.remove(self)
        self._room.set()

    def data_received(self, data: bytes) -> None:
        try:
            for event in self.h2.receive_data(data):
                match event:
                    case RequestReceived():
                        headers = {str(name): str(value) for name, value in event.headers or ()}
                        self._calls[event.stream_id or 0] = Call(self, event.stream_id or 0, headers[":path"].rpartition("/")[2])
                        self._server.headers.append(headers)
                    case DataReceived():
                        self._calls[event.stream_id or 0].body += event.data or b""
                        self.h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
                    case StreamEnded():
                        self._server.serve(self._calls[event.stream_id or 0])
                    case StreamReset():
                        self._server.resets += 1
                        self._room.set()
                    case WindowUpdated():
                        self._room.set()
                    case _:
                        pass
        except ProtocolError:
            self.close()
            return
        self.flush()

    def flush(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(self.h2.data_to_send())

    async def send(self, number: int, data: bytes) -> None:
        at = 0
        while at < len(data) and self.transport is not None and not self.transport.is_closing():
            size = min(self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size, len(data) - at)
            if size > 0:
                self.h2.send_data(number, data[at : at + size])
                at += size
                self.flush()
            else:
                self._room.clear()
                await self._room.wait()

    def goodbye(self) -> None:
        """HTTP/2's GOAWAY."""
        self.h2.close_connection()
        self.flush()

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()


class CriServer:
    """Starts in `async with`. `methods` by name; an unknown one is UNIMPLEMENTED. `streams` are given the call and send what they like."""

    def __init__(self, path: Path, *, most_streams: int = 100) -> None:
        self.path = path
        self.most_streams = most_streams
        self.methods: dict[str, Method] = {}
        self.streams: dict[str, Callable[[Call], Awaitable[None]]] = {}
        self.asked: list[tuple[str, bytes]] = []
        self.headers: list[dict[str, str]] = []
        self.connections: list[_Connection] = []
        self.resets = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def endpoint(self) -> str:
        return f"unix://{self.path}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        self.path.unlink(missing_ok=True)
        self._server = await asyncio.get_running_loop().create_unix_server(lambda: _Connection(self), str(self.path))

    async def stop(self) -> None:
        """Cut every connection."""
        if self._server is not None:
            self._server.close()
        for each in list(self.connections):
            each.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def serve(self, call: Call) -> None:
        self.asked.append((call.method, bytes(call.body[5:])))
        task = asyncio.create_task(self._serve(call))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, call: Call) -> None:
        connection, number = call.connection, call.number
        with contextlib.suppress(ProtocolError):
            answer: Answer
            if call.method in self.streams:
                connection.h2.send_headers(number, [(":status", "200"), ("content-type", "application/grpc")])
                connection.flush()
                try:
                    await self.streams[call.method](call)
                    trailers = [("grpc-status", "0")]
                except Failure as failure:
                    trailers = [("grpc-status", str(failure.code)), ("grpc-message", failure.message)]
                connection.h2.send_headers(number, trailers, end_stream=True)
                connection.flush()
                return
            method = self.methods.get(call.method)
            given = Failure(12, f"unknown method {call.method}") if method is None else method(bytes(call.body[5:]))
            answer = await given if isinstance(given, Awaitable) else given
            if isinstance(answer, Failure):
                answer = Raw(trailers=[("grpc-status", str(answer.code)), ("grpc-message", answer.message)])
            if isinstance(answer, Message):
                answer = Raw(framed(answer.encode()))
            connection.h2.send_headers(number, [(":status", answer.http), ("content-type", "application/grpc")])
            await connection.send(number, answer.content)
            connection.h2.send_headers(number, answer.trailers, end_stream=True)
            connection.flush()
