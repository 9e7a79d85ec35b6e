"""gRPC over HTTP/2 on a unix socket: unary calls and server streams, as much of it as CRI v1 asks for. Bytes by h2, policy none.

One connection carries all calls at once. It is made when first needed and made anew after it broke; a call that was under way then fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Final, cast
from urllib.parse import unquote

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

from pinnace.core.base.errors import LinkError, PinnaceError
from pinnace.core.pods.cri.protobuf import M, Malformed, Message

logging.getLogger("hpack").setLevel(logging.INFO)  # below that it tells of every byte of every header

DEADLINE_EXCEEDED: Final = 4
NOT_FOUND: Final = 5
RESOURCE_EXHAUSTED: Final = 8
UNIMPLEMENTED: Final = 12
UNAVAILABLE: Final = 14

MOST_BYTES: Final = 34 << 20
"""Of one message: two streams of 16 MiB that a command may have said, and a little."""
_WINDOW: Final = 1 << 20
_MOST_WAITING: Final = 64
"""Messages of a stream that nobody took yet; with more the other side has to wait, within its stream's window."""
_CONNECT_SECONDS: Final = 5.0
_HTTP_CODES: Final = {400: 13, 401: 16, 403: 7, 404: UNIMPLEMENTED, 429: UNAVAILABLE, 502: UNAVAILABLE, 503: UNAVAILABLE}


class CallFailed(PinnaceError):
    """The other side answered with a gRPC status; `code` is its number."""

    retryable = True

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message or f"gRPC status {code}")
        self.code = code


class Unreachable(LinkError):
    """No connection, or it broke under the call."""


class _Call:
    """One stream's answer as it comes in."""

    __slots__ = ("_failure", "_pending", "is_over", "messages", "news", "number", "owed", "status", "was_answered")

    def __init__(self, number: int) -> None:
        self.number = number
        self.messages: deque[bytes] = deque()
        self.news = asyncio.Event()
        self.is_over = False
        self.status: CallFailed | None = None
        self.was_answered = False
        self.owed = 0
        """Bytes of the window that are given back once messages were taken."""
        self._pending = bytearray()
        self._failure: PinnaceError | None = None

    def take(self, data: bytes) -> None:
        """Cut messages out of the stream: one byte compression, four bytes length, the message."""
        if self.status is not None:
            return
        self._pending += data
        while len(self._pending) >= 5:
            size = int.from_bytes(self._pending[1:5], "big")
            if self._pending[0] or size > MOST_BYTES:
                what = "a compressed message, though none was offered" if self._pending[0] else f"a message of {size} bytes"
                self.fail(CallFailed(RESOURCE_EXHAUSTED, f"the runtime sent {what}"))
                return
            if len(self._pending) < 5 + size:
                return
            self.messages.append(bytes(self._pending[5 : 5 + size]))
            del self._pending[: 5 + size]
            self.news.set()

    def answered(self, headers: dict[str, str]) -> None:
        """Headers or trailers; the status comes with the last of them."""
        http = headers.get(":status", "200")
        if http != "200":
            self.status = CallFailed(_HTTP_CODES.get(int(http) if http.isdecimal() else 0, 2), f"HTTP status {http}")
        if "grpc-status" in headers:
            code = headers["grpc-status"]
            self.was_answered = True
            self.status = (
                None if code == "0" else CallFailed(int(code) if code.isdecimal() else 2, unquote(headers.get("grpc-message", "")))
            )

    def finish(self) -> None:
        self.is_over = True
        self.news.set()

    def fail(self, error: PinnaceError) -> None:
        if not self.is_over:
            self._failure = error
            self.finish()

    def verdict(self) -> PinnaceError | None:
        """After the end: what went wrong, if anything."""
        if self._failure is not None:
            return self._failure
        if self.status is not None:
            return self.status
        return None if self.was_answered else CallFailed(2, "the runtime ended the call without a status")

    def credit(self, size: int) -> int:
        """How many bytes of the window to give back now, after `size` more came (0: after a message was taken)."""
        self.owed += size
        if len(self.messages) > _MOST_WAITING:
            return 0
        size, self.owed = self.owed, 0
        return size

    async def next(self) -> bytes | None:
        """The next message; None at the good end. Raises CallFailed, Unreachable."""
        while not self.messages:
            if self.is_over:
                error = self.verdict()
                if error is not None:
                    raise error
                return None
            self.news.clear()
            await self.news.wait()
        return self.messages.popleft()


