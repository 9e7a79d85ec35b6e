"""What the outbox keeps, sends, forgets and drops."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping

import orjson
import pytest
from fakes.rows import FakeRows

from pinnace.core.base.contract import envelopes
from pinnace.core.base.contract.classes import (
    EVENT,
    LEASE,
    NODE_STATUS,
    TWIN_REPORT,
    USER_DATA,
    MessageClass,
    Overflow,
    Priority,
    Retention,
)
from pinnace.core.base.errors import StoreFull
from pinnace.core.base.ports import Departure
from pinnace.core.meta.outbox import ENVELOPE_ITEMS, RESEND_SECONDS, Outbox
from pinnace.ext.records import Envelope

FEW = MessageClass("few", Retention.LATEST, Priority.DEVICE, 2, Overflow.REFUSE, confirmed=True, durable=True)
LAST_FEW = MessageClass("last-few", Retention.EVERY, Priority.USER, 3, Overflow.DROP_OLDEST, confirmed=False, durable=True)


def compose(subject: str, items: Mapping[str, bytes]) -> Envelope:
    return envelopes.new("twin", "twin", "update", subject, [[name, body.decode()] for name, body in items.items()])


def new(*kinds: MessageClass, rows: FakeRows | None = None, max_bytes: int = 1 << 20) -> Outbox:
    outbox = Outbox(rows or FakeRows(), max_bytes=max_bytes)
    for kind in kinds:
        outbox.compose_with(kind, compose)
    return outbox


def carried(departure: Departure | None) -> list[list[str]]:
    assert departure is not None
    found: list[list[str]] = orjson.loads(departure.envelope.body)
    return found


def depart(outbox: Outbox, now: float = 0.0) -> Departure:
    departure = outbox.next(now)
    assert departure is not None
    return departure


def test_a_burst_becomes_two_envelopes() -> None:
    outbox = new(TWIN_REPORT)
    outbox.put(TWIN_REPORT, "lamp", "red", b"0")
    first = depart(outbox)
    for value in range(1, 500):
        outbox.put(TWIN_REPORT, "lamp", "red", str(value).encode())
    assert outbox.next(0.0) is None
    assert outbox.confirm(first.envelope.msg_id)
    second = depart(outbox)
    assert carried(second) == [["red", "499"]]
    assert outbox.confirm(second.envelope.msg_id)
    assert outbox.next(0.0) is None
    assert len(outbox) == 0


def test_a_row_confirmed_before_the_group_commit_never_reaches_the_disk() -> None:
    rows = FakeRows()
    outbox = new(TWIN_REPORT, rows=rows)
    outbox.put(TWIN_REPORT, "lamp", "red", b"1")
    outbox.confirm(depart(outbox).envelope.msg_id)
    rows.write()
    assert rows.written == 0


def test_a_row_on_the_disk_goes_when_confirmed() -> None:
    rows = FakeRows()
    outbox = new(TWIN_REPORT, rows=rows)
    outbox.put(TWIN_REPORT, "lamp", "red", b"1")
    rows.write()
    assert [*rows.disk.values()] == [("twin-report", "lamp", "red", b"1")]
    outbox.confirm(depart(outbox).envelope.msg_id)
    rows.write()
    assert rows.disk == {}


def test_confirming_an_older_value_keeps_the_newer_one() -> None:
    rows = FakeRows()
    outbox = new(TWIN_REPORT, rows=rows)
    outbox.put(TWIN_REPORT, "lamp", "red", b"on")
    first = depart(outbox)
    outbox.put(TWIN_REPORT, "lamp", "red", b"off")
    outbox.put(TWIN_REPORT, "lamp", "red", b"on")
    outbox.confirm(first.envelope.msg_id)
    rows.write()
    assert [*rows.disk.values()] == [("twin-report", "lamp", "red", b"on")]
    assert carried(outbox.next(0.0)) == [["red", "on"]]


def test_the_same_value_again_changes_nothing() -> None:
    outbox = new(TWIN_REPORT)
    outbox.put(TWIN_REPORT, "lamp", "red", b"on")
    first = depart(outbox)
    outbox.put(TWIN_REPORT, "lamp", "red", b"on")
    outbox.confirm(first.envelope.msg_id)
    assert len(outbox) == 0


def test_every_keeps_all_in_order_and_an_envelope_ends_at_a_repeated_name() -> None:
    outbox = new(EVENT)
    for name, body in (("a", b"1"), ("b", b"2"), ("a", b"3"), ("c", b"4")):
        outbox.put(EVENT, "s", name, body)
    first = depart(outbox)
    assert carried(first) == [["a", "1"], ["b", "2"]]
    assert not first.confirmed
    assert outbox.next(0.0) is None
    outbox.confirm(first.envelope.msg_id)
    assert carried(outbox.next(0.0)) == [["a", "3"], ["c", "4"]]


def test_subjects_do_not_wait_for_each_other_and_urgent_classes_go_first() -> None:
    outbox = new(USER_DATA, TWIN_REPORT, LEASE)
    outbox.put(USER_DATA, "u", "", b"1")
    outbox.put(TWIN_REPORT, "a", "", b"2")
    outbox.put(TWIN_REPORT, "b", "", b"3")
    outbox.put(LEASE, "n", "", b"4")
    assert [depart(outbox).envelope.resource for _ in range(4)] == ["n", "a", "b", "u"]
    assert outbox.next(0.0) is None


def test_recall_makes_due_what_is_in_flight_before_what_waits() -> None:
    outbox = new(EVENT)
    for subject in ("a", "b", "c"):
        outbox.put(EVENT, subject, "x", b"1")
    sent = [depart(outbox).envelope for _ in range(2)]
    outbox.put(EVENT, "a", "y", b"2")
    outbox.recall()
    again = [depart(outbox).envelope for _ in range(3)]
    assert [each.resource for each in again] == ["a", "b", "c"]
    assert orjson.loads(again[0].body) == [["x", "1"], ["y", "2"]]
    assert outbox.confirm(sent[1].msg_id), "the answer to the first sending still counts"
    assert len(outbox) == 3


def test_what_is_not_answered_in_time_is_composed_anew() -> None:
    outbox = new(TWIN_REPORT)
    assert outbox.expire(0.0) is None
    outbox.put(TWIN_REPORT, "lamp", "red", b"1")
    first = depart(outbox, 10.0)
    outbox.put(TWIN_REPORT, "lamp", "red", b"2")
    assert outbox.expire(11.0) == 10.0 + RESEND_SECONDS
    assert outbox.next(11.0) is None
    assert outbox.expire(10.0 + RESEND_SECONDS) is None
    assert carried(outbox.next(50.0)) == [["red", "2"]]
    assert outbox.confirm(first.envelope.msg_id)
    assert len(outbox) == 1, "the newer value is not confirmed by the late answer to the older one"


def test_a_late_answer_forgets_what_is_due_again() -> None:
    outbox = new(TWIN_REPORT)
    outbox.put(TWIN_REPORT, "lamp", "red", b"1")
    first = depart(outbox)
    outbox.recall()
    assert outbox.confirm(first.envelope.msg_id)
    assert outbox.next(0.0) is None
    outbox.put(TWIN_REPORT, "lamp", "red", b"2")
    assert carried(outbox.next(0.0)) == [["red", "2"]]


def test_the_composer_may_repeat_an_id() -> None:
    outbox = Outbox(FakeRows())

    def same(subject: str, items: Mapping[str, bytes]) -> Envelope:
        envelope = compose(subject, items)
        envelope.msg_id = subject
        return envelope

    outbox.compose_with(USER_DATA, same)
    outbox.put(USER_DATA, "id-1", "t", b"1")
    depart(outbox)
    outbox.recall()
    depart(outbox)
    assert outbox.confirm("id-1")
    assert not outbox.confirm("id-1")
    assert len(outbox) == 0


def test_foreign_answers_are_not_the_outboxs() -> None:
    assert not new(TWIN_REPORT).confirm("nobody")


def test_listeners_hear_what_an_envelope_carried() -> None:
    outbox = new(TWIN_REPORT)
    heard: list[tuple[str, list[str]]] = []

    def listen(subject: str, items: Collection[str]) -> None:
        heard.append((subject, sorted(items)))
        outbox.put(TWIN_REPORT, subject, "again", b"2")

    outbox.on_confirmed(TWIN_REPORT, listen)
    outbox.put(TWIN_REPORT, "lamp", "red", b"1")
    outbox.put(TWIN_REPORT, "lamp", "green", b"1")
    outbox.confirm(depart(outbox).envelope.msg_id)
    assert heard == [("lamp", ["green", "red"])]
    assert carried(outbox.next(0.0)) == [["again", "2"]]


def test_waking_once_a_subject() -> None:
    outbox = Outbox(FakeRows())
    woken: list[int] = []
    outbox.on_waiting(lambda: woken.append(1))
    outbox.put(TWIN_REPORT, "lamp", "red", b"1")
    assert not woken, "nothing can go without a composer"
    outbox.compose_with(TWIN_REPORT, compose)
    assert len(woken) == 1
    outbox.put(TWIN_REPORT, "lamp", "red", b"2")
    assert len(woken) == 1
    depart(outbox)
    outbox.put(TWIN_REPORT, "lamp", "red", b"3")
    assert len(woken) == 1
    outbox.recall()
    assert len(woken) == 2


def test_a_refusing_class_says_so_and_still_takes_newer_values() -> None:
    outbox = new(FEW)
    outbox.put(FEW, "a", "", b"1")
    outbox.put(FEW, "b", "", b"1")
    with pytest.raises(StoreFull, match="2 messages of class few"):
        outbox.put(FEW, "c", "", b"1")
    outbox.put(FEW, "a", "", b"2")
    outbox.confirm(depart(outbox).envelope.msg_id)
    outbox.put(FEW, "c", "", b"1")


def test_a_dropping_class_loses_its_oldest_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    rows = FakeRows()
    outbox = new(LAST_FEW, rows=rows)
    with caplog.at_level(logging.WARNING):
        for number in range(6):
            outbox.put(LAST_FEW, str(number), "", b"x")
            rows.write()
    assert outbox.dropped == 3
    assert [record.getMessage().split()[0] for record in caplog.records] == ["outbox.dropping"]
    assert [subject for _, subject, _, _ in rows.disk.values()] == ["3", "4", "5"]
    for expected in ("3", "4", "5"):
        departure = depart(outbox)
        assert departure.envelope.resource == expected
        outbox.confirm(departure.envelope.msg_id)
    assert "outbox.dropped class=last-few rows=3" in caplog.text
    assert outbox.next(0.0) is None


def test_what_was_dropped_in_flight_is_not_sent_again() -> None:
    outbox = new(NODE_STATUS)
    for number in range(NODE_STATUS.bound):
        outbox.put(NODE_STATUS, str(number), "", b"x")
        depart(outbox)
    outbox.put(NODE_STATUS, "new", "", b"x")
    outbox.recall()
    sent = [depart(outbox).envelope.resource for _ in range(NODE_STATUS.bound)]
    assert sorted(sent) == ["1", "2", "3", "new"]
    assert outbox.next(0.0) is None


def test_bytes_are_bounded_too() -> None:
    outbox = new(EVENT, TWIN_REPORT, max_bytes=100)
    for number in range(5):
        outbox.put(EVENT, "s", str(number), b"x" * 40)
    assert outbox.dropped == 3
    outbox.put(TWIN_REPORT, "s", "big", b"x" * 1000)
    with pytest.raises(StoreFull):
        outbox.put(TWIN_REPORT, "s", "more", b"x")
    outbox.put(TWIN_REPORT, "s", "big", b"x")
    outbox.put(TWIN_REPORT, "s", "more", b"x")


def test_an_envelope_has_a_limit() -> None:
    outbox = new(TWIN_REPORT)
    for number in range(ENVELOPE_ITEMS + 1):
        outbox.put(TWIN_REPORT, "s", str(number), b"x")
    first = depart(outbox)
    assert len(carried(first)) == ENVELOPE_ITEMS
    outbox.confirm(first.envelope.msg_id)
    assert carried(outbox.next(0.0)) == [[str(ENVELOPE_ITEMS), "x"]]


def test_fleeting_classes_never_touch_the_disk() -> None:
    rows = FakeRows()
    outbox = new(LEASE, rows=rows)
    outbox.put(LEASE, "n", "", b"1")
    outbox.put(LEASE, "n", "", b"2")
    assert rows.waiting == {}
    assert carried(outbox.next(0.0)) == [["", "2"]]


def test_rows_of_an_earlier_run_go_first_and_unknown_classes_stay(caplog: pytest.LogCaptureFixture) -> None:
    rows = FakeRows()
    rows.disk = {7: ("event", "s", "a", b"1"), 8: ("of-the-future", "s", "a", b"?"), 9: ("event", "s", "b", b"2")}
    outbox = Outbox(rows)
    for seq, row in rows.disk.items():
        outbox.restore(seq, *row)
    outbox.put(EVENT, "s", "c", b"3")
    assert outbox.next(0.0) is None
    outbox.compose_with(EVENT, compose)
    departure = depart(outbox)
    assert carried(departure) == [["a", "1"], ["b", "2"], ["c", "3"]]
    outbox.confirm(departure.envelope.msg_id)
    rows.write()
    assert list(rows.disk) == [8]
    assert "outbox.unknown-class class=of-the-future" in caplog.text


def test_a_subject_that_cannot_be_composed_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    outbox = Outbox(FakeRows())

    def picky(subject: str, items: Mapping[str, bytes]) -> Envelope:
        if b"bad" in items.values():
            raise ValueError("cannot be said")
        return compose(subject, items)

    outbox.compose_with(TWIN_REPORT, picky)
    outbox.put(TWIN_REPORT, "a", "", b"bad")
    outbox.put(TWIN_REPORT, "b", "", b"good")
    assert depart(outbox).envelope.resource == "b"
    assert "outbox.uncomposable class=twin-report subject=a" in caplog.text
    outbox.put(TWIN_REPORT, "a", "", b"mended")
    assert carried(outbox.next(0.0)) == [["", "mended"]]


def test_a_discarded_subject_is_forgotten_wherever_it_is() -> None:
    rows = FakeRows()
    outbox = new(TWIN_REPORT, USER_DATA, rows=rows)
    outbox.put(TWIN_REPORT, "lamp", "red", b"1")
    flying = depart(outbox)
    outbox.put(TWIN_REPORT, "lamp", "red", b"2")
    outbox.put(TWIN_REPORT, "lamp", "green", b"1")
    outbox.put(TWIN_REPORT, "other", "red", b"1")
    outbox.discard(TWIN_REPORT, "lamp")
    outbox.discard(TWIN_REPORT, "never")
    assert len(outbox) == 1
    assert depart(outbox).envelope.resource == "other"
    outbox.put(TWIN_REPORT, "lamp", "red", b"3")
    assert outbox.confirm(flying.envelope.msg_id)
    assert carried(outbox.next(0.0)) == [["red", "3"]]
    outbox.discard(TWIN_REPORT, "lamp")
    outbox.recall()
    assert carried(outbox.next(0.0)) == [["red", "1"]]
    assert outbox.next(0.0) is None
