"""The JSON shapes of device twins on MQTT and on the cloud link, read as tolerantly as KubeEdge reads them (docs/protocol.md, devices).

Reading follows Go's rules: keys match in any case, unknown ones are skipped, the last of a doubled key counts, null is absence, and a
value of the wrong type is an error. Writing follows them too: fields in declared order, maps sorted, `<`, `>` and `&` escaped.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson

from pinnace.core.base.contract.moments import moment
from pinnace.ext.errors import TwinError

NAME: Final = re.compile(r"[a-zA-Z0-9\-_.,:/@#]{1,128}")
"""A property's name; use `fullmatch`."""
VALUE: Final = re.compile(r"[a-zA-Z0-9\-_.,:/@#]{1,512}")
"""A value that a client may send; "" is allowed too and means unset. Use `fullmatch`."""

PAYLOAD_LIMIT: Final = 1 << 20
"""Bytes of a device message that are looked at; a longer one is refused."""

STATES: Final = frozenset({"online", "offline", "unknown", "ok", "unhealthy", "disconnected", "error"})
"""Device states, of any case: KubeEdge's own and the two that its mapper framework sends but its edge refuses."""
LIVE_STATES: Final = frozenset({"online", "ok"})
"""States that renew the time a device was last online."""

TWIN_TYPES: Final = {
    "INT": "int",
    "FLOAT": "float",
    "DOUBLE": "float",
    "STRING": "string",
    "BOOLEAN": "boolean",
    "BYTES": "string",
    "STREAM": "string",
}
"""A v1beta1 DeviceModel's property type → the twin's type."""


class StateReport(NamedTuple):
    """A device's state as a client reports it."""

    event_id: str
    state: str


def go_json(value: Any) -> bytes:
    """Compact JSON with maps sorted and HTML characters escaped, as Go's encoding/json writes maps."""
    text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    return escape_html(text)


def ordered_json(value: Any) -> bytes:
    """Compact JSON in the given order (a Go struct's), HTML characters escaped."""
    return escape_html(orjson.dumps(value))


def escape_html(text: bytes) -> bytes:
    """`<`, `>`, `&`, U+2028 and U+2029 as `\\u` escapes; they stand only inside strings of a JSON text."""
    if b"<" in text or b">" in text or b"&" in text or b"\xe2\x80" in text:
        text = text.replace(b"<", b"\\u003c").replace(b">", b"\\u003e").replace(b"&", b"\\u0026")
        text = text.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")
    return text


def load_object(payload: bytes) -> dict[str, Any]:
    """A payload as a JSON object. Raises TwinError (400)."""
    if len(payload) > PAYLOAD_LIMIT:
        raise TwinError(f"the message is {len(payload)} bytes long; at most {PAYLOAD_LIMIT} are accepted")
    try:
        value = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise TwinError(f"the message is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise TwinError("the message is no JSON object")
    return value


def member(values: Mapping[str, Any], name: str, kind: type, what: str = "") -> Any:
    """The member `name` in any case, None when absent or null. Raises TwinError when it is no `kind`. `name` is lower case."""
    found = None
    for key, value in values.items():
        if key == name or key.lower() == name:
            found = value
    if found is None:
        return None
    if not isinstance(found, kind) or (isinstance(found, bool) and kind is not bool):
        raise TwinError(f"{what or name}: expected {_WORDS[kind]}, not {orjson.dumps(found)[:64].decode(errors='replace')}")
    return found


_WORDS: Final[dict[type, str]] = {str: "a text", int: "a whole number", bool: "true or false", dict: "an object", list: "a list"}


def event_id(values: Mapping[str, Any]) -> str:
    """The sender's event id, "" when there is none; the timestamp beside it must be a whole number. Raises TwinError."""
    member(values, "timestamp", int)
    return member(values, "event_id", str) or ""


def parse_get(payload: bytes) -> str:
    """The event id of a `twin/get` or `membership/get` request. Raises TwinError."""
    return event_id(load_object(payload))


def parse_state(payload: bytes) -> StateReport:
    """A `state/update`. Raises TwinError when it is malformed; whether the word is one of `STATES` is the caller's question."""
    values = load_object(payload)
    found = event_id(values)
    return StateReport(found, member(values, "state", str) or "")


def error_answer(event: str, timestamp: int, code: int, reason: str) -> bytes:
    """The answer to a request that was refused."""
    return ordered_json({"event_id": event, "timestamp": timestamp, "code": code, "reason": reason})


def local_time(seconds: int) -> str:
    """Unix seconds as KubeEdge 1.1 writes them, `2026-01-31 13:00:00` in local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def state_answer(event: str, timestamp: int, name: str, state: str, last_online: int | None) -> bytes:
    """The answer to a `state/update`: the device with both spellings of the time it was last online (Unix seconds)."""
    device: dict[str, Any] = {"name": name, "state": state}
    if last_online is not None:
        device["last_online"] = local_time(last_online)
        device["lastOnlineTime"] = moment(last_online)
    return ordered_json({"event_id": event, "timestamp": timestamp, "device": device})


def state_report(event: str, timestamp: int, name: str, state: str, last_online: int | None) -> bytes:
    """The content of a `state/update` to the cloud."""
    device: dict[str, Any] = {"name": name, "state": state}
    if last_online is not None:
        device["lastOnlineTime"] = moment(last_online)
    return ordered_json({"event_id": event, "timestamp": timestamp, "device": device})
