"""SPDY/3.1 as Kubernetes speaks it after an upgrade: streams, headers, data, pings (SPDY Protocol, draft 3.1). Sans I/O, both sides.

Flow control is not part of it: neither kubectl nor the libraries of kubelets and container runtimes pace streams.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

_WORDS: Final = (
    "options", "head", "post", "put", "delete", "trace", "accept", "accept-charset", "accept-encoding", "accept-language", "accept-ranges",
    "age", "allow", "authorization", "cache-control", "connection", "content-base", "content-encoding", "content-language",
    "content-length", "content-location", "content-md5", "content-range", "content-type", "date", "etag", "expect", "expires", "from",
    "host", "if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "last-modified", "location",
    "max-forwards", "pragma", "proxy-authenticate", "proxy-authorization", "range", "referer", "retry-after", "server", "te", "trailer",
    "transfer-encoding", "upgrade", "user-agent", "vary", "via", "warning", "www-authenticate", "method", "get", "status", "200 OK",
    "version", "HTTP/1.1", "url", "public", "set-cookie", "keep-alive", "origin",
)  # fmt: skip
_TAIL: Final = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Authoritative Information"
    "204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error"
    "501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, "
    "Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,public"
    "privatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY: Final = b"".join(struct.pack(">I", len(word)) + word.encode() for word in _WORDS) + _TAIL.encode()
"""What header blocks are compressed with (2.6.10.1)."""

_FIN: Final = 1
_VERSION: Final = 0x8003
FRAME_BYTES: Final = 1 << 20
_HEADER_BYTES: Final = 64 << 10
CANCEL: Final = 5
REFUSED_STREAM: Final = 3


class Kind(IntEnum):
    """Control frames."""

    SYN_STREAM = 1
    SYN_REPLY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PING = 6
    GOAWAY = 7
    HEADERS = 8
    WINDOW_UPDATE = 9


class SpdyError(ValueError):
    """The other side breaks the protocol."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A new stream with its headers, names in lower case."""

    stream: int
    headers: Mapping[str, str]
    is_last: bool


@dataclass(frozen=True, slots=True)
class Received:
    stream: int
    data: bytes
    is_last: bool


@dataclass(frozen=True, slots=True)
class Reset:
    stream: int


@dataclass(frozen=True, slots=True)
class Leaving:
    """The other side will open no more streams."""


Event = Opened | Received | Reset | Leaving


class Spdy:
    """`receive` gives events; what is to be sent collects in `data_to_send`. Streams and pings of the side that asked for the upgrade
    (`is_client`) have odd numbers, those of the other even ones."""

    def __init__(self, *, is_client: bool = False) -> None:
        self._is_client = is_client
        self._next = 1 if is_client else 2
        self._input = bytearray()
        self._output: list[bytes] = []
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._deflate = zlib.compressobj(wbits=15, zdict=DICTIONARY)

    def data_to_send(self) -> bytes:
        data = b"".join(self._output)
        self._output.clear()
        return data

    def open(self, headers: Mapping[str, str], *, is_last: bool = False) -> int:
        """A new stream of ours, by its number; `is_last` ends our direction at once."""
        number = self._next
        self._next += 2
        self._control(Kind.SYN_STREAM, struct.pack(">IIH", number, 0, 0) + self._compressed(headers), flags=_FIN if is_last else 0)
        return number

    def reply(self, stream: int, headers: Mapping[str, str] | None = None) -> None:
        """Accept a stream."""
        block = self._compressed(headers or {})
        self._control(Kind.SYN_REPLY, struct.pack(">I", stream) + block)

    def send(self, stream: int, data: bytes, *, is_last: bool = False) -> None:
        size = len(data)
        assert size < 1 << 24, "the caller cuts data into chunks"
        self._output.append(struct.pack(">II", stream, (_FIN if is_last else 0) << 24 | size) + data)

    def reset(self, stream: int, status: int) -> None:
        self._control(Kind.RST_STREAM, struct.pack(">II", stream, status))

    def leave(self) -> None:
        self._control(Kind.GOAWAY, struct.pack(">II", 0, 0))

    def receive(self, data: bytes) -> list[Event]:
        """Raises SpdyError."""
        self._input += data
        events: list[Event] = []
        while len(self._input) >= 8:
            first, second = struct.unpack_from(">II", self._input)
            flags, size = second >> 24, second & 0xFFFFFF
            if size > FRAME_BYTES:
                raise SpdyError(f"a frame of {size} bytes; the bound is {FRAME_BYTES}")
            if len(self._input) < 8 + size:
                break
            body = bytes(self._input[8 : 8 + size])
            del self._input[: 8 + size]
            if first >> 31:
                self._take(first, flags, body, events)
            else:
                events.append(Received(first, body, bool(flags & _FIN)))
        return events

    def _take(self, first: int, flags: int, body: bytes, events: list[Event]) -> None:
        if first >> 16 != _VERSION:
            raise SpdyError(f"version {first >> 16 & 0x7FFF} where 3 was agreed on")
        try:
            match Kind(first & 0xFFFF):
                case Kind.SYN_STREAM:
                    (stream,) = struct.unpack_from(">I", body)
                    events.append(Opened(stream & 0x7FFFFFFF, self._headers(body[10:]), bool(flags & _FIN)))
                case Kind.SYN_REPLY | Kind.HEADERS:
                    self._headers(body[4:])  # keeps the decompression in step
                case Kind.RST_STREAM:
                    (stream,) = struct.unpack_from(">I", body)
                    events.append(Reset(stream & 0x7FFFFFFF))
                case Kind.PING:
                    (number,) = struct.unpack_from(">I", body)
                    if bool(number % 2) != self._is_client:  # theirs, not the answer to one of ours
                        self._control(Kind.PING, struct.pack(">I", number))
                case Kind.GOAWAY:
                    events.append(Leaving())
                case Kind.SETTINGS | Kind.WINDOW_UPDATE:
                    pass
        except (struct.error, ValueError) as error:
            raise SpdyError(f"control frame {first & 0xFFFF} cannot be read: {error}") from error

    def _headers(self, block: bytes) -> dict[str, str]:
        try:
            plain = self._inflate.decompress(block, _HEADER_BYTES)
        except zlib.error as error:
            raise SpdyError(f"headers cannot be decompressed: {error}") from error
        if self._inflate.unconsumed_tail:
            raise SpdyError(f"headers of more than {_HEADER_BYTES} bytes")
        headers: dict[str, str] = {}
        (count,), at = struct.unpack_from(">I", plain), 4
        for _ in range(count):
            texts = []
            for _ in range(2):
                (size,) = struct.unpack_from(">I", plain, at)
                if at + 4 + size > len(plain):
                    raise SpdyError("headers are cut off")
                texts.append(plain[at + 4 : at + 4 + size].decode("latin-1"))
                at += 4 + size
            headers[texts[0].lower()] = texts[1].split("\0")[0]
        return headers

    def _compressed(self, headers: Mapping[str, str]) -> bytes:
        parts = [struct.pack(">I", len(headers))]
        for name, value in headers.items():
            for text in (name.lower().encode("latin-1"), value.encode("latin-1")):
                parts += [struct.pack(">I", len(text)), text]
        return self._deflate.compress(b"".join(parts)) + self._deflate.flush(zlib.Z_SYNC_FLUSH)

    def _control(self, kind: Kind, body: bytes, *, flags: int = 0) -> None:
        self._output.append(struct.pack(">HHI", _VERSION, kind, flags << 24 | len(body)) + body)
