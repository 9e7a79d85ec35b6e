"""D-Bus messages as bytes (D-Bus specification, message protocol). Pure: no socket.

A value is a number, a text or a bool; an array is a list, a struct a tuple, an entry of a dictionary a pair. A variant is sent as a pair of
its type and its value, and read as the value alone.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from pinnace.core.base.errors import PinnaceError

_BOUND: Final = 1 << 20
"""A message that claims to be larger is none of those we ask for; the specification allows 128 MiB."""
_FIXED: Final = {
    "y": ("B", 1), "n": ("h", 2), "q": ("H", 2), "b": ("I", 4), "h": ("I", 4), "i": ("i", 4), "u": ("I", 4),
    "t": ("Q", 8), "x": ("q", 8), "d": ("d", 8),
}  # fmt: skip
_CLOSED: Final = {"(": ")", "{": "}"}
_FIELD_TYPES: Final = {1: "o", 2: "s", 3: "s", 4: "s", 5: "u", 6: "s", 7: "s", 8: "g", 9: "u"}
_ENDS: Final = {ord("l"): "<", ord("B"): ">"}


class DbusFailed(PinnaceError):
    """The bus or the other side said no, or spoke in a way we do not know; `name` is the error's."""

    retryable = True

    def __init__(self, message: str, *, name: str = "") -> None:
        super().__init__(message)
        self.name = name


class Kind(IntEnum):
    CALL = 1
    RETURN = 2
    ERROR = 3
    SIGNAL = 4


class _Field(IntEnum):
    PATH = 1
    INTERFACE = 2
    MEMBER = 3
    ERROR_NAME = 4
    REPLY_SERIAL = 5
    DESTINATION = 6
    SENDER = 7
    SIGNATURE = 8
    UNIX_FDS = 9


@dataclass(frozen=True, slots=True)
class Message:
    """`body` has one value for each complete type of `signature`; `fds` says how many descriptors travel beside it."""

    kind: Kind
    serial: int = 0
    path: str = ""
    interface: str = ""
    member: str = ""
    error: str = ""
    reply_serial: int = 0
    destination: str = ""
    sender: str = ""
    signature: str = ""
    body: tuple[Any, ...] = ()
    fds: int = 0


def encode(message: Message) -> bytes:
    """Little-endian."""
    fields: list[tuple[int, Any]] = [
        (_Field.PATH, message.path),
        (_Field.INTERFACE, message.interface),
        (_Field.MEMBER, message.member),
        (_Field.ERROR_NAME, message.error),
        (_Field.REPLY_SERIAL, message.reply_serial),
        (_Field.DESTINATION, message.destination),
        (_Field.SIGNATURE, message.signature),
        (_Field.UNIX_FDS, message.fds),
    ]
    head = bytearray()
    for number, value in fields:
        if value:
            _pad(head, 8)
            head.append(number)
            _put(head, "g", _FIELD_TYPES[number])
            _put(head, _FIELD_TYPES[number], value)
    body = bytearray()
    for kind, value in zip(types_of(message.signature), message.body, strict=True):
        _put(body, kind, value)
    start = bytearray(struct.pack("<BBBBIII", ord("l"), message.kind, 0, 1, len(body), message.serial, len(head)))
    start += head
    _pad(start, 8)
    return bytes(start + body)


def types_of(signature: str) -> list[str]:
    """The complete types a signature is made of: "sa(sv)" is s and a(sv). Raises ValueError, IndexError."""
    found, at = [], 0
    while at < len(signature):
        end = _behind(signature, at)
        found.append(signature[at:end])
        at = end
    return found


def _behind(signature: str, at: int) -> int:
    """Where the complete type that begins at `at` ends."""
    kind = signature[at]
    if kind == "a":
        return _behind(signature, at + 1)
    if kind not in _CLOSED:
        if kind not in _FIXED and kind not in "sogv":
            raise ValueError(f"unknown type {kind!r}")
        return at + 1
    end = at + 1
    while signature[end] != _CLOSED[kind]:
        end = _behind(signature, end)
    if end == at + 1:
        raise ValueError("a struct of nothing")
    return end + 1


