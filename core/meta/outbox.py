"""What waits for the cloud: one mechanism for every message class, in memory for the link and on disk for the next start."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable
from typing import Final, Protocol

from pinnace.core.base.contract.classes import CLASSES, MessageClass, Overflow, Retention
from pinnace.core.base.errors import StoreFull
from pinnace.core.base.ports import Composer, Departure
from pinnace.core.meta.database import Statement

logger = logging.getLogger(__name__)

RESEND_SECONDS: Final = 30.0
"""After which an envelope without an answer is composed and sent again; a late answer to the earlier one still counts."""
MAX_BYTES: Final = 8 << 20
"""Bodies of one class that may wait; its bound counts too. One body alone may be larger."""
ENVELOPE_ITEMS: Final = 500
ENVELOPE_BYTES: Final = 1 << 20
"""Where an envelope is closed; what is left goes with the next one."""
LAPSED: Final = 256
"""Envelopes sent too long ago, or over a link that broke, whose late answer is still understood."""

_PUT: Final = "INSERT OR REPLACE INTO outbox (seq, class, subject, item, body) VALUES (?, ?, ?, ?, ?)"
_DELETE: Final = "DELETE FROM outbox WHERE seq = ?"
_NEVER: Final = -1


class Rows(Protocol):
    """The part of the writer that the outbox needs (writer.py)."""

    batch: int

    def put(self, key: Hashable, statement: Statement) -> None: ...

    def drop(self, key: Hashable, deletion: Statement, batch: int) -> None: ...


class _Row:
    """One item. `generation` counts its bodies, so that the confirmation of an older one does not forget a newer one."""

    __slots__ = ("batch", "body", "generation", "is_gone", "item", "seq", "subject")

    def __init__(self, seq: int, subject: _Subject, item: str, body: bytes) -> None:
        self.seq = seq
        self.subject = subject
        self.item = item
        self.body = body
        self.generation = 0
        self.batch = _NEVER
        self.is_gone = False


class _Subject:
    """The items of a subject: `rows` has one a name (LATEST only), `due` those that wait for an envelope, in order, by `seq`."""

    __slots__ = ("due", "flight", "lane", "name", "rows")

    def __init__(self, lane: _Lane, name: str) -> None:
        self.lane = lane
        self.name = name
        self.rows: dict[str, _Row] = {}
        self.due: dict[int, _Row] = {}
        self.flight: _Flight | None = None


class _Flight:
    """A sent envelope: the rows it carries and their generations then."""

    __slots__ = ("carried", "msg_id", "sent", "subject")

    def __init__(self, msg_id: str, subject: _Subject, carried: list[tuple[_Row, int]], sent: float) -> None:
        self.msg_id = msg_id
        self.subject = subject
        self.carried = carried
        self.sent = sent


class _Lane:
    """One message class: its subjects, which of them are due, and its rows, oldest first."""

    def __init__(self, kind: MessageClass) -> None:
        self.kind = kind
        self.is_latest = kind.retention is Retention.LATEST
        self.composer: Composer | None = None
        self.listeners: list[Callable[[str, Collection[str]], None]] = []
        self.subjects: dict[str, _Subject] = {}
        self.due: OrderedDict[str, _Subject] = OrderedDict()
        self.rows: OrderedDict[int, _Row] = OrderedDict()
        self.bytes = 0
        self.dropped = 0
        self.burst = 0
        """Dropped since the bound was reached."""


class Outbox:
    """Implements Outbox and Departures (base/ports.py), for one event loop.

    LATEST keeps the newest body of each (subject, item); EVERY keeps all in order. An envelope carries the waiting items of a subject;
    one of EVERY ends before the first item whose name it already has. Bounds are those of the class, and `max_bytes` of bodies a class:
    beyond, REFUSE raises StoreFull and DROP_OLDEST drops the oldest row, in flight or not, logged once a burst and counted in
    `dropped`. A row confirmed before its group commit never reaches the disk. The link calls `confirm` for a departure with
    `confirmed` False when it was written.
    """

    def __init__(self, writer: Rows, *, max_bytes: int = MAX_BYTES) -> None:
        self._writer = writer
        self._max_bytes = max_bytes
        self._lanes: dict[str, _Lane] = {}
        self._by_priority: list[_Lane] = []
        self._flights: OrderedDict[str, _Flight] = OrderedDict()
        self._lapsed: OrderedDict[str, _Flight] = OrderedDict()
        self._seq = 0
        self._wakers: list[Callable[[], None]] = []

    def __len__(self) -> int:
        return sum(len(lane.rows) for lane in self._by_priority)

    @property
    def dropped(self) -> int:
        return sum(lane.dropped for lane in self._by_priority)

    def usage(self) -> dict[str, dict[str, int]]:
        """What each class that was ever used holds: rows and their bytes, how many are on their way, how many were dropped."""
        flying = {lane.kind.name: 0 for lane in self._by_priority}
        for flight in self._flights.values():
            flying[flight.subject.lane.kind.name] += len(flight.carried)
        return {
            lane.kind.name: {"rows": len(lane.rows), "bytes": lane.bytes, "in_flight": flying[lane.kind.name], "dropped": lane.dropped}
            for lane in self._by_priority
        }

    def waiting_for(self, subject: str) -> int:
        """Rows of a subject, in flight or not, in all classes."""
        known = [lane.subjects[subject] for lane in self._by_priority if subject in lane.subjects]
        return sum(len(each.due) + (len(each.flight.carried) if each.flight is not None else 0) for each in known)

    def restore(self, seq: int, name: str, subject: str, item: str, body: bytes) -> None:
        """A row from the disk; called in order of `seq`, before anything else."""
        self._seq = max(self._seq, seq)
        kind = CLASSES.get(name)
        if kind is None:
            logger.warning("outbox.unknown-class class=%s subject=%s: kept on disk for the version that knows it", name, subject)
            return
        self._add(self._lane(kind), seq, subject, item, body)

    def put(self, kind: MessageClass, subject: str, item: str, body: bytes) -> None:
        """Queue and return; the row joins the next group commit. Raises StoreFull when the class's bound refuses more.

        What a LATEST item has already, waiting or in flight, is not put again.
        """
        lane = self._lane(kind)
        known = lane.subjects.get(subject)
        row = known.rows.get(item) if known is not None else None
        if row is not None and row.body == body:
            return
        self._make_room(lane, len(body), row)
        if row is not None and not row.is_gone:
            self._replace(row, body)
        else:
            self._seq += 1
            row = self._add(lane, self._seq, subject, item, body)
            row.batch = self._writer.batch
        if kind.durable:
            self._writer.put(row.seq, (_PUT, (row.seq, kind.name, subject, item, body)))

    def discard(self, kind: MessageClass, subject: str) -> None:
        """Forget all there is of a subject, in flight or not: nobody wants it any more."""
        known = self._lane(kind).subjects.get(subject)
        if known is None:
            return
        in_flight = [row for row, _ in known.flight.carried] if known.flight is not None else []
        for row in (*in_flight, *known.due.values()):
            if not row.is_gone:
                self._remove(row)
        self._settle(known)

    def compose_with(self, kind: MessageClass, composer: Composer) -> None:
        """The composer of a class; its rows of an earlier run wait for it."""
        lane = self._lane(kind)
        lane.composer = composer
        if lane.due:
            self._wake()

    def on_confirmed(self, kind: MessageClass, listener: Callable[[str, Collection[str]], None]) -> None:
        self._lane(kind).listeners.append(listener)

    def on_waiting(self, wake: Callable[[], None]) -> None:
        self._wakers.append(wake)
        if any(lane.due for lane in self._by_priority):
            wake()

    def next(self, now: float) -> Departure | None:
        """The most urgent envelope that may go now; it counts as in flight from here on."""
        for lane in self._by_priority:
            while lane.due and lane.composer is not None:
                _, subject = lane.due.popitem(last=False)
                departure = self._depart(lane.composer, subject, now)
                if departure is not None:
                    return departure
        return None

    def confirm(self, msg_id: str) -> bool:
        """Forget what the envelope carried; False when it is none of the outbox's."""
        flight = self._flights.pop(msg_id, None)
        if flight is not None:
            flight.subject.flight = None
        else:
            flight = self._lapsed.pop(msg_id, None)
            if flight is None:
                return False
        subject = flight.subject
        for row, generation in flight.carried:
            if row.generation == generation and not row.is_gone:
                self._remove(row)
        self._settle(subject)
        lane = subject.lane
        if lane.burst and len(lane.rows) <= lane.kind.bound // 2:
            logger.warning("outbox.dropped class=%s rows=%d", lane.kind.name, lane.burst)
            lane.burst = 0
        items = [row.item for row, _ in flight.carried]
        for listener in lane.listeners:
            listener(subject.name, items)
        return True

    def recall(self) -> None:
        """The link broke: everything in flight is due again, before what came later."""
        self._lapse(list(self._flights.values()))

    def expire(self, now: float) -> float | None:
        """Make due what was sent too long ago without an answer; returns when to ask again, None when nothing is in flight."""
        late: list[_Flight] = []
        again = None
        for flight in self._flights.values():
            if flight.sent + RESEND_SECONDS > now:
                again = flight.sent + RESEND_SECONDS
                break
            late.append(flight)
        self._lapse(late)
        return again

    def _lane(self, kind: MessageClass) -> _Lane:
        lane = self._lanes.get(kind.name)
        if lane is None:
            lane = self._lanes[kind.name] = _Lane(kind)
            self._by_priority.append(lane)
            self._by_priority.sort(key=lambda each: each.kind.priority)
        return lane

    def _add(self, lane: _Lane, seq: int, name: str, item: str, body: bytes) -> _Row:
        subject = lane.subjects.get(name)
        if subject is None:
            subject = lane.subjects[name] = _Subject(lane, name)
        row = _Row(seq, subject, item, body)
        if lane.is_latest:
            subject.rows[item] = row
        lane.rows[seq] = row
        lane.bytes += len(body)
        subject.due[seq] = row
        self._settle(subject)
        return row

    def _replace(self, row: _Row, body: bytes) -> None:
        subject = row.subject
        subject.lane.bytes += len(body) - len(row.body)
        row.body = body
        row.generation += 1
        subject.due[row.seq] = row
        self._settle(subject)

    def _make_room(self, lane: _Lane, size: int, replaced: _Row | None) -> None:
        """Keep the class's bounds although a body of `size` comes in, in a new row or in place of another body."""
        kind = lane.kind
        while lane.rows:
            is_new = replaced is None or replaced.is_gone
            more = size - (0 if replaced is None else len(replaced.body))
            if (not is_new or len(lane.rows) < kind.bound) and (more <= 0 or lane.bytes + more <= self._max_bytes):
                return
            if kind.overflow is Overflow.REFUSE:
                raise StoreFull(
                    f"the outbox holds {len(lane.rows)} messages of class {kind.name} ({lane.bytes} bytes) and takes no more; "
                    "it empties when the cloud can be reached"
                )
            oldest = next(iter(lane.rows.values()))
            self._remove(oldest)
            self._settle(oldest.subject)
            if lane.burst == 0:
                logger.warning("outbox.dropping class=%s waiting=%d: the oldest go until the cloud takes some", kind.name, len(lane.rows))
            lane.burst += 1
            lane.dropped += 1

    def _remove(self, row: _Row) -> None:
        subject = row.subject
        lane = subject.lane
        row.is_gone = True
        del lane.rows[row.seq]
        lane.bytes -= len(row.body)
        row.body = b""
        subject.rows.pop(row.item, None)
        subject.due.pop(row.seq, None)
        if lane.kind.durable:
            self._writer.drop(row.seq, (_DELETE, (row.seq,)), row.batch)

    def _settle(self, subject: _Subject) -> None:
        """Bring a subject's place among the due ones up to date."""
        lane = subject.lane
        if subject.flight is not None or lane.subjects.get(subject.name) is not subject:
            return
        if not subject.due:
            del lane.subjects[subject.name]
            lane.due.pop(subject.name, None)
        elif subject.name not in lane.due:
            lane.due[subject.name] = subject
            if lane.composer is not None:
                self._wake()

    def _depart(self, composer: Composer, subject: _Subject, now: float) -> Departure | None:
        items: dict[str, bytes] = {}
        carried: list[tuple[_Row, int]] = []
        size = 0
        for row in subject.due.values():
            size += len(row.body)
            if row.item in items or len(items) == ENVELOPE_ITEMS or (items and size > ENVELOPE_BYTES):
                break
            items[row.item] = row.body
            carried.append((row, row.generation))
        try:
            envelope = composer(subject.name, items)
        except Exception:  # what one subject holds must not stop the others
            logger.exception("outbox.uncomposable class=%s subject=%s: it waits for something newer", subject.lane.kind.name, subject.name)
            return None
        for row, _ in carried:
            del subject.due[row.seq]
        subject.flight = _Flight(envelope.msg_id, subject, carried, now)
        self._lapsed.pop(envelope.msg_id, None)
        self._flights[envelope.msg_id] = subject.flight
        return Departure(envelope, subject.lane.kind.confirmed)

    def _lapse(self, flights: list[_Flight]) -> None:
        """Make due again what they carry, in their order and before what waits; their answers may still come."""
        for flight in reversed(flights):
            del self._flights[flight.msg_id]
            subject = flight.subject
            subject.flight = None
            subject.due = {row.seq: row for row, _ in flight.carried if not row.is_gone} | subject.due
            self._settle(subject)
            if subject.due:
                subject.lane.due.move_to_end(subject.name, last=False)
        for flight in flights:
            self._lapsed[flight.msg_id] = flight
        while len(self._lapsed) > LAPSED:
            self._lapsed.popitem(last=False)

    def _wake(self) -> None:
        for wake in self._wakers:
            wake()
