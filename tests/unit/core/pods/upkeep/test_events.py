"""Events: their shape, counting up, the rate, and the way through the real outbox."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from fakes.clock import FakeClock
from fakes.rows import FakeRows

from pinnace.core.base.contract.classes import EVENT
from pinnace.core.base.contract.keys import NodeName
from pinnace.core.base.pod import Pod
from pinnace.core.meta.outbox import Outbox
from pinnace.core.pods.upkeep.events import KEPT_PER_POD, EventRecorder
from pinnace.ext.records import Envelope

WEB = Pod({"metadata": {"name": "web", "namespace": "shop", "uid": "u1", "resourceVersion": "7"}})


class Stage:
    def __init__(self, *, is_sending: bool = True) -> None:
        self.clock = FakeClock()
        self.outbox = Outbox(FakeRows())
        self.events = EventRecorder(NodeName("pi"), self.outbox, is_sending=is_sending, clock=self.clock)

    def sent(self) -> list[Envelope]:
        """What the link would write now."""
        found = []
        while (departure := self.outbox.next(self.clock.now())) is not None:
            found.append(departure.envelope)
            self.outbox.confirm(departure.envelope.msg_id)
        return found


def body(envelope: Envelope) -> Any:
    return orjson.loads(envelope.body)


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_an_event_as_kubernetes_shows_it(stage: Stage) -> None:
    stage.events.pod(WEB, "Warning", "BackOff", "Back-off restarting", container="app", is_init=True)
    (envelope,) = stage.sent()
    event = body(envelope)
    assert (envelope.source, envelope.group, envelope.operation) == ("edged", "meta", "insert")
    assert envelope.resource == f"shop/event/{event['metadata']['name']}"
    assert event["metadata"]["name"].startswith("web.")
    assert event["involvedObject"] == {
        "apiVersion": "v1",
        "kind": "Pod",
        "namespace": "shop",
        "name": "web",
        "uid": "u1",
        "resourceVersion": "7",
        "fieldPath": "spec.initContainers{app}",
    }
    assert (event["type"], event["reason"], event["message"], event["count"]) == ("Warning", "BackOff", "Back-off restarting", 1)
    assert event["source"] == {"component": "kubelet", "host": "pi"}
    assert event["firstTimestamp"] == event["lastTimestamp"] == "2027-01-15T08:00:00Z"


def test_a_repetition_is_counted_up(stage: Stage) -> None:
    for _ in range(2):
        stage.events.pod(WEB, "Normal", "Pulled", "there")
    stage.events.pod(WEB, "Normal", "Pulled", "elsewhere")
    first, other = stage.sent()
    assert (first.operation, body(first)["count"]) == ("insert", 2), "what was not sent yet goes as one"
    assert body(other)["message"] == "elsewhere"
    stage.clock._now += 60
    stage.events.pod(WEB, "Normal", "Pulled", "there")
    (patch,) = stage.sent()
    assert (patch.operation, patch.resource) == ("patch", first.resource)
    content = body(patch)
    assert content["event"]["count"] == 3
    assert orjson.loads(content["patchData"]) == {"count": 3, "lastTimestamp": "2027-01-15T08:01:00Z", "message": "there"}
    assert content["event"]["firstTimestamp"] == "2027-01-15T08:00:00Z"


def test_after_ten_minutes_it_is_a_new_one(stage: Stage) -> None:
    stage.events.pod(WEB, "Normal", "Pulled", "there")
    (first,) = stage.sent()
    stage.clock._now += 601
    stage.events.pod(WEB, "Normal", "Pulled", "there")
    (second,) = stage.sent()
    assert second.operation == "insert"
    assert second.resource != first.resource


def test_one_object_s_flood_is_held_back(stage: Stage) -> None:
    for number in range(100):
        stage.events.pod(WEB, "Normal", "Noise", f"number {number}")
    stage.events.node("Normal", "Starting", "quiet")
    sent = stage.sent()
    assert len(sent) == 26
    assert body(sent[-1])["involvedObject"]["kind"] == "Node"
    assert sent[-1].resource.startswith("default/event/pi.")
    stage.clock._now += 300
    for number in range(5):
        stage.events.pod(WEB, "Normal", "Noise", f"later {number}")
    assert len(stage.sent()) == 1


def test_the_newest_are_kept_for_this_machine_even_when_none_is_sent() -> None:
    stage = Stage(is_sending=False)
    for number in range(KEPT_PER_POD + 5):
        stage.events.pod(WEB, "Normal", "Noise", f"number {number}")
    assert not stage.sent()
    kept = stage.events.recent("u1")
    assert [each["message"] for each in kept] == [f"number {number}" for number in range(5, KEPT_PER_POD + 5)]
    assert stage.events.recent("other") == ()


def test_memory_is_bounded(stage: Stage) -> None:
    for number in range(400):
        stage.events.pod(Pod({"metadata": {"name": "p", "uid": str(number)}}), "Normal", "x", "y" * 5000)
    assert stage.events.recent("0") == ()
    (kept,) = stage.events.recent("399")
    assert len(kept["message"]) == 1024


def test_rows_of_the_run_before_are_composed_too(stage: Stage) -> None:
    stage.events.pod(WEB, "Normal", "Pulled", "there")
    (envelope,) = stage.sent()
    stage.outbox.put(EVENT, "shop/web.1", "patch", envelope.body)
    (again,) = stage.sent()
    assert (again.operation, again.resource) == ("patch", "shop/event/web.1")
