"""One call of grpc.health.v1 Health/Check: a unary call over HTTP/2 without TLS. `h2` is imported on the first one."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

if TYPE_CHECKING:
    from h2.connection import H2Connection

SERVING: Final = 1
_STATUSES: Final = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
_PATH: Final = "/grpc.health.v1.Health/Check"
_UNIMPLEMENTED: Final = "12"
_ANSWER_BYTES: Final = 4 << 10


class HealthFailed(Exception):
    """No health status was had; the message says why."""


async def check(host: str, port: int, service: str, *, timeout_seconds: float, user_agent: str) -> str:
    """The service's status: SERVING, NOT_SERVING, ... Raises HealthFailed."""
    at = f"{host}:{port}"
    try:
        async with asyncio.timeout(timeout_seconds):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                return await _ask(reader, writer, at, service, user_agent)
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    writer.transport.abort()
    except TimeoutError as error:
        raise HealthFailed(f'timeout: failed to connect service "{at}" within {timeout_seconds:g} s') from error
    except OSError as error:
        raise HealthFailed(f'error: failed to connect service "{at}": {error}') from error


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, at: str, service: str, user_agent: str) -> str:
    from h2.config import H2Configuration
    from h2.connection import H2Connection
    from h2.exceptions import ProtocolError

    connection = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
    connection.initiate_connection()
    stream = connection.get_next_available_stream_id()
    try:
        connection.send_headers(
            stream,
            [
                (":method", "POST"),
                (":scheme", "http"),
                (":path", _PATH),
                (":authority", at),
                ("te", "trailers"),
                ("content-type", "application/grpc"),
                ("user-agent", user_agent),
            ],
        )
        request = _request(service)
        connection.send_data(stream, b"\0" + len(request).to_bytes(4, "big") + request, end_stream=True)
        return await _answer(connection, reader, writer)
    except ProtocolError as error:
        raise HealthFailed(f'error: "{at}" does not speak HTTP/2: {error}') from error


async def _answer(connection: H2Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    from h2 import events

    body = b""
    while True:
        writer.write(connection.data_to_send())
        data = await reader.read(65536)
        if not data:
            raise HealthFailed("error: the connection was closed before an answer")
        for event in connection.receive_data(data):
            match event:
                case events.ResponseReceived() | events.TrailersReceived():
                    _refused({str(name): str(value) for name, value in event.headers or ()})
                case events.DataReceived():
                    body += event.data or b""
                    if len(body) > _ANSWER_BYTES:
                        raise HealthFailed("error: the answer is no health status: it is too large")
                case events.StreamEnded():
                    return _status(body)
                case events.StreamReset() | events.ConnectionTerminated():
                    raise HealthFailed(f"error: the call was refused with HTTP/2 error {int(event.error_code or 0)}")
                case _:
                    pass


def _refused(headers: dict[str, str]) -> None:
    """Raise HealthFailed when response headers or trailers say so."""
    if headers.get(":status", "200") != "200":
        raise HealthFailed(f"error: health rpc failed with HTTP status {headers[':status']}")
    code = headers.get("grpc-status", "0")
    if code == _UNIMPLEMENTED:
        raise HealthFailed("error: this server does not implement the grpc health protocol (grpc.health.v1.Health)")
    if code != "0":
        raise HealthFailed(f"error: health rpc failed with code {code}: {unquote(headers.get('grpc-message', ''))[:300]}")


def _request(service: str) -> bytes:
    """HealthCheckRequest: field 1, the service's name (the probe's limit keeps its length to two bytes)."""
    name = service.encode()
    length = len(name)
    size = bytes((length,)) if length < 0x80 else bytes((length & 0x7F | 0x80, length >> 7))
    return b"\x0a" + size + name if name else b""


def _status(body: bytes) -> str:
    """HealthCheckResponse in a gRPC frame: field 1, a number."""
    message = body[5 : 5 + int.from_bytes(body[1:5], "big")]
    if len(body) < 5 or body[0]:
        raise HealthFailed("error: the answer is no health status")
    number = message[1] if len(message) >= 2 and message[0] == 0x08 else 0
    return _STATUSES[number] if number < len(_STATUSES) else f"status {number}"
