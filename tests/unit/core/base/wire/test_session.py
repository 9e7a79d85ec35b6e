"""The hub session: both roles joined in memory, both dialects, time in hand."""

from __future__ import annotations

import orjson
import pytest

from pinnace.core.base.contract import wireversion
from pinnace.core.base.contract.envelopes import ack, new
from pinnace.core.base.wire.session import Event, Expired, GaveUp, Limits, Received, Role, Session, Stored, Violation
from pinnace.ext import envelope as codec
from pinnace.ext import frame
from pinnace.ext.records import Envelope

WIRES = [0, 1]


def push(name: str = "a", kind: str = "configmap", body: object = None) -> Envelope:
    return new("edgecontroller", "resource", "update", f"default/{kind}/{name}", {"metadata": {"name": name}} if body is None else body)


def deliver(sender: Session, receiver: Session, now: float) -> list[Event]:
    events: list[Event] = []
    while messages := sender.data_to_send(now):
        for message in messages:
            events += receiver.receive(message, now)
    return events


def names(messages: list[str | bytes]) -> list[str]:
    found: list[Envelope] = []
    for message in messages:
        found += [codec.decode(message.encode())] if isinstance(message, str) else frame.FrameReader().feed(message)
    return [each.resource.rpartition("/")[2] for each in found]


def drained(role: Role, *, wire: int = 0, limits: Limits | None = None) -> Session:
    """A session whose first keepalive is out of the way."""
    session = Session(role, now=0.0, wire=wire, limits=limits or Limits())
    session.data_to_send(0.0)
    return session


@pytest.mark.parametrize("wire", WIRES)
def test_a_push_arrives_and_its_acknowledgement_returns(wire: int) -> None:
    cloud = Session(Role.CLOUD, now=0.0, wire=wire)
    edge = Session(Role.EDGE, now=0.0, wire=wire)
    assert deliver(edge, cloud, 0.0) == []  # the first keepalive is answered by nothing
    cloud.send(push("a"), acknowledged=True, token="one")
    (received,) = deliver(cloud, edge, 1.0)
    assert isinstance(received, Received)
    assert orjson.loads(received.envelope.body) == {"metadata": {"name": "a"}}
    assert cloud.unacknowledged == 1
    edge.send(ack(received.envelope))
    assert deliver(edge, cloud, 1.5) == [Stored("one")]
    assert cloud.unacknowledged == 0


def test_the_upstream_dialect_is_one_text_object_and_a_line_feed_a_message() -> None:
    cloud = Session(Role.CLOUD, now=0.0)
    for name in "ab":
        cloud.send(push(name))
    messages = cloud.data_to_send(0.0)
    assert len(messages) == 2
    assert all(isinstance(each, str) and each.endswith("}\n") for each in messages)


def test_the_first_message_of_an_edge_is_a_keepalive() -> None:
    (message,) = Session(Role.EDGE, now=0.0).data_to_send(0.0)
    assert isinstance(message, str)
    value = orjson.loads(message)
    assert value["route"] == {"source": "websocket", "group": "resource", "operation": "keepalive", "resource": "node"}
    assert value["content"] == "ping"


def test_upstream_has_one_push_in_flight_and_unacknowledged_messages_pass_it() -> None:
    cloud = Session(Role.CLOUD, now=0.0)
    cloud.send(first := push("a"), acknowledged=True)
    cloud.send(push("b"), acknowledged=True)
    assert names(cloud.data_to_send(0.0)) == ["a"]
    cloud.send(push("c"))
    assert names(cloud.data_to_send(0.0)) == ["c"]
    assert cloud.waiting == 1
    assert cloud.receive(codec.encode(ack(first)), 0.1) == [Stored(None)]
    assert names(cloud.data_to_send(0.1)) == ["b"]


def test_between_ours_a_window_is_in_flight_and_a_burst_is_one_message() -> None:
    cloud = Session(Role.CLOUD, now=0.0, wire=1, limits=Limits(window=3))
    for number in range(5):
        cloud.send(push(str(number)), acknowledged=True, token=number)
    assert cloud.room == -2
    messages = cloud.data_to_send(0.0)
    assert len(messages) == 1
    assert isinstance(messages[0], bytes)
    assert names(messages) == ["0", "1", "2"]
    edge = drained(Role.EDGE, wire=1)
    for event in edge.receive(messages[0], 0.0):
        assert isinstance(event, Received)
        edge.send(ack(event.envelope))
    (acks,) = edge.data_to_send(0.0)
    assert cloud.receive(acks, 0.1) == [Stored(0), Stored(1), Stored(2)]
    assert names(cloud.data_to_send(0.1)) == ["3", "4"]


