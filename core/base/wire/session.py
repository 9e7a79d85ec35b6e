"""The hub session as a state machine: envelopes and time in, WebSocket messages and events out. No socket, no clock, no loop.

One class plays both roles and speaks both dialects (docs/protocol.md, The link):

- **wire 0** is KubeEdge's: one JSON text message an envelope, one acknowledged push in flight.
- **wire 1** is ours: a binary message holds packed frames, one or many, so that acknowledgements and small messages travel together;
  up to `Limits.window` pushes are in flight. Text messages keep their meaning.

What waits is ordered by priority (wire/priority.py), and first in, first out within one. An acknowledged push is repeated unchanged
every `resend_interval` until an answer names it, `sends` times in all; then its owner gets it back by `GaveUp`.

Use: after each `send`, `receive` or `handle_timer`, write what `data_to_send` returns until it returns nothing, then arm a timer
for `next_timer()`. After `Expired` or `Violation` the session is closed and silent.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Final

from pinnace.core.base.contract.classes import Priority
from pinnace.core.base.contract.envelopes import Group, Operation, Source, new, reply
from pinnace.core.base.wire.events import Event, Expired, GaveUp, Received, Stored, Violation
from pinnace.core.base.wire.priority import priority_of
from pinnace.ext import envelope as text_codec
from pinnace.ext import frame as packed_codec
from pinnace.ext.errors import WireError
from pinnace.ext.records import Envelope

__all__ = ["Event", "Expired", "GaveUp", "Limits", "Received", "Role", "Session", "Stored", "Violation"]

_CONTROL: Final = frozenset({"config", "ping", "pong"})
_CONTROL_BODY: Final = b'"ack"'
_KEEPALIVE_BODY: Final = b'"ping"'
_OVERHEAD: Final = 512
"""Bytes reckoned for an envelope's header and route."""


class Role(Enum):
    EDGE = "edge"
    """Sends keepalives."""
    CLOUD = "cloud"
    """Wants keepalives."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Numbers of a session; times in seconds, sizes in bytes. The defaults are KubeEdge's where it has one."""

    keepalive_interval: float = 15.0
    keepalive_timeout: float = 30.0
    resend_interval: float = 5.0
    sends: int = 5
    """Transmissions of one push in all."""
    window: int = 128
    """Acknowledged pushes in flight from wire 1 on; on wire 0 it is one."""
    queue: int = 10_000
    """Envelopes that may wait to be written; `send` refuses more."""
    queue_bytes: int = 64 << 20
    """Their size altogether."""
    burst_bytes: int = 256 << 10
    """What one `data_to_send` hands out before it returns, so that something urgent waits for no more than this."""
    message_bytes: int = 32 << 20
    """A longer message is a violation."""


class _Item:
    """An envelope that waits, and for an acknowledged one everything about its transmissions. `due` is when to send again or give up."""

    __slots__ = ("acknowledged", "due", "envelope", "order", "sends", "size", "token")

    def __init__(self, envelope: Envelope, order: int, acknowledged: bool, token: object) -> None:
        self.envelope = envelope
        self.order = order
        self.acknowledged = acknowledged
        self.token = token
        self.size = len(envelope.body) + _OVERHEAD
        self.sends = 0
        self.due = 0.0


class _Lane:
    """What waits in one priority. Acknowledged pushes stand apart, because a full window holds them up and nothing else."""

    __slots__ = ("plain", "pushes")

    def __init__(self) -> None:
        self.plain: deque[_Item] = deque()
        self.pushes: deque[_Item] = deque()

    def take(self, *, may_push: bool) -> _Item | None:
        """The oldest that may go."""
        if not self.pushes or not (may_push or self.pushes[0].sends):
            return self.plain.popleft() if self.plain else None
        if self.plain and self.plain[0].order < self.pushes[0].order:
            return self.plain.popleft()
        return self.pushes.popleft()


