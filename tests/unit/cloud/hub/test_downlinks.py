"""What waits for one node: the newest of each object, one of it in flight, nothing older after something newer."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinnace.cloud.hub.downlinks import Downlinks
from pinnace.cloud.ports import Downlink
from pinnace.core.base.contract.envelopes import ack
from pinnace.core.base.contract.keys import NodeName, ResourceKey
from pinnace.core.base.wire.events import GaveUp, Stored
from pinnace.core.base.wire.session import Limits, Role, Session
from pinnace.ext import frame
from pinnace.ext.records import Envelope


def push(name: str, version: int, *, operation: str = "update", body: bytes = b"{}", acknowledged: bool = True, uid: str = "") -> Downlink:
    key = ResourceKey("configmap", "ns", name)
    return Downlink(key, operation, body, "s", "resource", str(version), uid=uid or name, acknowledged=acknowledged)


class Wire:
    """Downlinks, their session, and a node that acknowledges what it is told to."""

    def __init__(self, *, wire: int = 1, limits: Limits | None = None, bound: int = 100, plain_bound: int = 100) -> None:
        self.now = 0.0
        self.session = Session(Role.CLOUD, now=0.0, wire=wire, limits=limits or Limits())
        self.downlinks = Downlinks(NodeName("n"), bound=bound, plain_bound=plain_bound)
        self.reader = frame.FrameReader()

    def sent(self) -> list[Envelope]:
        """What goes out now."""
        found: list[Envelope] = []
        self.downlinks.fill(self.session)
        while messages := self.session.data_to_send(self.now):
            for message in messages:
                assert isinstance(message, bytes)
                found += self.reader.feed(message)
            self.downlinks.fill(self.session)
        return found

    def acknowledge(self, envelope: Envelope) -> None:
        """The answer to a push; the hub ignores one that comes late."""
        for event in self.session.receive(frame.pack([ack(envelope)]), self.now):
            if isinstance(event, Stored):
                self.downlinks.stored(event.token)  # type: ignore[arg-type]

    def wait(self, seconds: float) -> None:
        self.now += seconds
        for event in self.session.handle_timer(self.now):
            if isinstance(event, GaveUp):
                self.downlinks.gave_up(event.token)  # type: ignore[arg-type]


def versions(envelopes: list[Envelope]) -> list[tuple[str, str]]:
    return [(each.resource.rpartition("/")[2], each.resource_version) for each in envelopes]


def test_the_newest_of_an_object_goes_in_the_place_of_the_first() -> None:
    wire = Wire()
    for each in (push("a", 1), push("b", 2), push("a", 3)):
        wire.downlinks.add(each)
    assert versions(wire.sent()) == [("a", "3"), ("b", "2")]


def test_of_an_object_one_is_in_flight() -> None:
    wire = Wire()
    wire.downlinks.add(push("a", 1))
    (first,) = wire.sent()
    for version in (2, 3):
        wire.downlinks.add(push("a", version))
    assert wire.sent() == []
    wire.acknowledge(first)
    assert versions(wire.sent()) == [("a", "3")]


def test_what_is_older_or_said_already_is_dropped() -> None:
    wire = Wire()
    wire.downlinks.add(push("a", 5))
    wire.downlinks.add(push("a", 4))
    wire.downlinks.add(push("a", 5))
    (only,) = wire.sent()
    wire.downlinks.add(push("a", 5))
    wire.acknowledge(only)
    assert wire.sent() == []
    assert len(wire.downlinks) == 0


def test_a_change_without_a_new_version_is_sent() -> None:
    wire = Wire()
    wire.downlinks.add(push("a", 5, body=b"1"))
    wire.downlinks.add(push("a", 5, body=b"2"))
    assert [each.body for each in wire.sent()] == [b"2"]


def test_a_delete_is_the_last_word_about_its_uid_and_another_uid_is_another_object() -> None:
    wire = Wire()
    wire.downlinks.add(push("a", 5, operation="delete", uid="u1"))
    wire.downlinks.add(push("a", 9, uid="u1"))
    wire.downlinks.add(push("a", 10, uid="u2"))
    assert [(each.operation, each.resource_version) for each in wire.sent()] == [("delete", "5"), ("update", "10")]


def test_what_was_given_up_goes_again_under_its_own_id_behind_the_others() -> None:
    wire = Wire(limits=Limits(window=1, sends=2, resend_interval=5, keepalive_timeout=1e9))
    wire.downlinks.add(push("a", 1))
    wire.downlinks.add(push("b", 2))
    (first,) = wire.sent()
    wire.wait(5)
    assert [each.msg_id for each in wire.sent()] == [first.msg_id]
    wire.wait(5)
    (second,) = wire.sent()
    assert versions([second]) == [("b", "2")]
    wire.acknowledge(second)
    assert [each.msg_id for each in wire.sent()] == [first.msg_id]


def test_what_was_given_up_yields_to_a_newer_one() -> None:
    wire = Wire(limits=Limits(window=1, sends=1, resend_interval=5, keepalive_timeout=1e9))
    wire.downlinks.add(push("a", 1))
    wire.sent()
    wire.downlinks.add(push("a", 2))
    wire.wait(5)
    assert versions(wire.sent()) == [("a", "2")]


def test_a_deletion_that_was_given_up_goes_before_the_object_made_anew() -> None:
    """KubeEdge's edge deletes by name: a late deletion would take away the new object, which it has acknowledged already."""
    wire = Wire(limits=Limits(window=1, sends=1, resend_interval=5, keepalive_timeout=1e9))
    wire.downlinks.add(push("a", 5, operation="delete", uid="u1"))
    wire.downlinks.add(push("a", 10, uid="u2"))
    wire.downlinks.add(push("b", 11))
    seen = []
    for _ in range(4):
        (each,) = wire.sent()
        seen.append((each.operation, each.resource_version))
        if len(seen) > 1:
            wire.acknowledge(each)
        wire.wait(5)
    assert seen == [("delete", "5"), ("update", "11"), ("delete", "5"), ("update", "10")]