@pytest.mark.parametrize("wire", WIRES)
def test_a_push_is_sent_five_times_five_seconds_apart_and_given_up_after_five_more(wire: int) -> None:
    cloud = Session(Role.CLOUD, now=0.0, wire=wire, limits=Limits(keepalive_timeout=1e9))
    cloud.send(push("a"), acknowledged=True, token="it")
    sent: list[tuple[float, str | bytes]] = [(0.0, cloud.data_to_send(0.0)[0])]
    ended: list[tuple[float, Event]] = []
    while cloud.unacknowledged:
        now = cloud.next_timer()
        assert now is not None
        ended += [(now, event) for event in cloud.handle_timer(now)]
        sent += [(now, message) for message in cloud.data_to_send(now)]
    assert [at for at, _ in sent] == [0.0, 5.0, 10.0, 15.0, 20.0]
    assert len({message for _, message in sent}) == 1
    assert ended == [(25.0, GaveUp("it"))]


def test_a_late_acknowledgement_of_a_push_given_up_counts_for_its_repetition() -> None:
    cloud = Session(Role.CLOUD, now=0.0, limits=Limits(sends=1, keepalive_timeout=1e9))
    cloud.send(it := push("a"), acknowledged=True, token="it")
    cloud.data_to_send(0.0)
    assert cloud.handle_timer(5.0) == [GaveUp("it")]
    cloud.send(it, acknowledged=True, token="it")
    assert cloud.receive(codec.encode(ack(it)), 5.1) == [Stored("it")]
    assert cloud.data_to_send(5.1) == []
    assert cloud.waiting == 0


@pytest.mark.parametrize("wire", WIRES)
def test_an_acknowledgement_that_comes_while_the_repetition_waits_withdraws_it(wire: int) -> None:
    cloud = Session(Role.CLOUD, now=0.0, wire=wire)
    cloud.send(it := push("a"), acknowledged=True, token="it")
    cloud.data_to_send(0.0)
    assert cloud.handle_timer(5.0) == []
    assert cloud.waiting == 1
    assert cloud.receive(codec.encode(ack(it)).decode(), 5.1) == [Stored("it")]
    assert cloud.data_to_send(5.1) == []
    assert cloud.room == (128 if wire else 1)


def test_an_error_is_no_acknowledgement() -> None:
    cloud = Session(Role.CLOUD, now=0.0)
    cloud.send(it := push("a"), acknowledged=True)
    cloud.data_to_send(0.0)
    refusal = ack(it)
    refusal.operation = "error"
    assert cloud.receive(codec.encode(refusal), 0.1) == [Received(refusal)]
    assert cloud.unacknowledged == 1


def test_unsolicited_acknowledgements_are_no_fault() -> None:
    cloud = Session(Role.CLOUD, now=0.0)
    assert cloud.receive(codec.encode(stray := ack(push())), 0.1) == [Received(stray)]
    assert cloud.closed == ""


def test_what_is_urgent_overtakes_what_is_bulky() -> None:
    cloud = Session(Role.CLOUD, now=0.0, limits=Limits(burst_bytes=1))
    cloud.send(new("router_eventbus", "user", "publish", "topic", "x"))
    cloud.send(push("device", kind="device"))
    cloud.send(push("pod", kind="pod"))
    cloud.send(ack(push("acked")))
    cloud.send(new("edgecontroller", "resource", "response", "kube-node-lease/lease/edge", {"Object": {}, "Err": None}))
    order: list[str] = []
    while messages := cloud.data_to_send(0.0):
        order += names(messages)
    assert order == ["edge", "acked", "pod", "device", "topic"]


def test_membership_model_and_device_keep_their_order() -> None:
    cloud = Session(Role.CLOUD, now=0.0, wire=1)
    cloud.send(new("devicecontroller", "twin", "update", "membership", {}))
    cloud.send(push("model", kind="devicemodel"), acknowledged=True)
    cloud.send(push("lamp", kind="device"), acknowledged=True)
    cloud.send(new("devicecontroller", "twin", "update", "membership", {}))
    assert names(cloud.data_to_send(0.0)) == ["membership", "model", "lamp", "membership"]


def test_an_edge_sends_keepalives_and_only_one_waits() -> None:
    edge = drained(Role.EDGE)
    assert edge.next_timer() == 15.0
    assert edge.handle_timer(14.9) == []
    assert edge.data_to_send(14.9) == []
    edge.handle_timer(15.0)
    edge.handle_timer(31.0)
    assert names(edge.data_to_send(31.0)) == ["node"]


def test_the_cloud_expects_keepalives_and_nothing_else_counts() -> None:
    cloud = Session(Role.CLOUD, now=0.0)
    keepalive = Session(Role.EDGE, now=0.0).data_to_send(0.0)[0]
    assert cloud.receive(keepalive, 20.0) == []
    cloud.receive(codec.encode(push("a")), 40.0)
    assert cloud.next_timer() == 50.0
    (expired,) = cloud.handle_timer(50.0)
    assert isinstance(expired, Expired)
    assert "30 s" in cloud.closed
    assert cloud.next_timer() is None
    assert cloud.receive(keepalive, 50.0) == []


