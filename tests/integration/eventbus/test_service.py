"""EventBus between a real mosquitto, a fake outbox and a fake store."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from integration.eventbus.conftest import DEADLINE, run, seen
from integration.mosquitto import Mosquitto, Probe
from rig.processes import free_port
from rig.waiting import until

from pinnace.core.base.contract import envelopes
from pinnace.core.base.contract.classes import USER_DATA, MessageClass
from pinnace.core.base.contract.envelopes import Envelope
from pinnace.core.base.contract.keys import NodeName, ResourceKey
from pinnace.core.base.errors import StoreFull
from pinnace.core.base.observe.health import Health
from pinnace.core.base.ports import Composer, ObjectChange, StoredObject
from pinnace.core.eventbus import uploads as uploads_module
from pinnace.core.eventbus.service import SUBSCRIPTION, EventBus
from pinnace.core.eventbus.settings import EventBusSettings
from pinnace.core.eventbus.uploads import MAX_PAYLOAD

pytestmark = pytest.mark.mosquitto
NODE = NodeName("edge-1")


class FakeStore:
    """Outbox, ObjectStore and `committed` in memory. While `full` it refuses; while `disk` is cleared nothing is committed."""

    def __init__(self) -> None:
        self.rows: asyncio.Queue[tuple[str, str, bytes]] = asyncio.Queue()
        self.composer: Composer | None = None
        self.objects: dict[ResourceKey, StoredObject] = {}
        self.full = False
        self.disk = asyncio.Event()
        self.disk.set()
        self.waiting = 0

    def put(self, kind: MessageClass, subject: str, item: str, body: bytes) -> None:
        assert kind is USER_DATA
        if self.full:
            raise StoreFull("no space left")
        self.rows.put_nowait((subject, item, body))

    def discard(self, kind: MessageClass, subject: str) -> None:
        raise NotImplementedError

    def compose_with(self, kind: MessageClass, composer: Composer) -> None:
        assert kind is USER_DATA
        self.composer = composer

    def on_confirmed(self, kind: MessageClass, listener: Any) -> None:
        raise NotImplementedError

    async def committed(self) -> None:
        self.waiting += 1
        await self.disk.wait()

    def get(self, key: ResourceKey) -> StoredObject | None:
        return self.objects.get(key)

    def list(self, kind: str, namespace: str = "", labels: Mapping[str, str] | None = None) -> list[StoredObject]:
        return [each for key, each in sorted(self.objects.items()) if key.kind == kind]

    async def apply(self, changes: Sequence[ObjectChange]) -> None:
        if self.full:
            raise StoreFull("no space left")
        for change in changes:
            if change.operation == "delete":
                self.objects.pop(change.key, None)
            else:
                self.objects[change.key] = StoredObject(change.key, change.version, change.body)

    async def envelope(self) -> Envelope:
        """The next upload as it would be sent."""
        async with asyncio.timeout(DEADLINE):
            subject, item, body = await self.rows.get()
        assert self.composer is not None
        return self.composer(subject, {item: body})


class Edge:
    """An EventBus and what its listeners were told."""

    def __init__(self, url: str, *, store: FakeStore | None = None, hold: bool = False, **settings: Any) -> None:
        self.store = store or FakeStore()
        self.health = Health()
        self.device: asyncio.Queue[tuple[str, bytes, Callable[[], None] | None]] = asyncio.Queue()
        self.ups = 0
        self.bus = EventBus(
            EventBusSettings(mqtt_server_external=url, **settings),
            NODE,
            outbox=self.store,
            health=self.health,
            objects=self.store,
            committed=self.store.committed,
        )
        self.bus.deliver_to(self._arrived)
        self.bus.on_connected(self._up)
        self._hold = hold

    def _arrived(self, topic: str, payload: bytes, acknowledge: Callable[[], None] | None) -> None:
        self.device.put_nowait((topic, payload, acknowledge))
        if acknowledge is not None and not self._hold:
            acknowledge()

    def _up(self) -> None:
        self.ups += 1

    async def next(self) -> tuple[str, bytes]:
        async with asyncio.timeout(DEADLINE):
            topic, payload, _ = await self.device.get()
        return topic, payload

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[EventBus]:
        async with run(self.bus.run()):
            async with asyncio.timeout(DEADLINE):
                for link in self.bus.links:
                    await link.subscribed.wait()
            yield self.bus

    async def read(self, probe: Probe) -> None:
        """Return when the broker has read all we sent so far."""
        probe.subscribe("echo")
        self.bus.publish("echo", b"")
        while (await seen(probe))[0][0] != "echo":
            pass


def pushed(operation: str, resource: str, content: Any = None, *, source: str = "router_eventbus") -> Envelope:
    return envelopes.new(source, "user", operation, resource, content)


@pytest.mark.parametrize(
    "topic",
    [
        "$hw/events/device/lamp/twin/update",
        "$hw/events/device/lamp/twin/get",
        "$hw/events/device/lamp/twin/cloud_updated",
        "$hw/events/device/lamp/state/update",
        "$hw/events/device/default/lamp/twin/update",
        "$hw/events/device/default/lamp/twin/get",
        "$hw/events/device/default/lamp/state/update",
        "$hw/events/node/edge-1/membership/get",
    ],
)
async def test_what_devices_say_in_both_dialects_goes_to_the_twins(broker: Mosquitto, probe: Probe, topic: str) -> None:
    edge = Edge(broker.url)
    async with edge.running():
        probe.publish(topic, b'{"twin":{}}')
        assert await edge.next() == (topic, b'{"twin":{}}')
    assert edge.store.rows.empty()


@pytest.mark.parametrize("name", ["lamp", "default/lamp"])
async def test_the_edges_own_answers_do_not_come_back(broker: Mosquitto, probe: Probe, name: str) -> None:
    edge = Edge(broker.url)
    async with edge.running() as bus:
        probe.subscribe("$hw/events/device/#")
        for verb in ("twin/update/result", "twin/update/delta", "twin/update/document", "twin/get/result", "state/update/result"):
            bus.publish(f"$hw/events/device/{name}/{verb}", b"{}")
            assert (await seen(probe))[0][0].endswith(verb)
        probe.publish("$hw/events/device/last/twin/get", b"{}")
        assert (await edge.next())[0] == "$hw/events/device/last/twin/get"


@pytest.mark.parametrize("topic", ["SYS/dis/upload_records", "$hw/events/upload/a/b", "app/user/x", "pyedge/user"])
async def test_what_applications_say_goes_to_the_cloud(broker: Mosquitto, probe: Probe, topic: str) -> None:
    edge = Edge(broker.url)
    async with edge.running():
        probe.publish(topic, '{"a":"ü"}')
        envelope = await edge.store.envelope()
    assert (envelope.source, envelope.group, envelope.operation, envelope.resource) == ("bus", "user", "upload", topic)
    assert orjson.loads(envelope.body) == '{"a":"ü"}'
    assert envelope.parent_id == ""
    assert edge.device.empty()


async def test_bytes_that_are_no_text_are_marked(broker: Mosquitto, probe: Probe) -> None:
    edge = Edge(broker.url)
    async with edge.running():
        probe.publish("app/user/x", b"a\xffb\x00")
        assert orjson.loads((await edge.store.envelope()).body) == "a\ufffdb\0"
        probe.publish("app/user/x", b"")
        assert orjson.loads((await edge.store.envelope()).body) == ""


async def test_a_burst_of_uploads_keeps_its_order_and_each_has_an_id(broker: Mosquitto, probe: Probe) -> None:
    edge = Edge(broker.url)
    async with edge.running():
        for number in range(3000):
            probe.publish("app/user/x", str(number), wait=number == 2999)
        sent = [await edge.store.envelope() for _ in range(3000)]
    assert [orjson.loads(each.body) for each in sent] == [str(number) for number in range(3000)]
    assert len({each.msg_id for each in sent}) == 3000


async def test_large_uploads_pass_and_larger_ones_are_dropped(broker: Mosquitto, probe: Probe, caplog: pytest.LogCaptureFixture) -> None:
    edge = Edge(broker.url)
    async with edge.running():
        probe.publish("app/user/large", b"x" * (MAX_PAYLOAD + 1))
        probe.publish("app/user/large", b"x" * MAX_PAYLOAD)
        assert len(orjson.loads((await edge.store.envelope()).body)) == MAX_PAYLOAD
        probe.publish("app/user/small", b"x")
        assert (await edge.store.envelope()).resource == "app/user/small"
    assert "eventbus.upload-too-large" in caplog.text


async def test_an_upload_is_acknowledged_only_when_it_is_on_disk(broker: Mosquitto) -> None:
    edge = Edge(broker.url)
    edge.store.disk.clear()
    async with edge.running():
        with Probe(broker.url) as probe:
            probe.publish("app/user/x", b"1")
            await edge.store.envelope()
            await until(lambda: edge.store.waiting)
            await edge.read(probe)
    again = Edge(broker.url)
    async with again.running():
        assert orjson.loads((await again.store.envelope()).body) == "1"
        with Probe(broker.url) as probe:
            await again.read(probe)
            await again.read(probe)
    last = Edge(broker.url)
    async with last.running():
        with Probe(broker.url) as probe:
            probe.publish("app/user/x", b"2")
        assert orjson.loads((await last.store.envelope()).body) == "2"


async def test_a_device_message_is_acknowledged_by_the_listener_only(broker: Mosquitto) -> None:
    topic = "$hw/events/device/lamp/twin/update"
    edge = Edge(broker.url, hold=True)
    async with edge.running():
        with Probe(broker.url) as probe:
            probe.publish(topic, b"1")
        assert await edge.next() == (topic, b"1")
    again = Edge(broker.url)
    async with again.running():
        assert await again.next() == (topic, b"1")


async def test_uploads_wait_while_the_store_refuses(broker: Mosquitto, probe: Probe) -> None:
    edge = Edge(broker.url)
    edge.store.full = True
    async with edge.running():
        for number in range(3):
            probe.publish("app/user/x", str(number), qos=number % 2)
        probe.publish("$hw/events/device/lamp/twin/get", b"")
        await edge.next()  # all of them have arrived
        edge.store.full = False
        assert [orjson.loads((await edge.store.envelope()).body) for _ in range(3)] == ["0", "1", "2"]


async def test_the_broker_keeps_what_was_too_much_while_the_store_refused(
    broker: Mosquitto, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads_module, "REFUSED_BOUND", 5)
    edge = Edge(broker.url)
    edge.store.full = True
    async with edge.running():
        for number in range(15):
            probe.publish("app/user/x", str(number))
        probe.publish("$hw/events/device/lamp/twin/get", b"")
        await edge.next()  # all of them have arrived
        edge.store.full = False
        got: list[str] = []
        while len(set(got)) < 15:
            got.append(orjson.loads((await edge.store.envelope()).body))
    assert list(dict.fromkeys(got)) == [str(number) for number in range(15)]


async def test_the_cloud_publishes(broker: Mosquitto, probe: Probe) -> None:
    probe.subscribe("rule/#", "test/#", "$hw/events/node/#")
    edge = Edge(broker.url)
    async with edge.running() as bus:
        for content, payload in [("hello", b"hello"), ("", b""), ({"x": 1}, b'{"x":1}'), ('{"x":1}', b'{"x":1}'), ("ü", "ü".encode())]:
            await bus.handle(pushed("publish", "rule/out", content))
            assert await seen(probe) == [("rule/out", payload)]
        await bus.handle(pushed("publish", "test/sub?q=1", "payload"))
        assert await seen(probe) == [("test/sub?q=1", b"payload")]
        await bus.handle(pushed("message", "anything", {"message": {"topic": "rule/a", "text": "t"}}))
        assert await seen(probe) == [("rule/a", b'{"topic":"rule/a","text":"t"}')]
        await bus.handle(pushed("get_result", "auth_info", {"ok": True}))
        assert await seen(probe) == [("$hw/events/node/edge-1/authInfo/get/result", b'{"ok":true}')]


@pytest.mark.parametrize(
    "message",
    [
        pushed("publish", "no/+/topic", "x"),
        pushed("publish", "", "x"),
        pushed("publish", "rule/out", b'"broken'),
        pushed("message", "x", "no object"),
        pushed("message", "x", b"{"),
        pushed("message", "x", {"message": {"topic": 5}}),
        pushed("message", "x", {"message": []}),
        pushed("get_result", "other", {}),
        pushed("start", "http://somewhere/", None),
        pushed("subscribe", "bad#filter", None),
        pushed("subscribe", "", None),
        pushed("unsubscribe", "never/asked", None),
        pushed("publish", "rule/out", "x", source="router_servicebus"),
    ],
    ids=lambda message: f"{message.operation}-{message.resource}",
)
async def test_what_makes_no_sense_from_the_cloud_changes_nothing(broker: Mosquitto, probe: Probe, message: Envelope) -> None:
    probe.subscribe("rule/#")
    edge = Edge(broker.url)
    async with edge.running() as bus:
        await bus.handle(message)
        bus.publish("rule/last", b"")
        assert await seen(probe) == [("rule/last", b"")]
    assert not edge.store.objects
    assert edge.ups == 1


async def test_the_clouds_subscriptions_outlive_a_restart(broker: Mosquitto, probe: Probe) -> None:
    edge = Edge(broker.url)
    async with edge.running() as bus:
        for topic in ("default/t1", "default/t2", "default/t1"):
            await bus.handle(pushed("subscribe", topic))
        await edge.read(probe)
        probe.publish("default/t1", b"payload one")
        assert (await edge.store.envelope()).resource == "default/t1"
    assert [each.key.name for each in edge.store.list(SUBSCRIPTION)] == ["default/t1", "default/t2"]
    broker.kill()  # what it knew of our subscriptions goes with it
    broker.start()
    again = Edge(broker.url, store=edge.store)
    async with again.running() as bus:
        with Probe(broker.url) as probe2:
            probe2.publish("default/t2", b"payload two")
            assert (await again.store.envelope()).resource == "default/t2"
            await bus.handle(pushed("unsubscribe", "default/t1"))
            await again.read(probe2)
            probe2.publish("default/t1", b"nobody listens")
            probe2.publish("default/t2", b"payload three")
            assert (await again.store.envelope()).resource == "default/t2"
    assert [each.key.name for each in edge.store.list(SUBSCRIPTION)] == ["default/t2"]


async def test_a_subscription_works_although_the_store_is_full(broker: Mosquitto, probe: Probe, caplog: pytest.LogCaptureFixture) -> None:
    edge = Edge(broker.url)
    edge.store.full = True
    async with edge.running() as bus:
        await bus.handle(pushed("subscribe", "default/t1"))
        edge.store.full = False
        await edge.read(probe)
        probe.publish("default/t1", b"")
        assert (await edge.store.envelope()).resource == "default/t1"
    assert "eventbus.subscription-not-kept" in caplog.text


async def test_the_cloud_cannot_take_the_default_subscriptions_away(broker: Mosquitto, probe: Probe) -> None:
    edge = Edge(broker.url)
    async with edge.running() as bus:
        await bus.handle(pushed("unsubscribe", "+/user/#"))
        await edge.read(probe)
        probe.publish("app/user/x", b"")
        assert (await edge.store.envelope()).resource == "app/user/x"


async def test_listeners_are_called_after_each_connect_and_health_says_what_is_wrong(broker: Mosquitto) -> None:
    edge = Edge(broker.url)
    problems: list[str] = []
    edge.health.on_change(lambda: problems.append(edge.health.problem("eventbus.external")))
    async with edge.running():
        assert edge.bus.connected
        assert problems == []
        broker.kill()
        await until(lambda: edge.health.problem("eventbus.external"))
        assert f"127.0.0.1:{broker.port}" in problems[-1]
        assert "connection refused" in problems[-1]
        assert not edge.bus.connected
        broker.start()
        await until(lambda: edge.ups == 2)
        await until(lambda: not edge.health.problems)


async def test_what_a_listener_publishes_after_the_connect_arrives(broker: Mosquitto, probe: Probe) -> None:
    probe.subscribe("delta/#")
    edge = Edge(broker.url)
    edge.bus.on_connected(lambda: edge.bus.publish("delta/lamp", b"{}"))
    async with edge.running():
        assert await seen(probe) == [("delta/lamp", b"{}")]


async def test_the_connection_to_the_cloud_is_announced_if_asked_for(broker: Mosquitto, probe: Probe) -> None:
    probe.subscribe("node/#")
    edge = Edge(broker.url, announce_connection=True)
    async with edge.running() as bus:
        await bus.cloud_connected()
        bus.cloud_lost()
        assert await seen(probe, 2) == [("node/connection", b"cloud_connected"), ("node/connection", b"cloud_disconnected")]
    silent = Edge(broker.url)
    async with silent.running() as bus:
        await bus.cloud_connected()
        bus.publish("node/last", b"")
        assert await seen(probe) == [("node/last", b"")]


async def test_a_bus_that_is_not_enabled_does_nothing() -> None:
    edge = Edge("tcp://127.0.0.1:1", enable=False, mqtt_mode=1)
    edge.bus.publish("a", b"")
    await edge.bus.handle(pushed("publish", "a", "x"))
    assert not edge.bus.links
    assert edge.bus.broker is None
    assert not edge.bus.connected


async def test_mode_1_speaks_with_its_own_broker_and_another(broker: Mosquitto, probe: Probe, tmp_path: Path) -> None:
    own = f"tcp://127.0.0.1:{free_port()}"
    store = FakeStore()
    settings = EventBusSettings(mqtt_mode=1, mqtt_server_external=broker.url, mqtt_server_internal=own)
    bus = EventBus(settings, NODE, outbox=store, health=Health(), folder=tmp_path / "own")
    devices: asyncio.Queue[bytes] = asyncio.Queue()
    bus.deliver_to(lambda _topic, payload, _acknowledge: devices.put_nowait(payload))
    async with run(bus.run()):
        async with asyncio.timeout(DEADLINE):
            for link in bus.links:
                await link.subscribed.wait()
        with Probe(own) as inner:
            for each in (inner, probe):
                each.subscribe("answer/#")
            inner.publish("$hw/events/device/lamp/twin/get", b"inner")
            assert await asyncio.wait_for(devices.get(), DEADLINE) == b"inner"
            probe.publish("$hw/events/device/lamp/twin/get", b"outer")
            assert await asyncio.wait_for(devices.get(), DEADLINE) == b"outer"
            bus.publish("answer/all", b"")
            assert await seen(inner) == await seen(probe) == [("answer/all", b"")]
            await bus.handle(pushed("subscribe", "default/t1"))
            inner.subscribe("echo")
            bus.publish("echo", b"")
            await seen(inner)
            inner.publish("default/t1", b"x")
            assert (await store.envelope()).resource == "default/t1"
