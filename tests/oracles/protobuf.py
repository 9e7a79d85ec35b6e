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
