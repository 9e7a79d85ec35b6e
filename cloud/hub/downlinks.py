"""What waits for one connected node: acknowledged pushes, the newest of each object, and a bounded line of everything else."""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from enum import Enum
from typing import Final

from pinnace.cloud.ports import Downlink
from pinnace.core.base.contract.classes import DESIRED
from pinnace.core.base.contract.envelopes import Operation, new_id, now_ms
from pinnace.core.base.contract.keys import NodeName, format_resource
from pinnace.core.base.wire.session import Session
from pinnace.ext.records import Envelope

logger = logging.getLogger(__name__)

PLAIN_BOUND: Final = 1_000
_SESSION_SHARE: Final = 64
"""Messages without acknowledgement that may wait inside the session, where priorities are settled."""
_FINAL: Final = frozenset({Operation.DELETE, Operation.RESPONSE})


def envelope_of(message: Downlink) -> Envelope:
    """The envelope that carries a push; it gets its id here and keeps it through every repetition."""
    return Envelope(
        msg_id=new_id(),
        parent_id=message.parent_id,
        timestamp=now_ms(),
        resource_version=message.resource_version,
        source=message.source,
        group=message.group,
        operation=message.operation,
        resource=format_resource(message.key),
        body=message.body,
    )


class _Given(Enum):
    TAKEN = "taken"
    FULL = "full"
    REFUSED = "refused"
    """It can never be sent."""


class Push:
    """An acknowledged push and its envelope."""

    __slots__ = ("envelope", "message", "uid")

    def __init__(self, message: Downlink) -> None:
        self.message = message
        self.envelope = envelope_of(message)
        self.uid = message.uid or self.envelope.resource

    def yields_to(self, newer: Downlink) -> bool:
        """Whether `newer` says something that this push does not. A delete is the last word about its uid."""
        if newer.operation in _FINAL:
            return True
        if self.message.operation == Operation.DELETE:
            return False
        mine, other = self.message.resource_version, newer.resource_version
        if mine == other:
            return self.message.body != newer.body
        return not (mine.isdigit() and other.isdigit() and int(other) < int(mine))


class Downlinks:
    """The lines of one connection. Of one object at most one push is in flight, so that an older one never arrives after a newer."""

    def __init__(self, node: NodeName, *, bound: int = DESIRED.bound, plain_bound: int = PLAIN_BOUND) -> None:
        self._node = node
        self._bound = bound
        self._plain_bound = plain_bound
        self._ready: OrderedDict[str, Push] = OrderedDict()
        self._held: dict[str, Push] = {}  # newer ones of what is in flight
        self._in_flight: dict[str, Push] = {}
        self._plain: deque[Envelope] = deque()
        self._dropped = 0

    def __len__(self) -> int:
        return len(self._ready) + len(self._held) + len(self._in_flight) + len(self._plain)

    def add(self, message: Downlink) -> None:
        """Queue a push. At the bound an acknowledged one is left to the sync controller, an unacknowledged one displaces the oldest."""
        if not message.acknowledged:
            self._add_plain(envelope_of(message))
            return
        uid = message.uid or format_resource(message.key)
        line: dict[str, Push] = self._held if uid in self._in_flight else self._ready
        rival = self._held.get(uid) or self._ready.get(uid) or self._in_flight.get(uid)
        if rival is not None and not rival.yields_to(message):
            return
        if uid not in line and len(self) >= self._bound:
            self._count_drop("desired")
            return
        line[uid] = Push(message)

    def fill(self, session: Session) -> None:
        """Hand the session what it can take now."""
        while self._plain and session.waiting < _SESSION_SHARE:
            if self._give(session, self._plain[0], None) is _Given.FULL:
                return
            self._plain.popleft()
        if not self._plain and self._dropped:
            logger.warning("hub.queue.recovered node=%s dropped=%d", self._node, self._dropped)
            self._dropped = 0
        while self._ready and session.room > 0:
            uid, push = next(iter(self._ready.items()))
            given = self._give(session, push.envelope, push)
            if given is _Given.FULL:
                return
            del self._ready[uid]
            if given is _Given.TAKEN:
                self._in_flight[uid] = push

    def stored(self, push: Push) -> None:
        """The node acknowledged it."""
        self._land(push)

    def gave_up(self, push: Push) -> None:
        """It was repeated in vain: it goes behind the others, unless there is a newer one by now. Its id stays the same. Only another
        object of the same address keeps its place behind it, for a deletion that comes late would take that one away at KubeEdge's edge."""
        logger.warning("hub.push.unacknowledged node=%s resource=%s: queued again", self._node, push.envelope.resource)
        if not self._land(push):
            self._ready[push.uid] = push
            for uid in [each.uid for each in self._ready.values() if each.message.key == push.message.key and each is not push]:
                self._ready.move_to_end(uid)

    def _land(self, push: Push) -> bool:
        """Take a push out of flight; whether a newer one took its place."""
        self._in_flight.pop(push.uid, None)
        newer = self._held.pop(push.uid, None)
        if newer is not None:
            self._ready[push.uid] = newer
        return newer is not None

    def _give(self, session: Session, envelope: Envelope, push: Push | None) -> _Given:
        try:
            session.send(envelope, acknowledged=push is not None, token=push)
        except OverflowError:
            return _Given.FULL
        except ValueError as error:
            logger.warning("hub.push.impossible node=%s resource=%s error=%s: dropped", self._node, envelope.resource, error)
            return _Given.REFUSED
        return _Given.TAKEN

    def _add_plain(self, envelope: Envelope) -> None:
        if len(self._plain) >= self._plain_bound:
            self._plain.popleft()
            self._count_drop("plain")
        self._plain.append(envelope)

    def _count_drop(self, line: str) -> None:
        if not self._dropped:
            logger.warning("hub.queue.full node=%s line=%s: the node does not keep up; the oldest go", self._node, line)
        self._dropped += 1
