"""The cloud's port 10002 as the edge uses it: one HTTPS request a connection (docs/protocol.md, Joining).

HTTP/1.0 on purpose: the answer ends with the connection and is never chunked.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from dataclasses import dataclass, field
from typing import Final

from pinnace.core.base.errors import LinkError, RefusedError
from pinnace.core.hub.settings import Endpoint

SECONDS: Final = 15.0
"""For one request altogether."""
BODY_LIMIT: Final = 1 << 20
_HEAD_LIMIT: Final = 64 << 10
_NOT_YET_VALID: Final = 9
_HOSTNAME_MISMATCH: Final = frozenset({62, 64})


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    date: str = field(default="", compare=False)
    """When, by the server's clock (HTTP, RFC 9110 5.6.7)."""

    @property
    def text(self) -> str:
        """The beginning of the body for people."""
        return self.body[:300].decode(errors="replace").strip()


async def get(server: Endpoint, path: str, context: ssl.SSLContext, *, headers: dict[str, str] | None = None, body: bytes = b"") -> Answer:
    """GET `path`, with a body where there is one. Raises LinkError when there is no answer, RefusedError when the server's certificate
    is not accepted."""
    lines = [f"GET {path} HTTP/1.0", f"Host: {server}", *(f"{name}: {value}" for name, value in (headers or {}).items())]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    request = "\r\n".join([*lines, "", ""]).encode("latin-1") + body
    try:
        async with asyncio.timeout(SECONDS):
            return await _exchange(server, context, request)
    except ssl.SSLCertVerificationError as error:
        raise RefusedError(f"https://{server}: {certificate_advice(error)}") from error
    except TimeoutError as error:
        raise LinkError(f"https://{server} does not answer") from error
    except (OSError, EOFError) as error:
        raise LinkError(f"https://{server} cannot be reached: {reason_of(error)}") from error


async def _exchange(server: Endpoint, context: ssl.SSLContext, request: bytes) -> Answer:
    reader, writer = await asyncio.open_connection(server.host, server.port, ssl=context, limit=_HEAD_LIMIT)
    try:
        writer.write(request)
        await writer.drain()
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError as error:
            raise LinkError(f"https://{server} does not speak HTTP") from error
        first, *rest = head.decode("latin-1").split("\r\n")
        words = first.split(" ", 2)
        if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
            raise LinkError(f"https://{server} does not speak HTTP")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in reversed(rest))}
        length = int(fields.get("content-length", -1))
        if length > BODY_LIMIT:
            raise LinkError(f"https://{server} answered with {length} bytes")
        body = await reader.readexactly(length) if length >= 0 else await reader.read(BODY_LIMIT)
        return Answer(int(words[1]), body, fields.get("date", ""))
    except ValueError as error:
        raise LinkError(f"https://{server} does not speak HTTP") from error
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def certificate_advice(error: ssl.SSLCertVerificationError) -> str:
    """What to do about a server's certificate that was not accepted."""
    said = error.verify_message or str(error)
    if error.verify_code in _HOSTNAME_MISMATCH:
        return f"{said}; add this address to advertiseAddress (or dnsNames) of cloudcore"
    if error.verify_code == _NOT_YET_VALID:
        return f"{said}; set this machine's clock"
    return f"{said}; was the cloud set up anew? Then join again with its new token"


def reason_of(error: BaseException) -> str:
    """An error as a few words."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    if isinstance(error, asyncio.IncompleteReadError):
        return "the connection was closed in the middle of the answer"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
