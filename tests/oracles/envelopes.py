"""What Go's encoding/json makes of an envelope, by way of Python's json: slow, obvious, and not written by looking at the codec."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from pinnace.ext.records import Envelope

NO_SURROGATES = {**dict.fromkeys(range(0xD800, 0xE000), "\ufffd")}
FIELDS = {
    "header": {
        "msg_id": "msg_id",
        "parent_msg_id": "parent_id",
        "timestamp": "timestamp",
        "resourceversion": "resource_version",
        "sync": "sync",
        "type": "type",
    },
    "route": {name: name for name in ("source", "destination", "group", "operation", "resource")},
}


class Refused(ValueError):
    """Go would return an error."""


class Members(NamedTuple):
    """A JSON object with all its members, doubled ones too."""

    pairs: list[tuple[str, Any]]


class Numeral(NamedTuple):
    """A JSON number as it was written."""

    text: str


def _constant(name: str) -> Any:
    raise Refused(name)


_DECODER = json.JSONDecoder(object_pairs_hook=Members, parse_int=Numeral, parse_float=Numeral, parse_constant=_constant)


def loads(text: bytes) -> tuple[Any, int]:
    """The first value of `text`, and where it ends, counted in characters. Raises Refused."""
    characters = text.decode("utf-8", "surrogateescape")
    start = len(characters) - len(characters.lstrip(" \t\r\n"))
    try:
        return _DECODER.raw_decode(characters, start)
    except (ValueError, RecursionError) as error:
        raise Refused(str(error)) from error


def _set(message: Envelope, name: str, value: Any) -> None:
    if value is None:
        return
    if name == "timestamp":
        if not isinstance(value, Numeral) or not value.text.lstrip("-").isdigit() or not -(2**63) <= int(value.text) < 2**63:
            raise Refused(name)
        message.timestamp = int(value.text)
    elif name == "sync":
        if not isinstance(value, bool):
            raise Refused(name)
        message.sync = value
    elif isinstance(value, str):
        setattr(message, name, value.translate(NO_SURROGATES))
    else:
        raise Refused(name)


def _folded(key: str) -> str:
    return key.replace("\u017f", "s").lower()


def decode(text: bytes) -> tuple[Envelope, Any]:
    """The envelope without its body, and the body's value as `loads` gives it. Raises Refused."""
    value, _ = loads(text)
    if not isinstance(value, Members):
        raise Refused("no object")
    message = Envelope(msg_id="", operation="", resource="")
    content: Any = None
    for outer, inner in value.pairs:
        name = _folded(outer)
        if name == "content":
            content = inner
        elif name in FIELDS and inner is not None:
            if not isinstance(inner, Members):
                raise Refused(name)
            for key, each in inner.pairs:
                known = FIELDS[name].get(_folded(key))
                if known is not None:
                    _set(message, known, each)
    return message, content


def encode(message: Envelope) -> bytes:
    """What Go writes for the envelope, without the newline."""
    header: dict[str, Any] = {"msg_id": message.msg_id}
    if message.parent_id:
        header["parent_msg_id"] = message.parent_id
    header["timestamp"] = message.timestamp
    if message.resource_version:
        header["resourceversion"] = message.resource_version
    if message.sync:
        header["sync"] = True
    if message.type:
        header["type"] = message.type
    route = {name: getattr(message, name) for name in FIELDS["route"] if getattr(message, name)}
    text = json.dumps({"header": header, "route": route}, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    text = "".join("\\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text)
    return text[:-1].encode() + b',"content":' + (message.body or b"null") + b"}"
