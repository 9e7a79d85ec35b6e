"""Protobuf (proto3) for messages declared as classes: as much of the encoding as CRI v1 uses, and no descriptors.

A declared class costs a few hundred bytes where a generated one costs kilobytes, which is why this is here and not the `protobuf` package.
A field's default is the class's attribute, so an instance holds only what was set or received.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Any, ClassVar, Final, Self, TypeVar, cast

from pinnace.core.base.errors import PinnaceError

_MASK: Final = (1 << 64) - 1
_SIGN: Final = 1 << 63
_NO_PAIRS: Final[Mapping[str, str]] = MappingProxyType({})
_VARINT, _FIXED64, _SIZED, _FIXED32 = 0, 1, 2, 5


class Malformed(PinnaceError):
    """The bytes are no protobuf message."""


class _Kind(Enum):
    TEXT = "string"
    BLOB = "bytes"
    SIGNED = "int32, int64 or an enum"
    UNSIGNED = "uint32 or uint64"
    FLAG = "bool"
    PART = "a message"
    PAIRS = "map<string, string>"


class _Field:
    __slots__ = ("default", "is_repeated", "kind", "name", "number", "part")

    def __init__(self, number: int, kind: _Kind, default: object, *, part: type[Message] | None = None, is_repeated: bool = False) -> None:
        self.number = number
        self.kind = kind
        self.default = default
        self.part = part
        self.is_repeated = is_repeated
        self.name = ""


class Message:
    """The base of messages. A subclass declares fields as `name: str = text(1)`; unknown fields are passed over when decoding."""

    _by_number: ClassVar[Mapping[int, _Field]] = MappingProxyType({})
    _by_name: ClassVar[Mapping[str, _Field]] = MappingProxyType({})

    def __init_subclass__(cls) -> None:
        fields = {name: value for name, value in vars(cls).items() if isinstance(value, _Field)}
        for name, each in fields.items():
            each.name = name
            setattr(cls, name, each.default)
        cls._by_name = fields
        cls._by_number = {each.number: each for each in fields.values()}

    def __init__(self, **values: Any) -> None:
        for name in values:
            if name not in self._by_name:
                raise TypeError(f"{type(self).__name__} has no field {name}")
        self.__dict__.update(values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Message) and type(self) is type(other) and self.encode() == other.encode()

    __hash__ = None  # type: ignore[assignment] # changeable, as bytes in the making are

    def encode(self) -> bytes:
        out = bytearray()
        for name, each in self._by_name.items():
            value = self.__dict__.get(name)
            if value is not None:
                _write(out, each, value)
        return bytes(out)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises Malformed."""
        message = cls()
        values = message.__dict__
        at = 0
        while at < len(data):
            key, at = _varint(data, at)
            wire = key & 7
            if key < 8:
                raise Malformed("field number 0")
            known = cls._by_number.get(key >> 3)
            if wire == _SIZED:
                size, at = _varint(data, at)
                if size > len(data) - at:
                    raise Malformed("cut off within a field")
                if known is not None:
                    _take_sized(values, known, data[at : at + size])
                at += size
            elif wire == _VARINT:
                number, at = _varint(data, at)
                if known is not None:
                    _take_number(values, known, number)
            elif wire in (_FIXED64, _FIXED32):
                at += 8 if wire == _FIXED64 else 4
                if at > len(data):
                    raise Malformed("cut off within a field")
            else:
                raise Malformed(f"wire type {wire}")
        return message


M = TypeVar("M", bound=Message)


def text(number: int) -> str:
    return cast("str", _Field(number, _Kind.TEXT, ""))


def texts(number: int) -> tuple[str, ...]:
    return cast("tuple[str, ...]", _Field(number, _Kind.TEXT, (), is_repeated=True))


def blob(number: int) -> bytes:
    return cast("bytes", _Field(number, _Kind.BLOB, b""))


def signed(number: int) -> int:
    """int32, int64 or an enum."""
    return cast("int", _Field(number, _Kind.SIGNED, 0))


