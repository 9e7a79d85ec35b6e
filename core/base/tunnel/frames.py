"""The tunnel's messages: `uvarint(channel) | uvarint(kind) | data`, one a WebSocket message (docs/protocol.md, Tunnel). Bytes only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, urlencode

import orjson

PATH: Final = "/v1/kubeedge/connect"
NODE_HEADER: Final = "SessionHostNameOverride"
ADDRESS_HEADER: Final = "SessionInternalIP"
OURS_HEADER: Final = "Pinnace-Tunnel"
"""Sent by an edge of ours with its tunnel version and echoed by a cloud of ours. With both sides ours every channel carries a whole HTTP
exchange, head included, and is paced by CREDIT; a peer without it is spoken to as KubeEdge does."""
VERSION: Final = "1"

LOGS: Final = 0
EXEC: Final = 1
METRICS: Final = 2
DATA: Final = 3
REMOVE: Final = 4
CLOSE: Final = 5
ATTACH: Final = 6
CREDIT: Final = 7
"""Ours: the reader has room for so many more bytes (data is a uvarint). KubeEdge's edge dies of kinds above 6, so it never gets one."""
OPENING: Final = frozenset({LOGS, EXEC, METRICS, ATTACH})

MESSAGE_BYTES: Final = (1 << 20) + 64
"""A message's bound: 1 MiB of data and its head."""
_MAX_VARINT: Final = 10


class Frame(NamedTuple):
    channel: int
    kind: int
    data: bytes


def encode(channel: int, kind: int, data: bytes = b"") -> bytes:
    return uvarint(channel) + uvarint(kind) + data


def decode(message: bytes) -> Frame:
    """Raises ValueError for what is no message."""
    channel, at = read_uvarint(message, 0)
    kind, at = read_uvarint(message, at)
    return Frame(channel, kind, message[at:])


def uvarint(value: int) -> bytes:
    """Unsigned LEB128."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_uvarint(data: bytes, at: int) -> tuple[int, int]:
    """The value at `at`, and where it ends. Raises ValueError when it is cut off or does not fit 64 bits."""
    value = 0
    for index in range(_MAX_VARINT):
        if at + index >= len(data):
            raise ValueError("the message ends within a number")
        byte = data[at + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if value >= 1 << 64:
                break
            return value, at + index + 1
    raise ValueError("a number does not fit 64 bits")


@dataclass(frozen=True, slots=True)
class Opening:
    """The request that a channel carries: what an opening message's JSON says."""

    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]

    @property
    def target(self) -> str:
        return f"{self.path}?{self.query}" if self.query else self.path

    @property
    def arguments(self) -> list[tuple[str, str]]:
        return parse_qsl(self.query, keep_blank_values=True)

    def with_arguments(self, arguments: list[tuple[str, str]]) -> Opening:
        return Opening(self.method, self.path, urlencode(arguments), self.headers)


def encode_opening(channel: int, kind: int, opening: Opening, *, host: str = "127.0.0.1:10350") -> bytes:
    """The whole message. The URL is Go's url.URL as JSON."""
    headers: dict[str, list[str]] = {}
    for name, value in opening.headers:
        headers.setdefault(name, []).append(value)
    url = {
        "Scheme": "http", "Opaque": "", "User": None, "Host": host, "Path": opening.path, "RawPath": "", "OmitHost": False,
        "ForceQuery": False, "RawQuery": opening.query, "Fragment": "", "RawFragment": "",
    }  # fmt: skip
    body: dict[str, Any] = {"MessID": channel, "url": url, "header": headers}
    if kind in (EXEC, ATTACH):
        body["method"] = opening.method
    return encode(channel, kind, orjson.dumps(body))


def decode_opening(data: bytes) -> Opening:
    """Raises ValueError for what is no opening message."""
    try:
        body = orjson.loads(data)
        url, headers = body["url"], body.get("header") or {}
        pairs = tuple((str(name), str(value)) for name, values in headers.items() for value in values)
        opening = Opening(str(body.get("method") or "GET"), str(url["Path"]), str(url.get("RawQuery") or ""), pairs)
    except (KeyError, TypeError, AttributeError, orjson.JSONDecodeError) as error:
        raise ValueError(f"the opening message cannot be read: {error}") from error
    words = (opening.method, opening.target, *(text for pair in pairs for text in pair))
    if not opening.path.startswith("/") or " " in opening.method + opening.target or any(each in text for text in words for each in "\r\n"):
        raise ValueError("the opening message is no request of one line and headers of one line each")
    return opening
