# cython: annotation_typing=False
"""Reference build of `pinnace.ext.frame`; `frame_c.pxd` gives it C types."""

from __future__ import annotations

from collections.abc import Iterable

from pinnace.ext import records
from pinnace.ext.errors import FrameError

HEADER_BYTES = 10
_HEADER_BYTES = HEADER_BYTES
MAX_PAYLOAD = 32 << 20
"""Bytes of protobuf that one frame may carry, both ways."""
_MAX_PAYLOAD = MAX_PAYLOAD
_ALL_BITS = 0xFFFFFFFFFFFFFFFF

_EMPTY_HEADER = b"\x01\x01\x01\x00\x01\x00\x00\x00\x00\x00"
"""Version 1.1.1.0, package type message, no flags (readers do not look at them), and a length of 0."""

_NUMBER = 0
_EIGHT_BYTES = 1
_BYTES = 2
_FOUR_BYTES = 5

# Keys as they stand on the wire: field number and kind in one byte.
_HEADER = 0x0A
_ROUTE = 0x12
_CONTENT = 0x1A
_MSG_ID = 0x0A
_PARENT_ID = 0x12
_TIMESTAMP = 0x18
_SYNC = 0x20
_RESOURCE_VERSION = 0x32
_TYPE = 0x3A
_SOURCE = 0x0A
_GROUP = 0x12
_OPERATION = 0x1A
_RESOURCE = 0x22
_DESTINATION = 0x2A


# --- Writing ---


def _put_number(out: bytearray, number: int) -> None:
    """Append a varint."""
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)


def _put_text(out: bytearray, key: int, text: str) -> None:
    """Append a field of text, nothing when it is empty."""
    if text:
        raw = text.encode()
        out.append(key)
        _put_number(out, len(raw))
        out += raw


def _zigzag(number: int) -> int:
    return (number << 1) ^ (number >> 63)


def _put_size(out: bytearray, start: int) -> None:
    """Write how much stands in `out` from `start` on into the byte before it, or into as many as that takes."""
    size = len(out) - start
    if size <= 0x7F:
        out[start - 1] = size
    else:
        digits = bytearray()
        _put_number(digits, size)
        out[start - 1 : start] = digits


def _put_fields(out: bytearray, message: records.Envelope) -> None:
    """Append header and route. Fields 6 and 7 of the header and 5 of the route are ours; readers that do not know them skip them."""
    out.append(_HEADER)
    out.append(0)
    start = len(out)
    _put_text(out, _MSG_ID, message.msg_id)
    _put_text(out, _PARENT_ID, message.parent_id)
    number = _zigzag(message.timestamp)
    if number:
        out.append(_TIMESTAMP)
        _put_number(out, number)
    if message.sync:
        out.append(_SYNC)
        out.append(1)
    _put_text(out, _RESOURCE_VERSION, message.resource_version)
    _put_text(out, _TYPE, message.type)
    _put_size(out, start)
    out.append(_ROUTE)
    out.append(0)
    start = len(out)
    _put_text(out, _SOURCE, message.source)
    _put_text(out, _GROUP, message.group)
    _put_text(out, _OPERATION, message.operation)
    _put_text(out, _RESOURCE, message.resource)
    _put_text(out, _DESTINATION, message.destination)
    _put_size(out, start)


def pack(envelopes: Iterable[records.Envelope]) -> bytes:
    """One packed frame after another. The body is carried as it is (`null` as an absent content).

    Raises FrameError when a message's payload is over `MAX_PAYLOAD`.
    """
    parts: list[bytes | bytearray] = []
    for message in envelopes:
        head = bytearray(_EMPTY_HEADER)
        _put_fields(head, message)
        body = message.body
        if body == b"null":
            body = b""
        if body:
            head.append(_CONTENT)
            _put_number(head, len(body))
        size = len(head) - _HEADER_BYTES + len(body)
        if size > _MAX_PAYLOAD:
            raise FrameError(f"a message of {size} bytes is over the limit of {MAX_PAYLOAD} for one frame")
        head[6] = size >> 24
        head[7] = size >> 16 & 0xFF
        head[8] = size >> 8 & 0xFF
        head[9] = size & 0xFF
        parts.append(head)
        parts.append(body)
    return b"".join(parts)


# --- Reading: positions in, positions out ---


def _after_number(text: bytes, at: int, end: int) -> int:
    """The position after the varint that begins at `at`. Raises FrameError."""
    stop = min(at + 10, end)
    while at < stop:
        if text[at] < 0x80:
            return at + 1
        at += 1
    raise FrameError("a number in a frame breaks off or is too long")


