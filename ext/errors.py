"""What decoding bytes can end in; shared by both builds of every hot path."""

from __future__ import annotations


class WireError(ValueError):
    """Bytes that are not what the protocol says (docs/protocol.md)."""


class EnvelopeError(WireError):
    """Not a KubeEdge JSON envelope: bad JSON, a wrong type for a header or route field, or no object at all."""


class FrameError(WireError):
    """A packed frame over the size limit, or a protobuf payload that does not parse."""


class TwinError(ValueError):
    """A twin update that must be refused; `code` is the KubeEdge result code (400 bad request, 404 unknown device), `event_id` the
    sender's, as far as it was read."""

    def __init__(self, message: str, code: int = 400, *, event_id: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.event_id = event_id
