"""HTTP/1.1 as probes and hooks need it: one GET, status and the first bytes of the body, on asyncio's streams.

Nothing is verified over TLS, as Kubernetes says of probes. Redirects are followed while they stay on the same host.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import quote, urljoin, urlsplit

BODY_BYTES: Final = 10 << 10
USER_AGENT: Final = "kube-probe/1.32"
_HEAD_BYTES: Final = 64 << 10
_REDIRECTS: Final = 10
_FOLLOWED: Final = frozenset({301, 302, 303, 307, 308})
_AS_IS: Final = "/?#[]@!$&'()*+,;=%:-._~"


class HttpFailed(Exception):
    """No answer, or none that is HTTP; the message says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`body` is at most 10 KiB. `left_for` is the other host a redirect led to, "" otherwise; it was not followed."""

    status: int
    body: bytes
    left_for: str = ""


async def get(url: str, headers: Sequence[tuple[str, str]] = (), *, timeout_seconds: float) -> Answer:
    """The answer to a GET. `headers` may hold a Host. Raises HttpFailed; every way is at its end after the timeout."""
    try:
        async with asyncio.timeout(timeout_seconds):
            return await _followed(url, headers)
    except TimeoutError as error:
        raise HttpFailed(f'Get "{url}": no answer within {timeout_seconds:g} s') from error


def address(scheme: str, host: str, port: int, path: str) -> str:
    """The URL of a httpGet action; `path` may hold a query."""
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return f"{scheme.lower() or 'http'}://{host}:{port}/{quote(path.removeprefix('/'), safe=_AS_IS)}"


async def _followed(url: str, headers: Sequence[tuple[str, str]]) -> Answer:
    first = urlsplit(url).hostname
    for _ in range(_REDIRECTS):
        try:
            status, location, body = await _once(url, headers)
        except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise HttpFailed(f'Get "{url}": {str(error) or type(error).__name__}') from error
        if status not in _FOLLOWED or not location:
            return Answer(status, body)
        url = urljoin(url, location)
        there = urlsplit(url)
        if there.hostname != first or there.scheme not in ("http", "https"):
            return Answer(status, body, left_for=there.hostname or url[:200])
    raise HttpFailed(f'Get "{url}": stopped after {_REDIRECTS} redirects')


async def _once(url: str, headers: Sequence[tuple[str, str]]) -> tuple[int, str, bytes]:
    """(status, Location, body). Raises OSError, ValueError, IncompleteReadError, LimitOverrunError."""
    parts = urlsplit(url)
    is_tls = parts.scheme == "https"
    host, port = parts.hostname or "", parts.port or (443 if is_tls else 80)
    context = _unverified() if is_tls else None
    reader, writer = await asyncio.open_connection(host, port, ssl=context, limit=_HEAD_BYTES)
    try:
        writer.write(_request(parts.path or "/", parts.query, parts.netloc.rpartition("@")[2], headers))
        status, fields = await _head(reader)
        return status, fields.get("location", ""), await _body(reader, status, fields)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            writer.transport.abort()  # nothing is left to say, and nobody waits for a peer that does not listen


def _request(path: str, query: str, netloc: str, headers: Sequence[tuple[str, str]]) -> bytes:
    named = {name.lower() for name, _ in headers}
    lines = [f"GET {path}{'?' + query if query else ''} HTTP/1.1"]
    if "host" not in named:
        lines.append(f"Host: {netloc}")
    if "user-agent" not in named:
        lines.append(f"User-Agent: {USER_AGENT}")
    if "accept" not in named:
        lines.append("Accept: */*")
    lines += [f"{name}: {value}" for name, value in headers if value or name.lower() not in ("accept", "user-agent")]
    lines.append("Connection: close")
    if any("\r" in line or "\n" in line or "\0" in line for line in lines):
        raise ValueError("a header or the path holds a line break: correct the probe's httpGet")
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    while True:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        words = lines[0].split(" ", 2)
        if not words[0].startswith("HTTP/1.") or len(words) < 2 or not words[1].isdigit():
            raise ValueError(f"malformed HTTP response {lines[0][:60]!r}")
        status = int(words[1])
        if not 100 <= status < 200:
            break
    fields = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        fields[name.strip().lower()] = value.strip()
    return status, fields


async def _body(reader: asyncio.StreamReader, status: int, fields: dict[str, str]) -> bytes:
    if status in (204, 304):
        return b""
    if "chunked" in fields.get("transfer-encoding", "").lower():
        return await _chunks(reader)
    length = fields.get("content-length", "")
    if length.isdigit():
        return await reader.readexactly(min(int(length), BODY_BYTES))
    return await _some(reader, BODY_BYTES)


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while len(body) < BODY_BYTES:
        size = int((await reader.readuntil(b"\n")).split(b";")[0], 16)
        if size <= 0:
            break
        body += await reader.readexactly(min(size, BODY_BYTES - len(body)))
        if len(body) < BODY_BYTES:
            await reader.readexactly(2)
    return body


async def _some(reader: asyncio.StreamReader, most: int) -> bytes:
    body = b""
    while len(body) < most and (more := await reader.read(most - len(body))):
        body += more
    return body


@lru_cache(maxsize=1)
def _unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