def signeds(number: int) -> tuple[int, ...]:
    return cast("tuple[int, ...]", _Field(number, _Kind.SIGNED, (), is_repeated=True))


def unsigned(number: int) -> int:
    """uint32 or uint64."""
    return cast("int", _Field(number, _Kind.UNSIGNED, 0))


def flag(number: int) -> bool:
    return cast("bool", _Field(number, _Kind.FLAG, default=False))


def pairs(number: int) -> Mapping[str, str]:
    """map<string, string>"""
    return cast("Mapping[str, str]", _Field(number, _Kind.PAIRS, _NO_PAIRS))


def part(number: int, kind: type[M]) -> M | None:
    return cast("M | None", _Field(number, _Kind.PART, None, part=kind))


def parts(number: int, kind: type[M]) -> tuple[M, ...]:
    return cast("tuple[M, ...]", _Field(number, _Kind.PART, (), part=kind, is_repeated=True))


def _put(out: bytearray, number: int) -> None:
    number &= _MASK
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)


def _put_sized(out: bytearray, number: int, content: bytes) -> None:
    _put(out, number << 3 | _SIZED)
    _put(out, len(content))
    out += content


def _bytes(kind: _Kind, value: Any) -> bytes:
    match kind:
        case _Kind.TEXT:
            return cast("str", value).encode()
        case _Kind.PART:
            return cast("Message", value).encode()
        case _:
            return cast("bytes", value)


def _write(out: bytearray, each: _Field, value: Any) -> None:
    if each.kind is _Kind.PAIRS:
        for key, said in value.items():
            entry = bytearray()
            _put_sized(entry, 1, key.encode())
            _put_sized(entry, 2, said.encode())
            _put_sized(out, each.number, bytes(entry))
    elif each.kind in (_Kind.TEXT, _Kind.BLOB, _Kind.PART):
        for one in value if each.is_repeated else (value,):
            content = _bytes(each.kind, one)
            if content or each.is_repeated or each.kind is _Kind.PART:
                _put_sized(out, each.number, content)
    elif each.is_repeated:
        packed = bytearray()
        for one in value:
            _put(packed, one)
        if packed:
            _put_sized(out, each.number, bytes(packed))
    elif value:
        _put(out, each.number << 3 | _VARINT)
        _put(out, int(value))


def _varint(data: bytes, at: int) -> tuple[int, int]:
    total = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise Malformed("cut off within a number")
        byte = data[at]
        at += 1
        total |= (byte & 0x7F) << shift
        if byte < 0x80:
            return total & _MASK, at
    raise Malformed("a number of more than ten bytes")


def _number(kind: _Kind, number: int) -> int | bool:
    if kind is _Kind.FLAG:
        return number != 0
    return number - (_MASK + 1) if kind is _Kind.SIGNED and number & _SIGN else number


def _take_number(values: dict[str, Any], each: _Field, number: int) -> None:
    if each.kind not in (_Kind.SIGNED, _Kind.UNSIGNED, _Kind.FLAG):
        return
    value = _number(each.kind, number)
    values[each.name] = (*values.get(each.name, ()), value) if each.is_repeated else value


def _take_sized(values: dict[str, Any], each: _Field, content: bytes) -> None:
    value: object
    match each.kind:
        case _Kind.TEXT:
            value = content.decode(errors="replace")
        case _Kind.BLOB:
            value = content
        case _Kind.PART:
            assert each.part is not None
            value = each.part.decode(content)
        case _Kind.PAIRS:
            entry = _Entry.decode(content)
            values.setdefault(each.name, {})[entry.key] = entry.value
            return
        case _:
            if each.is_repeated:
                values[each.name] = (*values.get(each.name, ()), *_packed(each.kind, content))
            return
    values[each.name] = (*values.get(each.name, ()), value) if each.is_repeated else value


def _packed(kind: _Kind, content: bytes) -> list[int]:
    found = []
    at = 0
    while at < len(content):
        number, at = _varint(content, at)
        found.append(_number(kind, number))
    return found


class _Entry(Message):
    key: str = text(1)
    value: str = text(2)