def test_an_owner_that_did_not_read_does_not_blame_the_peer() -> None:
    cloud = Session(Role.CLOUD, now=0.0)
    cloud.heard(29.0)
    assert cloud.handle_timer(30.0) == []
    assert cloud.next_timer() == 59.0


@pytest.mark.parametrize("operation", ["config", "ping", "pong"])
def test_control_operations_are_answered_and_swallowed(operation: str) -> None:
    edge = drained(Role.EDGE)
    request = new("x", "y", operation, "z")
    assert edge.receive(codec.encode(request), 0.0) == []
    (answer,) = edge.data_to_send(0.0)
    assert isinstance(answer, str)
    value = orjson.loads(answer)
    assert (value["header"]["parent_msg_id"], value["content"]) == (request.msg_id, "ack")
    assert value["route"] == {"source": "x", "group": "y", "operation": "response", "resource": "z"}


@pytest.mark.parametrize(
    ("wire", "message"),
    [
        (0, "{"),
        (0, "[]"),
        (0, '{"header":{"msg_id":7},"route":{}}'),
        (0, b"\xff\xfe"),
        (1, "{"),
        (1, b"\x01\x01\x01\x00\x01\x00\xff\xff\xff\xff"),
        (1, b"\x01\x01\x01\x00\x01\x00\x00\x00\x00\x02\x0a\xff"),
    ],
)
def test_what_does_not_parse_ends_the_session(wire: int, message: str | bytes) -> None:
    cloud = Session(Role.CLOUD, now=0.0, wire=wire)
    cloud.send(push("a"))
    (violation,) = cloud.receive(message, 0.0)
    assert isinstance(violation, Violation)
    assert violation.reason == cloud.closed != ""
    assert cloud.data_to_send(0.0) == []
    cloud.send(push("b"))
    assert cloud.waiting == 0


def test_a_message_over_the_limit_ends_the_session() -> None:
    cloud = Session(Role.CLOUD, now=0.0, limits=Limits(message_bytes=100))
    (violation,) = cloud.receive("x" * 101, 0.0)
    assert isinstance(violation, Violation)


def test_the_empty_envelope_of_a_dying_edge_is_passed_over() -> None:
    cloud = Session(Role.CLOUD, now=0.0)
    assert cloud.receive('{"header":{"msg_id":"","timestamp":0},"route":{},"content":null}\n', 0.0) == []
    assert cloud.closed == ""


def test_text_keeps_its_meaning_between_ours() -> None:
    cloud = Session(Role.CLOUD, now=0.0, wire=1)
    assert cloud.receive(codec.encode(it := push("a")).decode(), 0.0) == [Received(it)]


def test_the_queue_is_bounded_in_number_and_bytes() -> None:
    cloud = Session(Role.CLOUD, now=0.0, limits=Limits(queue=2, message_bytes=2000, queue_bytes=2500))
    with pytest.raises(ValueError, match="at most 2000"):
        cloud.send(push("big", body="x" * 2000))
    cloud.send(push("a", body="x" * 1000))
    with pytest.raises(OverflowError):
        cloud.send(push("b", body="x" * 1000))
    cloud.send(push("b"))
    with pytest.raises(OverflowError):
        cloud.send(push("c"))
    cloud.data_to_send(0.0)
    cloud.send(push("c"))


def test_a_push_needs_an_id_of_its_own() -> None:
    cloud = Session(Role.CLOUD, now=0.0)
    cloud.send(it := push("a"), acknowledged=True)
    with pytest.raises(ValueError, match="id of its own"):
        cloud.send(it, acknowledged=True)


def test_tokens_of_plain_messages_come_back_once_handed_out() -> None:
    cloud = Session(Role.CLOUD, now=0.0)
    cloud.send(push("a"), token=1)
    cloud.send(push("b"))
    cloud.send(push("c"), token=2)
    assert cloud.take_written() == []
    cloud.data_to_send(0.0)
    assert cloud.take_written() == [1, 2]
    assert cloud.take_written() == []


def test_packed_messages_stay_below_the_limit() -> None:
    limits = Limits(message_bytes=4000, burst_bytes=1 << 20)
    cloud = Session(Role.CLOUD, now=0.0, wire=1, limits=limits)
    edge = drained(Role.EDGE, wire=1, limits=limits)
    for number in range(4):
        cloud.send(push(str(number), body="x" * 3000))
    assert len(deliver(cloud, edge, 0.0)) == 4


@pytest.mark.parametrize(("offer", "agreed"), [("", 0), ("1", 1), ("7", 1), ("0", 0), ("-1", 0), ("one", 0), ("1, 1", 0), ("²", 0)])
def test_versions_are_agreed_on(offer: str, agreed: int) -> None:
    assert wireversion.agree(offer) == agreed
