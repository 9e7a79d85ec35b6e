"""Just enough protobuf, written by hand and without haste: fields to bytes and bytes to fields."""

from __future__ import annotations

from collections.abc import Iterable

from pinnace.ext.records import Envelope

Value = int | bytes
Field = tuple[int, Value]

HEADER_TEXTS = {1: "msg_id", 2: "parent_id", 6: "resource_version", 7: "type"}
ROUTE_TEXTS = {1: "source", 2: "group", 3: "operation", 4: "resource", 5: "destination"}


def varint(number: int) -> bytes:
    groups = [number >> shift & 0x7F for shift in range(0, max(number.bit_length(), 1), 7)]
    return bytes([group | 0x80 for group in groups[:-1]] + groups[-1:])


def written(fields: Iterable[Field]) -> bytes:
    """Numbers become kind 0, bytes kind 2."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:
            out += varint(number << 3 | 2) + varint(len(value)) + value
    return out


def read(text: bytes) -> list[Field]:
    """The reverse, for text that is known to be good."""

    def number_at(at: int) -> tuple[int, int]:
        stop = next(position for position in range(at, len(text)) if text[position] < 0x80) + 1
        return sum((byte & 0x7F) << 7 * place for place, byte in enumerate(text[at:stop])), stop

    found: list[Field] = []
    at = 0
    while at < len(text):
        key, at = number_at(at)
        number, at = number_at(at)
        if key & 7 == 0:
            found.append((key >> 3, number))
        else:
            assert key & 7 == 2
            found.append((key >> 3, text[at : at + number]))
            at += number
    return found


def frame(payload: bytes) -> bytes:
    return bytes.fromhex("010101000100") + len(payload).to_bytes(4, "big") + payload


def packed(message: Envelope) -> bytes:
    """The frame of an envelope: proto3, empty fields left out, fields in ascending order."""
    zigzag = 2 * message.timestamp if message.timestamp >= 0 else -2 * message.timestamp - 1
    header: dict[int, Value] = {number: getattr(message, name).encode() for number, name in HEADER_TEXTS.items()}
    header |= {3: zigzag, 4: int(message.sync)}
    route: dict[int, Value] = {number: getattr(message, name).encode() for number, name in ROUTE_TEXTS.items()}
    body = b"" if message.body == b"null" else message.body
    fields: list[Field] = [
        (number, written((key, part[key]) for key in sorted(part) if part[key])) for number, part in ((1, header), (2, route))
    ]
    return frame(written([*fields, *([(3, body)] if body else [])]))


class Refused(ValueError):
    """No good protobuf."""


def fields(text: bytes) -> list[tuple[int, Value]]:
    """(key, value) of each field of any text, values of 4 and 8 bytes as bytes. Raises Refused."""
    rest = bytearray(reversed(text))

    def number() -> int:
        total = 0
        for place in range(10):
            if not rest:
                break
            byte = rest.pop()
            total += (byte & 0x7F) << 7 * place
            if byte < 0x80:
                return total % 2**64
        raise Refused("number")

    found: list[tuple[int, Value]] = []
    while rest:
        key = number()
        if key < 8 or key & 7 not in (0, 1, 2, 5):
            raise Refused("key")
        if key & 7 == 0:
            found.append((key, number()))
            continue
        size = {1: 8, 5: 4}[key & 7] if key & 7 != 2 else number()
        if size > len(rest):
            raise Refused("size")
        found.append((key, bytes(rest.pop() for _ in range(size))))
    return found


def meaning(payload: bytes) -> Envelope:
    """What one payload says. Raises Refused."""
    message = Envelope(msg_id="", operation="", resource="")
    for key, value in fields(payload):
        if key == 3 << 3 | 2 and isinstance(value, bytes):
            message.body = value or b"null"
        elif key in (1 << 3 | 2, 2 << 3 | 2) and isinstance(value, bytes):
            names = HEADER_TEXTS if key == 1 << 3 | 2 else ROUTE_TEXTS
            for inner, each in fields(value):
                if isinstance(each, bytes) and inner & 7 == 2 and inner >> 3 in names:
                    try:
                        setattr(message, names[inner >> 3], each.decode())
                    except UnicodeDecodeError as error:
                        raise Refused("text") from error
                elif isinstance(each, int) and names is HEADER_TEXTS and inner == 3 << 3:
                    message.timestamp = each // 2 if each % 2 == 0 else -(each + 1) // 2
                elif isinstance(each, int) and names is HEADER_TEXTS and inner == 4 << 3:
                    message.sync = each != 0
    return message


def stream(text: bytes) -> tuple[list[Envelope], bool]:
    """The messages at the beginning of a stream, and whether nothing in it is bad; it may end anywhere."""
    found: list[Envelope] = []
    while len(text) >= 10:
        size = int.from_bytes(text[6:10], "big")
        if size > 32 << 20:
            return found, False
        if len(text) < 10 + size:
            break
        try:
            found.append(meaning(text[10 : 10 + size]))
        except Refused:
            return found, False
        text = text[10 + size :]
    return found, True
