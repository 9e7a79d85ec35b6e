"""Reference build of `pinnace.ext.frame`; `frame_c.pxd` gives it C types."""

from __future__ import annotations

from collections.abc import Iterable

from pinnace.ext.errors import FrameError
from pinnace.ext.records import Envelope

HEADER_BYTES = 10
MAX_PAYLOAD = 32 << 20
"""Bytes of protobuf that one frame may carry, both ways."""
_MAX_PAYLOAD = MAX_PAYLOAD

_PREFIX = b"\x01\x01\x01\x00\x01\x00"
"""Version 1.1.1.0, package type message, no flags. Readers do not look at them."""


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _text(key: int, value: str) -> bytes:
    if not value:
        return b""
    raw = value.encode()
    return bytes((key,)) + _varint(len(raw)) + raw


def _payload(message: Envelope) -> bytes:
    """The protobuf message. Fields 6 and 7 of the header and 5 of the route are ours; a reader that does not know them skips them."""
    timestamp = message.timestamp
    number = (timestamp << 1) ^ (timestamp >> 63)
    header = b"".join(
        (
            _text(0x0A, message.msg_id),
            _text(0x12, message.parent_id),
            b"\x18" + _varint(number) if number else b"",
            b"\x20\x01" if message.sync else b"",
            _text(0x32, message.resource_version),
            _text(0x3A, message.type),
        )
    )
    route = b"".join(
        (
            _text(0x0A, message.source),
            _text(0x12, message.group),
            _text(0x1A, message.operation),
            _text(0x22, message.resource),
            _text(0x2A, message.destination),
        )
    )
    body = message.body
    content = b"" if body == b"null" or not body else b"\x1a" + _varint(len(body)) + body
    return b"".join((b"\x0a", _varint(len(header)), header, b"\x12", _varint(len(route)), route, content))


def pack(envelopes: Iterable[Envelope]) -> bytes:
    """One packed frame after another. The body is carried as it is (`null` as an absent content).

    Raises FrameError when a message's payload is over `MAX_PAYLOAD`.
    """
    parts: list[bytes] = []
    for message in envelopes:
        payload = _payload(message)
        size = len(payload)
        if size > _MAX_PAYLOAD:
            raise FrameError(f"a message of {size} bytes is over the limit of {MAX_PAYLOAD} for one frame")
        parts.append(_PREFIX)
        parts.append(size.to_bytes(4, "big"))
        parts.append(payload)
    return b"".join(parts)


def _read_varint(text: bytes, at: int, end: int) -> tuple[int, int]:
    number = 0
    shift = 0
    while at < end and shift < 70:
        byte = text[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
    raise FrameError("a number in a frame breaks off or is too long")


def _fields(text: bytes, at: int, end: int) -> Iterable[tuple[int, int, int, int]]:
    """(key, number, start, stop) of each field; number counts for key type 0, start and stop for type 2."""
    while at < end:
        key, at = _read_varint(text, at, end)
        kind = key & 7
        if key >> 3 == 0:
            raise FrameError("a frame has a field without a number")
        if kind == 0:
            number, at = _read_varint(text, at, end)
            yield key, number, at, at
            continue
        if kind == 2:
            size, start = _read_varint(text, at, end)
        elif kind in (1, 5):
            size, start = (8 if kind == 1 else 4), at
        else:
            raise FrameError(f"a frame has a field of the unknown type {kind}")
        if size > end - start:
            raise FrameError("a field of a frame reaches beyond its end")
        at = start + size
        yield key, 0, start, at


_HEADER_FIELDS = {0x0A: "msg_id", 0x12: "parent_id", 0x32: "resource_version", 0x3A: "type"}
_ROUTE_FIELDS = {0x0A: "source", 0x12: "group", 0x1A: "operation", 0x22: "resource", 0x2A: "destination"}


def _unpack(text: bytes, at: int, end: int) -> Envelope:
    message = Envelope(msg_id="", operation="", resource="")
    for key, _, start, stop in _fields(text, at, end):
        if key == 0x1A:
            message.body = text[start:stop] or b"null"
        elif key in (0x0A, 0x12):
            names = _HEADER_FIELDS if key == 0x0A else _ROUTE_FIELDS
            for inner, number, first, last in _fields(text, start, stop):
                name = names.get(inner)
                if name is not None:
                    try:
                        setattr(message, name, text[first:last].decode())
                    except UnicodeDecodeError as error:
                        raise FrameError("a text in a frame is no UTF-8") from error
                elif key == 0x0A and inner == 0x18:
                    message.timestamp = (number >> 1) ^ -(number & 1)
                elif key == 0x0A and inner == 0x20:
                    message.sync = number != 0
    return message


class FrameReader:
    """Frames out of a stream of bytes, cut anywhere. Holds at most one unfinished frame."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._wanted = HEADER_BYTES

    def feed(self, data: bytes) -> list[Envelope]:
        """The messages that `data` completes. Raises FrameError; then the stream is beyond repair and must be closed."""
        if self._pending or len(data) < self._wanted:
            self._pending += data
            if len(self._pending) < self._wanted:
                return []
            data = bytes(self._pending)
            self._pending = bytearray()
        found: list[Envelope] = []
        at = 0
        size = len(data)
        while True:
            if size - at < HEADER_BYTES:
                self._wanted = HEADER_BYTES
                break
            length = int.from_bytes(data[at + 6 : at + 10], "big")
            if length > _MAX_PAYLOAD:
                raise FrameError(f"a frame announces {length} bytes, over the limit of {MAX_PAYLOAD}")
            if size - at - HEADER_BYTES < length:
                self._wanted = HEADER_BYTES + length
                break
            at += HEADER_BYTES
            found.append(_unpack(data, at, at + length))
            at += length
        self._pending += data[at:]
        return found