class _Connection(asyncio.Protocol):
    """Feeds h2 and flushes what it has to say."""

    def __init__(self) -> None:
        config = H2Configuration(client_side=True, header_encoding="utf-8", validate_inbound_headers=False)
        self._h2 = H2Connection(config)
        self._calls: dict[int, _Call] = {}
        self._transport: asyncio.Transport | None = None
        self._room = asyncio.Event()
        self.is_open = False
        self.greeted = asyncio.Event()
        """The other side has said how many calls it takes at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._h2.local_settings = Settings(
            client=True, initial_values={SettingCodes.INITIAL_WINDOW_SIZE: _WINDOW, SettingCodes.ENABLE_PUSH: 0}
        )
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(4 * _WINDOW)
        self.is_open = True
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._drop("the runtime closed the connection; it may be restarting")

    def data_received(self, data: bytes) -> None:
        try:
            for event in self._h2.receive_data(data):
                self._on(event)
        except (ProtocolError, ValueError) as error:
            self._drop(f"the runtime does not speak HTTP/2 ({error})")
            return
        self._flush()

    def _on(self, event: Event) -> None:
        match event:
            case ConnectionTerminated():
                self._drop("the runtime said goodbye; it may be restarting")
            case RemoteSettingsChanged():
                self.greeted.set()
                self._room.set()
            case WindowUpdated():
                self._room.set()
            case ResponseReceived() | TrailersReceived() | DataReceived() | StreamEnded() | StreamReset():
                call = self._calls.get(event.stream_id or 0)
                if call is not None:
                    self._on_stream(call, event.stream_id or 0, event)
                if isinstance(event, DataReceived):
                    size = event.flow_controlled_length or 0
                    self._acknowledge(event.stream_id or 0, size if call is None else call.credit(size))
            case _:
                pass

    def _on_stream(self, call: _Call, number: int, event: Event) -> None:
        match event:
            case ResponseReceived() | TrailersReceived():
                call.answered({str(name): str(value) for name, value in event.headers or ()})
            case DataReceived():
                call.take(event.data or b"")
            case StreamReset():
                call.fail(CallFailed(UNAVAILABLE, f"the runtime broke off the call (HTTP/2 error {event.error_code})"))
                self._forget(number)
            case _:
                call.finish()
                self._forget(number)

    def _acknowledge(self, number: int, size: int) -> None:
        if size and self.is_open:
            self._h2.acknowledge_received_data(size, number)

    def taken(self, call: _Call) -> None:
        """A message of a call was taken: what came meanwhile may be followed by more."""
        self._acknowledge(call.number, call.credit(0))
        self._flush()

    def _forget(self, number: int) -> None:
        self._calls.pop(number, None)
        self._room.set()

    def _drop(self, why: str) -> None:
        calls, self._calls = self._calls, {}
        for each in calls.values():
            each.fail(Unreachable(why))
        self.close()
        self.greeted.set()
        self._room.set()

    def _flush(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(self._h2.data_to_send())

    def close(self) -> None:
        self.is_open = False
        if self._transport is not None:
            self._transport.close()

    @contextlib.asynccontextmanager
    async def call(self, method: str, request: bytes, timeout: float | None) -> AsyncIterator[_Call]:
        """Send a request; leaving the context before the end cancels the call."""
        while self.is_open and self._h2.open_outbound_streams >= self._h2.remote_settings.max_concurrent_streams:
            await self._wait_for_room()
        if not self.is_open:
            raise Unreachable("the runtime closed the connection; it may be restarting")
        number = self._h2.get_next_available_stream_id()
        call = self._calls[number] = _Call(number)
        headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", method),
            (":authority", "localhost"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", "pinnace"),
        ]
        if timeout is not None:
            headers.append(("grpc-timeout", f"{max(1, min(int(timeout * 1000), 99_999_999))}m"))
        try:
            self._h2.send_headers(number, headers)
            await self._send(number, b"\0" + len(request).to_bytes(4, "big") + request)
            yield call
        finally:
            if self._calls.pop(number, None) is not None:
                with contextlib.suppress(ProtocolError):
                    self._h2.reset_stream(number, ErrorCodes.CANCEL)
            self._acknowledge(number, call.owed)  # the window is that of all calls
            self._flush()
            self._room.set()

    async def _send(self, number: int, body: bytes) -> None:
        at = 0
        while at < len(body) and number in self._calls:
            size = min(self._h2.local_flow_control_window(number), self._h2.max_outbound_frame_size, len(body) - at)
            if size <= 0:
                self._flush()
                await self._wait_for_room()
                continue
            self._h2.send_data(number, body[at : at + size], end_stream=at + size == len(body))
            at += size
        self._flush()

    async def _wait_for_room(self) -> None:
        self._room.clear()
        await self._room.wait()


class Channel:
    """Calls to one socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: _Connection | None = None
        self._connecting = asyncio.Lock()

    async def call(self, method: str, request: Message, answer: type[M], *, timeout: float | None) -> M:
        """One request, one answer. Raises CallFailed, also (DEADLINE_EXCEEDED) when `timeout` seconds were not enough, and Unreachable."""
        try:
            async with asyncio.timeout(timeout):
                connection = await self._connected()
                async with connection.call(method, request.encode(), timeout) as call:
                    content = await call.next()
                    if content is None:
                        raise CallFailed(2, "the runtime ended the call without an answer")
                    if await call.next() is not None:
                        raise CallFailed(2, "the runtime gave more than one answer")
        except TimeoutError:
            raise CallFailed(DEADLINE_EXCEEDED, f"no answer within {timeout:g} s") from None
        return _decoded(answer, content)

    async def stream(self, method: str, request: Message, answer: type[M]) -> AsyncGenerator[M, None]:
        """One request, many answers. Raises CallFailed, Unreachable."""
        connection = await self._connected()
        async with connection.call(method, request.encode(), None) as call:
            while (content := await call.next()) is not None:
                connection.taken(call)
                yield _decoded(answer, content)

    async def _connected(self) -> _Connection:
        async with self._connecting:
            if self._connection is None or not self._connection.is_open:
                loop = asyncio.get_running_loop()
                connection = _Connection()
                try:
                    async with asyncio.timeout(_CONNECT_SECONDS):
                        await loop.create_unix_connection(lambda: connection, str(self.path))
                        await connection.greeted.wait()
                except (OSError, TimeoutError) as error:
                    connection.close()
                    raise Unreachable(f"nothing answers on {self.path} ({str(error) or 'time-out'})") from error
                except BaseException:
                    connection.close()
                    raise
                self._connection = connection
            return self._connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


def _decoded(kind: type[M], content: bytes) -> M:
    try:
        return kind.decode(content)
    except Malformed as error:
        raise CallFailed(2, f"the runtime's answer cannot be read: {error}") from error
