"""What a session tells its owner."""

from __future__ import annotations

from dataclasses import dataclass

from pinnace.ext.records import Envelope


@dataclass(frozen=True, slots=True)
class Received:
    """A message for the application. One that must be acknowledged is acknowledged by the application once it is durable."""

    envelope: Envelope


@dataclass(frozen=True, slots=True)
class Stored:
    """The peer acknowledged the push that was sent with this token."""

    token: object


@dataclass(frozen=True, slots=True)
class GaveUp:
    """The push was sent as often as allowed and never acknowledged; it left the session, and its owner queues it again."""

    token: object


@dataclass(frozen=True, slots=True)
class Expired:
    """The peer's keepalives stopped: close the connection. The session is over."""

    reason: str


@dataclass(frozen=True, slots=True)
class Violation:
    """The peer sent what the protocol does not allow: close the connection. The session is over."""

    reason: str


Event = Received | Stored | GaveUp | Expired | Violation