class Session:
    """One connection's conversation. `now` is monotonic seconds from any origin and never runs backwards.

    `wire` is what both sides agreed on in the upgrade (contract/wireversion.py).
    """

    def __init__(self, role: Role, *, now: float, wire: int = 0, limits: Limits = Limits()) -> None:
        self._role = role
        self._wire = wire
        self._limits = limits
        self._window = limits.window if wire else 1
        self._now = now
        self._lanes = {priority: _Lane() for priority in Priority}
        self._waiting = 0
        self._waiting_bytes = 0
        self._order = 0
        self._pushes: dict[str, _Item] = {}  # every acknowledged one, waiting or in flight
        self._in_flight = 0
        self._due: dict[str, _Item] = {}  # those handed out, by due time: every wait is equally long
        self._written: list[object] = []
        self._reader = packed_codec.FrameReader()
        self._closed = ""
        self._keepalive_waits = False
        if role is Role.EDGE:
            self._beat = now + limits.keepalive_interval
            self._keepalive()
        else:
            self._beat = now + limits.keepalive_timeout

    @property
    def wire(self) -> int:
        return self._wire

    @property
    def closed(self) -> str:
        """Why the session is over; "" while it is not."""
        return self._closed

    @property
    def waiting(self) -> int:
        """Envelopes not yet handed out by `data_to_send`, those held up by a full window included."""
        return self._waiting

    @property
    def unacknowledged(self) -> int:
        """Acknowledged pushes handed out at least once and not yet answered."""
        return self._in_flight

    @property
    def room(self) -> int:
        """How many more acknowledged pushes could go out at once."""
        return self._window - len(self._pushes)

    def send(self, envelope: Envelope, *, acknowledged: bool = False, token: object = None) -> None:
        """Queue an envelope. With `acknowledged` it is repeated until the peer answers it, and then reported as `Stored(token)`;
        without, a token comes back from `take_written`.

        A closed session forgets it. Raises OverflowError when `Limits.queue` or `queue_bytes` is reached, ValueError for an envelope
        longer than `Limits.message_bytes` and for an acknowledged one whose id is empty or already under way.
        """
        if self._closed:
            return
        item = _Item(envelope, self._order, acknowledged, token)
        if item.size > self._limits.message_bytes:
            raise ValueError(f"{envelope.resource} has {len(envelope.body)} bytes; at most {self._limits.message_bytes} can be sent")
        if self._waiting >= self._limits.queue or self._waiting_bytes + item.size > self._limits.queue_bytes:
            raise OverflowError(f"{self._waiting} messages ({self._waiting_bytes} bytes) wait for the link")
        if acknowledged:
            if not envelope.msg_id or envelope.msg_id in self._pushes:
                raise ValueError(f"a push needs an id of its own: '{envelope.msg_id}'")
            self._pushes[envelope.msg_id] = item
        self._order += 1
        self._put(item, priority_of(envelope))

    def receive(self, message: str | bytes, now: float) -> list[Event]:
        """What one WebSocket message of the peer means. A message that does not parse ends the session with `Violation`."""
        if self._closed:
            return []
        self._now = now
        data = message.encode() if isinstance(message, str) else message
        if len(data) > self._limits.message_bytes:
            return self._violation(f"a message of {len(data)} bytes; at most {self._limits.message_bytes} are accepted")
        try:
            envelopes = self._reader.feed(data) if self._wire and not isinstance(message, str) else [text_codec.decode(data)]
        except WireError as error:
            return self._violation(str(error))
        events: list[Event] = []
        for envelope in envelopes:
            self._take_in(envelope, events)
        return events

    def data_to_send(self, now: float | None = None) -> list[str | bytes]:
        """The WebSocket messages to write next, text for `str`: at most about `Limits.burst_bytes` of them. Call again until nothing
        comes back, each time after the former were written, so that what is urgent can overtake what is bulky.

        `now` starts the wait for acknowledgements; without it the time last heard of counts.
        """
        if now is not None:
            self._now = now
        batch: list[Envelope] = []
        size = 0
        while size < self._limits.burst_bytes and (item := self._next()) is not None:
            batch.append(item.envelope)
            size += item.size
        if not batch:
            return []
        if self._wire:
            return self._packed(batch)
        return [text_codec.encode(envelope).decode() + "\n" for envelope in batch]

    def take_written(self) -> list[object]:
        """The tokens of messages without acknowledgement that `data_to_send` handed out since the last call, in order."""
        written, self._written = self._written, []
        return written

    def heard(self, now: float) -> None:
        """Count this moment as a keepalive: for an owner that itself kept from reading, and so cannot blame the peer."""
        if self._role is Role.CLOUD:
            self._beat = max(self._beat, now + self._limits.keepalive_timeout)

    def next_timer(self) -> float | None:
        """When to call `handle_timer`, in the time of `now`; None when nothing is awaited."""
        if self._closed:
            return None
        first = next(iter(self._due.values()), None)
        return self._beat if first is None else min(self._beat, first.due)

    def handle_timer(self, now: float) -> list[Event]:
        """Send the keepalive, repeat or give up pushes, notice a silent peer. Harmless when called early."""
        if self._closed:
            return []
        self._now = now
        if now >= self._beat:
            if self._role is Role.CLOUD:
                return self._end(Expired(f"no keepalive for {self._limits.keepalive_timeout:g} s"))
            self._beat = now + self._limits.keepalive_interval
            self._keepalive()
        events: list[Event] = []
        for msg_id, item in list(self._due.items()):
            if item.due > now:
                break
            del self._due[msg_id]
            if item.sends >= self._limits.sends:
                del self._pushes[msg_id]
                self._in_flight -= 1
                events.append(GaveUp(item.token))
            else:
                self._put(item, priority_of(item.envelope), first=True)
        return events

    def _take_in(self, envelope: Envelope, events: list[Event]) -> None:
        operation = envelope.operation
        if operation == Operation.KEEPALIVE and self._role is Role.CLOUD:
            self._beat = self._now + self._limits.keepalive_timeout
        elif operation == Operation.RESPONSE and envelope.parent_id in self._pushes:
            item = self._pushes.pop(envelope.parent_id)
            self._in_flight -= bool(item.sends)
            if self._due.pop(envelope.parent_id, None) is None:
                self._withdraw(item)
            events.append(Stored(item.token))
        elif operation in _CONTROL:
            self._queue_own(reply(envelope, _CONTROL_BODY))
        elif operation or envelope.resource:  # an upstream edge that dies sends an envelope without either
            events.append(Received(envelope))

    def _next(self) -> _Item | None:
        """The next item to hand out, entered as in flight when it wants an acknowledgement."""
        may_push = self._in_flight < self._window
        for lane in self._lanes.values():
            item = lane.take(may_push=may_push)
            if item is None:
                continue
            self._waiting -= 1
            self._waiting_bytes -= item.size
            if item.acknowledged:
                self._in_flight += not item.sends
                item.sends += 1
                item.due = self._now + self._limits.resend_interval
                self._due[item.envelope.msg_id] = item
            elif item.envelope.operation == Operation.KEEPALIVE:
                self._keepalive_waits = False
            elif item.token is not None:
                self._written.append(item.token)
            return item
        return None

    def _packed(self, batch: list[Envelope]) -> list[str | bytes]:
        """One message, or several where a single one would be longer than the peer accepts."""
        data = packed_codec.pack(batch)
        if len(data) <= self._limits.message_bytes or len(batch) == 1:
            return [data]
        return [packed_codec.pack([envelope]) for envelope in batch]

    def _put(self, item: _Item, priority: Priority, *, first: bool = False) -> None:
        lane = self._lanes[priority]
        queue = lane.pushes if item.acknowledged else lane.plain
        if first:
            queue.appendleft(item)
        else:
            queue.append(item)
        self._waiting += 1
        self._waiting_bytes += item.size

    def _withdraw(self, item: _Item) -> None:
        """Take back one that waits and is no longer needed: a repetition, or a push that an earlier session had sent already."""
        self._lanes[priority_of(item.envelope)].pushes.remove(item)
        self._waiting -= 1
        self._waiting_bytes -= item.size

    def _queue_own(self, envelope: Envelope) -> None:
        """Queue what the session itself says; a peer that asks faster than it reads gets no more answers."""
        if self._waiting < self._limits.queue:
            self._put(_Item(envelope, self._order, acknowledged=False, token=None), priority_of(envelope))
            self._order += 1

    def _keepalive(self) -> None:
        if self._keepalive_waits:
            return
        self._keepalive_waits = True
        beat = new(Source.EDGEHUB, Group.RESOURCE, Operation.KEEPALIVE, "node", _KEEPALIVE_BODY)
        self._put(_Item(beat, self._order, acknowledged=False, token=None), Priority.LEASE)
        self._order += 1

    def _violation(self, reason: str) -> list[Event]:
        return self._end(Violation(reason))

    def _end(self, event: Expired | Violation) -> list[Event]:
        self._closed = event.reason
        for lane in self._lanes.values():
            lane.plain.clear()
            lane.pushes.clear()
        self._waiting = self._waiting_bytes = 0
        return [event]
