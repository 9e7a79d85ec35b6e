"""Protobuf request bodies of newer kubectl into the JSON form of the same object; the server never answers in protobuf.

A body is `k8s\\0` and an Unknown message: 1 is the type (1 apiVersion, 2 kind), 2 the object's own message. data/protobuf.json, kept by
hand, holds each message: field number → JSON name ("" when the field's members belong to the parent) and type. Go writes fields that are
no pointers even when they say nothing; those are dropped here. Source: Kubernetes API, protobuf; Protocol Buffers encoding.
"""

from __future__ import annotations

import base64
import datetime
import functools
import json
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

import orjson

from pinnace.cloud.standalone.status import ApiError, bad_request

MAGIC = b"k8s\0"
_FIXED64 = 1
_MEANINGLESS_ZEROS = frozenset({
    "generation", "stdin", "stdinOnce", "tty", "hostNetwork", "hostPID", "hostIPC", "readOnly", "hostPort", "nodePort", "minReadySeconds",
    "paused", "healthCheckNodePort", "publishNotReadyAddresses", "initialDelaySeconds", "timeoutSeconds", "periodSeconds",
    "successThreshold", "failureThreshold", "targetPort",
})  # fmt: skip


@functools.cache
def _messages() -> Mapping[str, Mapping[int, tuple[str, str]]]:
    loaded: dict[str, dict[str, tuple[str, str]]] = json.loads(files(__package__).joinpath("data/protobuf.json").read_text())
    return {name: {int(number): (field[0], field[1]) for number, field in fields.items()} for name, fields in loaded.items()}


def decode(body: bytes) -> dict[str, Any]:
    """The object in a body, with apiVersion and kind. Raises ApiError 400 for what is no such body, 415 for kinds not in the table."""
    if not body.startswith(MAGIC):
        raise bad_request("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")
    try:
        envelope = dict(_fields(body[len(MAGIC) :]))
        head = {number: _bytes(value).decode() for number, value in _fields(_bytes(envelope.get(1, b"")))}
        api_version, kind = head.get(1, ""), head.get(2, "")
        group, _, version = api_version.rpartition("/")
        name = f"{group.partition('.')[0] or 'core'}.{version}.{kind}"
        if name not in _messages():
            raise ApiError(415, f"this server does not read {kind} of {api_version} from protobuf; send application/json")
        return {"apiVersion": api_version, "kind": kind, **_message(_bytes(envelope.get(2, b"")), name)}
    except (ValueError, IndexError, OverflowError) as error:
        raise bad_request(f"the protobuf body cannot be decoded: {error}") from None


def _fields(raw: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Field numbers and raw values of one message. Raises ValueError, IndexError."""
    at = 0
    while at < len(raw):
        tag, at = _varint(raw, at)
        value: int | bytes
        match tag & 7:
            case 0:
                value, at = _varint(raw, at)
            case 2:
                size, at = _varint(raw, at)
                value, at = raw[at : at + size], at + size
            case 1 | 5 as width:
                size = 8 if width == _FIXED64 else 4
                value, at = int.from_bytes(raw[at : at + size], "little"), at + size
            case other:
                raise ValueError(f"wire type {other}")
        if at > len(raw):
            raise ValueError("cut short")
        yield tag >> 3, value


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = raw[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
    raise ValueError("a number of more than ten bytes")


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number where bytes belong")  # noqa: TRY004 - one error for all malformed bodies
    return value


def _message(raw: bytes, name: str) -> dict[str, Any]:
    known = _messages()[name]
    result: dict[str, Any] = {}
    for number, value in _fields(raw):
        if number not in known:
            continue
        field, kind = known[number]
        if not field:
            result |= _message(_bytes(value), kind)
        elif kind.startswith("[]"):
            result.setdefault(field, []).append(_value(value, kind[2:]))
        elif kind.startswith("{}"):
            entry = dict(_fields(_bytes(value)))
            result.setdefault(field, {})[_bytes(entry.get(1, b"")).decode()] = _value(entry.get(2, b""), kind[2:])
        else:
            _put(result, field, _value(value, kind))
    return result


def _put(result: dict[str, Any], field: str, value: Any) -> None:
    says_nothing = (
        value is None or value == "" or (field == "status" and value == {}) or (field in _MEANINGLESS_ZEROS and value in (0, False))
    )
    if not says_nothing:
        result[field] = value


def _value(value: int | bytes, kind: str) -> Any:
    match kind:
        case "string" | "bytes":
            raw = _bytes(value)
            return raw.decode() if kind == "string" else base64.b64encode(raw).decode()
        case "bool" | "int32" | "int64":
            if isinstance(value, bytes):
                raise ValueError("bytes where a number belongs")  # noqa: TRY004 - one error for all malformed bodies
            return bool(value) if kind == "bool" else _signed(value)
        case "meta.v1.Time" | "meta.v1.MicroTime":
            return _time(_bytes(value), has_micros=kind.endswith("MicroTime"))
        case "api.resource.Quantity":
            return _bytes(dict(_fields(_bytes(value))).get(1, b"")).decode()
        case "util.intstr.IntOrString":
            parts = dict(_fields(_bytes(value)))
            return _bytes(parts.get(3, b"")).decode() if parts.get(1) else _signed(int(parts.get(2) or 0))
        case "meta.v1.FieldsV1":
            return orjson.loads(_bytes(dict(_fields(_bytes(value))).get(1, b"{}")))
        case "authentication.v1.ExtraValue":
            return [_bytes(each).decode() for number, each in _fields(_bytes(value)) if number == 1]
        case _:
            return _message(_bytes(value), kind)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _time(raw: bytes, *, has_micros: bool) -> str | None:
    parts = dict(_fields(raw))
    if not parts:
        return None
    seconds, nanos = _signed(int(parts.get(1) or 0)), int(parts.get(2) or 0)
    when = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(seconds=seconds, microseconds=nanos // 1000)
    text = when.replace(tzinfo=None).isoformat(timespec="microseconds" if has_micros else "seconds")
    return f"{text}Z"