def _number(text: bytes, at: int, stop: int) -> int:
    """The varint text[at:stop], modulo 2**64."""
    number = 0
    shift = 0
    while at < stop:
        digits = text[at] & 0x7F
        number |= digits << shift
        shift += 7
        at += 1
    return number & _ALL_BITS


class FrameReader:
    """Frames out of a stream of bytes, cut anywhere. Holds at most one unfinished frame."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._wanted = _HEADER_BYTES
        self._key = 0
        self._start = 0

    def _field(self, text: bytes, at: int, end: int) -> int:
        """The position after the field that begins at `at`; sets `_key`, and `_start`, where its value begins. Raises FrameError."""
        key = text[at]
        start = at + 1
        if key >= 0x80:
            start = _after_number(text, at, end)
            key = _number(text, at, start)
        if key >> 3 == 0:
            raise FrameError("a frame has a field without a number")
        self._key = key
        self._start = start
        kind = key & 7
        if kind == _NUMBER:
            return _after_number(text, start, end)
        if kind == _BYTES:
            at = start
            start = _after_number(text, at, end)
            self._start = start
            number = _number(text, at, start)
            if number >> 31:
                raise FrameError("a field of a frame reaches beyond its end")
            size = number
        elif kind == _EIGHT_BYTES:
            size = 8
        elif kind == _FOUR_BYTES:
            size = 4
        else:
            raise FrameError(f"a frame has a field of the unknown type {kind}")
        if size > end - start:
            raise FrameError("a field of a frame reaches beyond its end")
        return start + size

    def _header(self, text: bytes, at: int, end: int, message: records.Envelope) -> None:
        while at < end:
            at = self._field(text, at, end)
            key = self._key
            start = self._start
            if key == _MSG_ID:
                message.msg_id = text[start:at].decode("utf-8")
            elif key == _PARENT_ID:
                message.parent_id = text[start:at].decode("utf-8")
            elif key == _TIMESTAMP:
                number = _number(text, start, at)
                half = number >> 1
                message.timestamp = -1 - half if number & 1 else half
            elif key == _SYNC:
                message.sync = _number(text, start, at) != 0
            elif key == _RESOURCE_VERSION:
                message.resource_version = text[start:at].decode("utf-8")
            elif key == _TYPE:
                message.type = text[start:at].decode("utf-8")

    def _route(self, text: bytes, at: int, end: int, message: records.Envelope) -> None:
        while at < end:
            at = self._field(text, at, end)
            key = self._key
            start = self._start
            if key == _SOURCE:
                message.source = text[start:at].decode("utf-8")
            elif key == _GROUP:
                message.group = text[start:at].decode("utf-8")
            elif key == _OPERATION:
                message.operation = text[start:at].decode("utf-8")
            elif key == _RESOURCE:
                message.resource = text[start:at].decode("utf-8")
            elif key == _DESTINATION:
                message.destination = text[start:at].decode("utf-8")

    def _message(self, text: bytes, at: int, end: int) -> records.Envelope:
        """The envelope in the protobuf message text[at:end]. Unknown fields are skipped, doubled ones merged. Raises FrameError."""
        message = records.empty_envelope()
        while at < end:
            at = self._field(text, at, end)
            key = self._key
            start = self._start
            if key == _HEADER:
                self._header(text, start, at, message)
            elif key == _ROUTE:
                self._route(text, start, at, message)
            elif key == _CONTENT:
                message.body = text[start:at] if at > start else b"null"
        return message

    def feed(self, data: bytes) -> list[records.Envelope]:
        """The messages that `data` completes. Raises FrameError; then the stream is beyond repair and must be closed."""
        if self._pending or len(data) < self._wanted:
            self._pending += data
            if len(self._pending) < self._wanted:
                return []
            data = bytes(self._pending)
            self._pending = bytearray()
        found: list[records.Envelope] = []
        text = data
        at = 0
        size = len(data)
        while True:
            if size - at < _HEADER_BYTES:
                self._wanted = _HEADER_BYTES
                break
            length = text[at + 6]
            length = length << 24 | text[at + 7] << 16 | text[at + 8] << 8 | text[at + 9]
            if length > _MAX_PAYLOAD:
                raise FrameError(f"a frame announces {length} bytes, over the limit of {MAX_PAYLOAD}")
            if size - at - _HEADER_BYTES < length:
                self._wanted = _HEADER_BYTES + length
                break
            at += _HEADER_BYTES
            try:
                found.append(self._message(text, at, at + length))
            except UnicodeDecodeError as error:
                raise FrameError("a text in a frame is no UTF-8") from error
            at += length
        if at < size:
            self._pending += data[at:]
        return found
