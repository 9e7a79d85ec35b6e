"""EventBus with the real store: what was acknowledged to the broker is there after a restart."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import orjson
import pytest
from integration.eventbus.conftest import DEADLINE, run, seen
from integration.mosquitto import Mosquitto, Probe
from rig.waiting import until

from pinnace.core.base.contract import envelopes
from pinnace.core.base.contract.envelopes import Envelope
from pinnace.core.base.contract.keys import NodeName
from pinnace.core.base.observe.health import Health
from pinnace.core.eventbus.service import EventBus
from pinnace.core.eventbus.settings import EventBusSettings
from pinnace.core.meta.store import Store

pytestmark = pytest.mark.mosquitto


def make_bus(broker: Mosquitto, store: Store) -> EventBus:
    settings = EventBusSettings(mqtt_server_external=broker.url)
    return EventBus(settings, NodeName("edge-1"), outbox=store.outbox, health=Health(), objects=store, committed=store.committed)


def departures(store: Store) -> list[Envelope]:
    found = []
    while (departure := store.outbox.next(time.monotonic())) is not None:
        found.append(departure.envelope)
    return found


async def test_uploads_and_subscriptions_survive(broker: Mosquitto, probe: Probe, tmp_path: Path) -> None:
    probe.subscribe("echo")
    async with Store(tmp_path / "edge.db") as store:
        bus = make_bus(broker, store)
        async with run(bus.run()):
            async with asyncio.timeout(DEADLINE):
                await bus.links[0].subscribed.wait()
            await bus.handle(envelopes.new("router_eventbus", "user", "subscribe", "default/t1"))
            bus.publish("echo", b"")
            await seen(probe)
            for number in range(500):
                probe.publish("default/t1", str(number), wait=number == 499)
            await until(lambda: len(store.outbox) == 500)
            await store.committed()
    async with Store(tmp_path / "edge.db") as store:
        bus = make_bus(broker, store)
        sent = departures(store)
        assert [orjson.loads(each.body) for each in sent] == [str(number) for number in range(500)]
        assert {(each.resource, each.operation, each.group, each.source) for each in sent} == {("default/t1", "upload", "user", "bus")}
        async with run(bus.run()):
            async with asyncio.timeout(DEADLINE):
                await bus.links[0].subscribed.wait()
            probe.publish("default/t1", "again")
            await until(lambda: b'"again"' in [each.body for each in departures(store)])


async def test_an_upload_sent_again_keeps_its_id(broker: Mosquitto, probe: Probe, tmp_path: Path) -> None:
    ids: list[str] = []
    for _ in range(2):
        async with Store(tmp_path / "edge.db") as store:
            bus = make_bus(broker, store)
            async with run(bus.run()):
                async with asyncio.timeout(DEADLINE):
                    await bus.links[0].subscribed.wait()
                if not ids:
                    probe.publish("app/user/x", "once")
                await until(lambda store=store: len(store.outbox))  # type: ignore[misc]
                await store.committed()
                ids += [each.msg_id for each in departures(store)]
    assert len(ids) == 2
    assert ids[0] == ids[1]
