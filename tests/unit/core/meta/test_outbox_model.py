"""Any sequence of puts, sendings, answers, cuts, power cuts and bounds: the outbox agrees with a model that a reader can check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson
from fakes.rows import FakeRows
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pinnace.core.base.contract import envelopes
from pinnace.core.base.contract.classes import CLASSES, EVENT, TWIN_REPORT, MessageClass
from pinnace.core.meta.outbox import RESEND_SECONDS, Outbox
from pinnace.ext.records import Envelope

SUBJECTS = st.sampled_from(["s1", "s2", "s3"])
ITEMS = st.sampled_from(["a", "b", "c"])
KINDS = st.sampled_from([TWIN_REPORT, EVENT])


def compose(kind: MessageClass, subject: str, items: Mapping[str, bytes]) -> Envelope:
    content = [kind.name, [[name, int(body)] for name, body in items.items()]]
    return envelopes.new("twin", "twin", "update", subject, content)


@dataclass
class Sent:
    kind: MessageClass
    subject: str
    items: list[tuple[str, int]]


@dataclass
class Model:
    """Values are numbers that only grow. `latest` has the newest unconfirmed value of a key, `every` all unconfirmed ones in order."""

    latest: dict[tuple[str, str], int] = field(default_factory=dict)
    every: dict[str, list[tuple[str, int]]] = field(default_factory=dict)

    def put(self, kind: MessageClass, subject: str, item: str, value: int) -> None:
        if kind is TWIN_REPORT:
            self.latest[subject, item] = value
        else:
            self.every.setdefault(subject, []).append((item, value))

    def confirm(self, sent: Sent) -> None:
        for item, value in sent.items:
            if sent.kind is TWIN_REPORT:
                if self.latest.get((sent.subject, item)) == value:
                    del self.latest[sent.subject, item]
            elif (item, value) in self.every.get(sent.subject, []):
                self.every[sent.subject].remove((item, value))

    def rows(self) -> set[tuple[str, str, str, bytes]]:
        latest = {(TWIN_REPORT.name, subject, item, b"%d" % value) for (subject, item), value in self.latest.items()}
        every = {(EVENT.name, subject, item, b"%d" % value) for subject, items in self.every.items() for item, value in items}
        return latest | every


class OutboxMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.model = Model()
        self.rows = FakeRows()
        self.value = 0
        self.now = 0.0
        self.highest_sent: dict[tuple[str, str], int] = {}
        self.sent: dict[str, Sent] = {}
        self.old: dict[str, Sent] = {}
        self.open()

    def open(self) -> None:
        self.outbox = Outbox(self.rows)
        for seq, row in sorted(self.rows.disk.items()):
            self.outbox.restore(seq, *row)
        for kind in (TWIN_REPORT, EVENT):
            self.outbox.compose_with(kind, lambda subject, items, kind=kind: compose(kind, subject, items))  # type: ignore[misc]

    @rule(kind=KINDS, subject=SUBJECTS, item=ITEMS)
    def put(self, kind: MessageClass, subject: str, item: str) -> None:
        self.value += 1
        self.outbox.put(kind, subject, item, b"%d" % self.value)
        self.model.put(kind, subject, item, self.value)

    @rule()
    def send(self) -> None:
        departure = self.outbox.next(self.now)
        busy = {(each.kind.name, each.subject) for each in self.sent.values()}
        if departure is None:
            waiting = {(row[0], row[1]) for row in self.model.rows()} - busy
            assert not waiting, "what may go now is not offered"
            return
        name, pairs = orjson.loads(departure.envelope.body)
        kind, subject = CLASSES[name], departure.envelope.resource
        assert (name, subject) not in busy, "two of one subject are in flight"
        items = [(item, value) for item, value in pairs]
        assert items
        if kind is TWIN_REPORT:
            for item, value in items:
                assert value == self.model.latest[subject, item], "an older value is sent although a newer one is known"
                assert value >= self.highest_sent.get((subject, item), 0)
                self.highest_sent[subject, item] = value
        else:
            assert items == self.model.every[subject][: len(items)], "out of order, or one left out"
        self.sent[departure.envelope.msg_id] = Sent(kind, subject, items)

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        msg_id = data.draw(st.sampled_from(list(self.sent)))
        assert self.outbox.confirm(msg_id)
        self.model.confirm(self.sent.pop(msg_id))

    @precondition(lambda self: self.old)
    @rule(data=st.data())
    def answer_late(self, data: st.DataObject) -> None:
        msg_id = data.draw(st.sampled_from(list(self.old)))
        assert self.outbox.confirm(msg_id)
        self.model.confirm(self.old.pop(msg_id))

    @rule()
    def cut(self) -> None:
        self.outbox.recall()
        self.old.update(self.sent)
        self.sent.clear()

    @rule()
    def wait_too_long(self) -> None:
        self.now += RESEND_SECONDS
        assert self.outbox.expire(self.now) is None
        self.old.update(self.sent)
        self.sent.clear()

    @rule()
    def group_commit(self) -> None:
        self.rows.write()
        assert set(self.rows.disk.values()) == self.model.rows()

    @rule()
    def stop_and_start(self) -> None:
        """Without the window: what it takes away is the subject of the store's own tests."""
        self.rows.write()
        self.sent.clear()
        self.old.clear()
        self.open()

    @invariant()
    def counts_agree(self) -> None:
        if hasattr(self, "model"):
            assert len(self.outbox) == len(self.model.rows())

    def teardown(self) -> None:
        """Whatever happened: with a cloud that answers, everything goes and nothing is left."""
        if not hasattr(self, "model"):
            return
        self.cut()
        while (departure := self.outbox.next(self.now)) is not None:
            name, pairs = orjson.loads(departure.envelope.body)
            assert self.outbox.confirm(departure.envelope.msg_id)
            self.model.confirm(Sent(CLASSES[name], departure.envelope.resource, [(item, value) for item, value in pairs]))
        assert not self.model.rows()
        self.rows.write()
        assert not self.rows.disk


TestOutboxMachine = OutboxMachine.TestCase
TestOutboxMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
