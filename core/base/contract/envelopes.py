"""Making and answering envelopes: the words of route and operation, and the reply rules of KubeEdge (docs/protocol.md)."""

from __future__ import annotations

import time
import uuid
from typing import Any, Final

import orjson

from pinnace.ext.records import Envelope

__all__ = ["Envelope", "Group", "Operation", "Source", "ack", "body_text", "load_body", "new", "new_id", "now_ms", "reply"]

OK_BODY: Final = b'"OK"'
"""The content of every positive answer that carries no data."""


class Group:
    """`route.group`: which family of consumers a message is for. Edge requests use META, answers and pushes RESOURCE."""

    RESOURCE: Final = "resource"
    META: Final = "meta"
    TWIN: Final = "twin"
    FUNC: Final = "func"
    USER: Final = "user"
    HUB: Final = "hub"


class Source:
    """`route.source`: the module that speaks."""

    EDGEHUB: Final = "websocket"
    EDGED: Final = "edged"
    TWIN: Final = "twin"
    BUS: Final = "bus"
    METAMANAGER: Final = "metamanager"
    EDGECONTROLLER: Final = "edgecontroller"
    DEVICECONTROLLER: Final = "devicecontroller"
    CLOUDHUB: Final = "cloudhub"


class Operation:
    """`route.operation`."""

    INSERT: Final = "insert"
    UPDATE: Final = "update"
    DELETE: Final = "delete"
    PATCH: Final = "patch"
    QUERY: Final = "query"
    GET: Final = "get"
    RESPONSE: Final = "response"
    ERROR: Final = "error"
    KEEPALIVE: Final = "keepalive"
    UPLOAD: Final = "upload"


def now_ms() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


def new_id() -> str:
    """A random UUIDv4 text."""
    return str(uuid.uuid4())


def new(source: str, group: str, operation: str, resource: str, content: Any = None, *, resource_version: str = "") -> Envelope:
    """A fresh message. `content` is a JSON value, or bytes that already are JSON text."""
    body = content if isinstance(content, bytes) else orjson.dumps(content)
    return Envelope(
        msg_id=new_id(),
        timestamp=now_ms(),
        resource_version=resource_version,
        source=source,
        group=group,
        operation=operation,
        resource=resource,
        body=body,
    )


def reply(
    request: Envelope, content: Any, *, source: str = "", group: str = "", operation: str = "", resource_version: str = ""
) -> Envelope:
    """The answer to `request`: new id, parent id set, route copied except for what is given. Answers to queries must say group
    `resource`."""
    answer = new(
        source or request.source,
        group or request.group,
        operation or Operation.RESPONSE,
        request.resource,
        content,
        resource_version=resource_version,
    )
    answer.parent_id = request.msg_id
    return answer


def ack(message: Envelope) -> Envelope:
    """The acknowledgement of a push: route echoed, operation `response`, content "OK"."""
    return reply(message, OK_BODY)


def load_body(envelope: Envelope) -> Any:
    """The content as a JSON value. A JSON string that itself holds JSON text is parsed once more (KubeEdge's string-or-object rule).

    Raises orjson.JSONDecodeError (a ValueError) when the body is no JSON.
    """
    value = orjson.loads(envelope.body)
    if isinstance(value, str):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value


def body_text(envelope: Envelope) -> bytes:
    """The content's bytes by the string-or-object rule: a JSON string gives its characters, anything else its JSON text."""
    if envelope.body[:1] == b'"':
        return bytes(orjson.loads(envelope.body).encode())
    return envelope.body