def test_at_the_bound_pushes_are_left_to_the_sync_controller(caplog: pytest.LogCaptureFixture) -> None:
    wire = Wire(bound=3)
    for number in range(10):
        wire.downlinks.add(push(str(number), 1))
    wire.downlinks.add(push("0", 2))
    assert versions(wire.sent()) == [("0", "2"), ("1", "1"), ("2", "1")]
    assert caplog.text.count("hub.queue.full") == 1


def test_at_the_bound_the_oldest_message_without_acknowledgement_goes(caplog: pytest.LogCaptureFixture) -> None:
    wire = Wire(plain_bound=2)
    for number in range(5):
        wire.downlinks.add(push(str(number), 1, acknowledged=False))
    assert versions(wire.sent()) == [("3", "1"), ("4", "1")]
    assert "dropped=3" in caplog.text


def test_what_can_never_be_sent_holds_up_nothing(caplog: pytest.LogCaptureFixture) -> None:
    wire = Wire(limits=Limits(message_bytes=1000))
    wire.downlinks.add(push("big", 1, body=b'"' + b"x" * 2000 + b'"'))
    wire.downlinks.add(push("small", 2))
    assert versions(wire.sent()) == [("small", "2")]
    assert "hub.push.impossible" in caplog.text
    assert len(wire.downlinks) == 1


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.tuples(st.just("push"), st.sampled_from("abc")), st.just(("ack", "")), st.just(("wait", "")))))
def test_a_node_ends_with_the_newest_of_everything_and_never_goes_back(steps: list[tuple[str, str]]) -> None:
    wire = Wire(limits=Limits(window=2, sends=2, resend_interval=5, keepalive_timeout=1e9))
    newest: dict[str, int] = {}
    seen: dict[str, list[int]] = {}
    unanswered: list[Envelope] = []

    def read() -> None:
        for envelope in wire.sent():
            name = envelope.resource.rpartition("/")[2]
            seen.setdefault(name, []).append(int(envelope.resource_version))
            unanswered.append(envelope)

    for number, (step, name) in enumerate(steps, 1):
        if step == "push":
            newest[name] = number
            wire.downlinks.add(push(name, number))
        elif step == "ack" and unanswered:
            wire.acknowledge(unanswered.pop(0))
        elif step == "wait":
            wire.wait(5)
        read()
    for _ in range(100):
        while unanswered:
            wire.acknowledge(unanswered.pop(0))
        wire.wait(5)
        read()
    assert {name: each[-1] for name, each in seen.items()} == newest
    assert all(each == sorted(each) for each in seen.values())
    assert len(wire.downlinks) == 0
