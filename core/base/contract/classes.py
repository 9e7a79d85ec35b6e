"""Message classes: for each kind of traffic what is kept, how much, in which order, and what confirms it. One table for both directions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum


class Retention(Enum):
    """What an outbox keeps while the link is down or busy."""

    LATEST = "latest"
    """Only the newest message of each key; older ones are superseded."""
    EVERY = "every"
    """Each message, in order, until confirmed."""


class Priority(IntEnum):
    """Lower goes first."""

    LEASE = 0
    ACK = 1
    POD = 2
    DEVICE = 3
    USER = 4


class Overflow(Enum):
    """What happens at the bound."""

    DROP_OLDEST = "drop-oldest"
    """The oldest goes, counted and logged once per burst."""
    REFUSE = "refuse"
    """The sender is told (a full outbox is its error to handle)."""


@dataclass(frozen=True, slots=True)
class MessageClass:
    """A named delivery policy. `confirmed` says what lets the outbox forget: an answer with our id as parent, or the write alone."""

    name: str
    retention: Retention
    priority: Priority
    bound: int
    overflow: Overflow
    confirmed: bool
    durable: bool


TWIN_REPORT = MessageClass("twin-report", Retention.LATEST, Priority.DEVICE, 10_000, Overflow.REFUSE, confirmed=True, durable=True)
DEVICE_STATE = MessageClass("device-state", Retention.LATEST, Priority.DEVICE, 10_000, Overflow.REFUSE, confirmed=True, durable=True)
NODE_STATUS = MessageClass("node-status", Retention.LATEST, Priority.LEASE, 4, Overflow.DROP_OLDEST, confirmed=True, durable=False)
LEASE = MessageClass("lease", Retention.LATEST, Priority.LEASE, 1, Overflow.DROP_OLDEST, confirmed=True, durable=False)
EVENT = MessageClass("event", Retention.EVERY, Priority.USER, 1_000, Overflow.DROP_OLDEST, confirmed=False, durable=True)
USER_DATA = MessageClass("user-data", Retention.EVERY, Priority.USER, 10_000, Overflow.DROP_OLDEST, confirmed=False, durable=True)
DESIRED = MessageClass("desired", Retention.LATEST, Priority.DEVICE, 100_000, Overflow.REFUSE, confirmed=True, durable=True)

CLASSES: dict[str, MessageClass] = {each.name: each for each in (TWIN_REPORT, DEVICE_STATE, NODE_STATUS, LEASE, EVENT, USER_DATA, DESIRED)}
