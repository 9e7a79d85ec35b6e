# cython: annotation_typing=False
"""Reference build of `pinnace.ext.records`; `records_c.pxd` gives it C types."""

from __future__ import annotations


class Envelope:
    """A KubeEdge message with its header and route decoded and its body left as bytes (docs/protocol.md).

    `body` is the JSON text of `content` exactly as received (`b"null"` when absent). `timestamp` is Unix milliseconds. Empty strings
    stand for absent optional fields.
    """

    __slots__ = (
        "body",
        "destination",
        "group",
        "msg_id",
        "operation",
        "parent_id",
        "resource",
        "resource_version",
        "source",
        "sync",
        "timestamp",
        "type",
    )

    def __init__(
        self,
        *,
        msg_id: str,
        operation: str,
        resource: str,
        source: str = "",
        group: str = "",
        body: bytes = b"null",
        parent_id: str = "",
        timestamp: int = 0,
        resource_version: str = "",
        destination: str = "",
        type: str = "",
        sync: bool = False,
    ) -> None:
        self.msg_id = msg_id
        self.parent_id = parent_id
        self.timestamp = timestamp
        self.resource_version = resource_version
        self.sync = sync
        self.type = type
        self.source = source
        self.destination = destination
        self.group = group
        self.operation = operation
        self.resource = resource
        self.body = body

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Envelope):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        route = f"{self.source}/{self.group} {self.operation} {self.resource}"
        parent = f" parent={self.parent_id}" if self.parent_id else ""
        return f"<Envelope {self.msg_id}{parent} {route} rv={self.resource_version or '-'} body={len(self.body)}B>"


def empty_envelope() -> Envelope:
    """An envelope with every field empty, without the cost of keyword arguments: decoders fill it in."""
    message = Envelope.__new__(Envelope)
    message.msg_id = ""
    message.parent_id = ""
    message.timestamp = 0
    message.resource_version = ""
    message.sync = False
    message.type = ""
    message.source = ""
    message.destination = ""
    message.group = ""
    message.operation = ""
    message.resource = ""
    message.body = b"null"
    return message


class Outcome:
    """What one update did to a device's twins (docs/protocol.md, devices). The members are JSON without braces, for `twindiff.message`."""

    __slots__ = ("delta", "document", "event_id", "refused", "reports", "result", "rows")

    event_id: str
    """The sender's, "" when it gave none."""
    result: bytes
    """The answer's members; b"" for an update from the cloud."""
    document: bytes
    """The document's members, b"" when nothing was said about any property."""
    delta: bytes
    """The delta's members, b"" when every desired value is reported equal."""
    rows: dict[str, bytes]
    """Property → the row to store; only where something other than a time changed."""
    reports: dict[str, bytes]
    """Property → what the cloud is told; only where a value changed here."""
    refused: list[tuple[str, str]]
    """(property, reason): what of an update from the cloud was not taken."""


def new_outcome(event_id: str) -> Outcome:
    """The outcome of an update that did nothing yet."""
    outcome = Outcome.__new__(Outcome)
    outcome.event_id = event_id
    outcome.result = b""
    outcome.document = b""
    outcome.delta = b""
    outcome.rows = {}
    outcome.reports = {}
    outcome.refused = []
    return outcome
