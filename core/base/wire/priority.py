"""Which waiting message goes first: lease, acknowledgement, pod, device, user data (design: contract/classes.py)."""

from __future__ import annotations

from typing import Final

from pinnace.core.base.contract.classes import Priority
from pinnace.core.base.contract.envelopes import OK_BODY, Group, Operation
from pinnace.core.base.contract.keys import parse_resource
from pinnace.ext.records import Envelope

_LIVENESS: Final = frozenset({"node", "lease", "nodestatus", "nodepatch"})
_DEVICES: Final = frozenset({"device", "devicemodel", "membership", "membership/detail", "twin"})
_BULK: Final = frozenset({"event"})


def _of_resource(resource: str) -> Priority:
    kind = parse_resource(resource).kind
    if kind in _LIVENESS:
        return Priority.LEASE
    if kind in _DEVICES or kind.startswith(("twin/", "state/")):
        return Priority.DEVICE
    return Priority.USER if kind in _BULK else Priority.POD


def priority_of(envelope: Envelope) -> Priority:
    """By operation, group and kind. What belongs together (membership, model, device) has one priority, so that its order is kept."""
    if envelope.operation == Operation.KEEPALIVE:
        return Priority.LEASE
    if envelope.operation == Operation.RESPONSE and envelope.body == OK_BODY:
        return Priority.ACK
    if envelope.group == Group.USER:
        return Priority.USER
    if envelope.group == Group.TWIN:
        return Priority.DEVICE
    return _of_resource(envelope.resource)