class Decoder:
    """Bytes in, messages out."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """The messages that are complete now. Raises DbusFailed; then the connection is to be closed."""
        self._data += data
        found = []
        while (size := self._size()) is not None and len(self._data) >= size:
            message = bytes(self._data[:size])
            del self._data[:size]
            try:
                found.append(_decoded(message))
            except (struct.error, UnicodeDecodeError, KeyError, ValueError, IndexError, TypeError, RecursionError) as error:
                raise DbusFailed(f"malformed message from the bus: {error}") from error
        return found

    def _size(self) -> int | None:
        if len(self._data) < 16:
            return None
        if self._data[0] not in _ENDS:
            raise DbusFailed("malformed message from the bus: unknown byte order")
        end = _ENDS[self._data[0]]
        body, _, fields = struct.unpack_from(f"{end}III", self._data, 4)
        size = int(-(-(16 + fields) // 8) * 8 + body)
        if size > _BOUND:
            raise DbusFailed(f"a message of {size} bytes from the bus")
        return size


def _decoded(data: bytes) -> Message:
    end = _ENDS[data[0]]
    body_size, serial, fields_size = struct.unpack_from(f"{end}III", data, 4)
    reader = _Reader(data, 16, end)
    fields: dict[int, Any] = {}
    while reader.at < 16 + fields_size:
        reader.align(8)
        number = reader.value("y")
        fields[number] = reader.value(reader.value("g"))
    signature = str(fields.get(_Field.SIGNATURE, ""))
    reader.at = len(data) - body_size
    types = types_of(signature)
    body = [reader.value(each) for each in types] if body_size else []
    return Message(
        Kind(data[1]),
        serial,
        fields.get(_Field.PATH, ""),
        fields.get(_Field.INTERFACE, ""),
        fields.get(_Field.MEMBER, ""),
        fields.get(_Field.ERROR_NAME, ""),
        fields.get(_Field.REPLY_SERIAL, 0),
        fields.get(_Field.DESTINATION, ""),
        fields.get(_Field.SENDER, ""),
        signature,
        tuple(body),
        fields.get(_Field.UNIX_FDS, 0),
    )


class _Reader:
    """Reads values at `at`; alignment counts from the start of `data`, whose body starts at a multiple of eight."""

    def __init__(self, data: bytes, at: int, end: str) -> None:
        self._data = data
        self.at = at
        self._end = end

    def align(self, to: int) -> None:
        self.at = -(-self.at // to) * to

    def value(self, kind: str) -> Any:
        if kind in _FIXED:
            code, size = _FIXED[kind]
            self.align(size)
            (number,) = struct.unpack_from(self._end + code, self._data, self.at)
            self.at += size
            return bool(number) if kind == "b" else number
        match kind[0]:
            case "g":
                return self._text(self.value("y"))
            case "s" | "o":
                return self._text(self.value("u"))
            case "a":
                return self._array(kind[1:])
            case "(" | "{":
                self.align(8)
                return tuple(self.value(each) for each in types_of(kind[1:-1]))
            case "v":
                (inner,) = types_of(self.value("g"))
                return self.value(inner)
            case _:
                raise ValueError(f"unknown type {kind!r}")

    def _array(self, kind: str) -> list[Any]:
        size = self.value("u")
        self.align(_alignment(kind))
        end = self.at + size
        if end > len(self._data):
            raise ValueError("an array beyond the message's end")
        found = []
        while self.at < end:
            found.append(self.value(kind))
        return found

    def _text(self, size: int) -> str:
        data = self._data[self.at : self.at + size]
        if len(data) < size:
            raise ValueError("a text beyond the message's end")
        self.at += size + 1
        return data.decode()


def _put(data: bytearray, kind: str, value: Any) -> None:
    if kind in _FIXED:
        code, size = _FIXED[kind]
        _pad(data, size)
        data += struct.pack(f"<{code}", value)
        return
    match kind[0]:
        case "g":
            data += bytes((len(value),)) + str(value).encode() + b"\0"
        case "s" | "o":
            text = str(value).encode()
            _put(data, "u", len(text))
            data += text + b"\0"
        case "a":
            _put(data, "u", 0)
            at = len(data)
            _pad(data, _alignment(kind[1:]))
            start = len(data)
            for each in value:
                _put(data, kind[1:], each)
            struct.pack_into("<I", data, at - 4, len(data) - start)
        case "(" | "{":
            _pad(data, 8)
            for inner, each in zip(types_of(kind[1:-1]), value, strict=True):
                _put(data, inner, each)
        case "v":
            inner, content = value
            _put(data, "g", inner)
            _put(data, inner, content)
        case _:
            raise ValueError(f"unknown type {kind!r}")


def _alignment(kind: str) -> int:
    """Of a value of this type, in bytes."""
    if kind in _FIXED:
        return _FIXED[kind][1]
    return {"g": 1, "v": 1, "s": 4, "o": 4, "a": 4, "(": 8, "{": 8}[kind[0]]


def _pad(data: bytearray, to: int) -> None:
    data += bytes(-len(data) % to)
