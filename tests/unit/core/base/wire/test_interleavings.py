"""Whatever is lost, doubled or delayed between two sessions: each push is stored at least once, or given back to its owner."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pinnace.core.base.contract.envelopes import ack, new
from pinnace.core.base.wire.session import GaveUp, Limits, Received, Role, Session, Stored

STEPS = st.lists(st.sampled_from(["push", "plain", "down", "lose", "double", "up", "lose-up", "tick", "beat"]), max_size=120)
LIMITS = Limits(window=4, keepalive_timeout=1e9, burst_bytes=2048)


@settings(max_examples=150, deadline=None)
@given(wire=st.sampled_from([0, 1]), steps=STEPS)
def test_nothing_is_lost_without_being_told(wire: int, steps: list[str]) -> None:
    cloud = Session(Role.CLOUD, now=0.0, wire=wire, limits=LIMITS)
    edge = Session(Role.EDGE, now=0.0, wire=wire, limits=LIMITS)
    now = 0.0
    queued: dict[int, str] = {}
    settled: set[int] = set()
    seen: list[str] = []

    def down(copies: int) -> None:
        for message in cloud.data_to_send(now):
            for _ in range(copies):
                for event in edge.receive(message, now):
                    assert isinstance(event, Received)
                    seen.append(event.envelope.msg_id)
                    if event.envelope.resource.startswith("default"):
                        edge.send(ack(event.envelope))

    def up(copies: int) -> None:
        for message in edge.data_to_send(now):
            for _ in range(copies):
                for event in cloud.receive(message, now):
                    if isinstance(event, Stored):
                        assert isinstance(event.token, int)
                        assert event.token not in settled
                        settled.add(event.token)
                        assert queued[event.token] in seen
                    else:
                        assert isinstance(event, Received)  # a second acknowledgement
                        assert event.envelope.operation == "response"

    def tick(seconds: float) -> None:
        nonlocal now
        now += seconds
        for event in cloud.handle_timer(now):
            assert isinstance(event, GaveUp)
            assert isinstance(event.token, int)
            envelope = new("c", "resource", "update", f"default/pod/{event.token}", {})
            envelope.msg_id = queued[event.token]
            cloud.send(envelope, acknowledged=True, token=event.token)
        edge.handle_timer(now)
        assert cloud.unacknowledged <= (4 if wire else 1)

    for step in steps:
        match step:
            case "push":
                number = len(queued)
                envelope = new("c", "resource", "update", f"default/pod/{number}", {})
                queued[number] = envelope.msg_id
                cloud.send(envelope, acknowledged=True, token=number)
            case "plain":
                cloud.send(new("c", "user", "publish", "topic", "x"))
            case "down":
                down(1)
            case "lose":
                down(0)
            case "double":
                down(2)
            case "up":
                up(1)
            case "lose-up":
                up(0)
            case "tick":
                tick(5.0)
            case _:
                tick(0.5)
    for _ in range(30 * (len(queued) + 1)):
        if settled == set(queued):
            break
        down(1)
        up(1)
        tick(5.0)
    assert settled == set(queued)
    assert cloud.unacknowledged == 0
    for identity in set(queued.values()):
        assert identity in seen


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([0, 1]))
def test_no_bytes_break_it(data: bytes, wire: int) -> None:
    session = Session(Role.CLOUD, now=0.0, wire=wire)
    session.receive(data, 0.0)
    session.receive(data.decode("latin-1"), 0.0)
    session.data_to_send(0.0)
