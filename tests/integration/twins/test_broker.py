"""Twins, event bus, store and a real mosquitto: what a mapper sees in either dialect, over a restart of the edge."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.edgeports import FakeUplink
from integration.eventbus.conftest import DEADLINE, run, seen
from integration.mosquitto import Mosquitto, Probe

from pinnace.core.base.contract.keys import DeviceId, NodeName, ResourceKey
from pinnace.core.base.observe.health import Health
from pinnace.core.base.ports import ObjectChange
from pinnace.core.eventbus.service import EventBus
from pinnace.core.eventbus.settings import EventBusSettings
from pinnace.core.meta.store import Store
from pinnace.core.twins.service import TwinService

pytestmark = pytest.mark.mosquitto

NODE = NodeName("edge-1")
LONG = "$hw/events/device/default/lamp"
SHORT = "$hw/events/device/lamp"
COUNT = 200


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path) as running:
        yield running


@pytest.fixture
def probe(broker: Mosquitto) -> Iterator[Probe]:
    with Probe(broker.url) as running:
        yield running


@contextlib.asynccontextmanager
async def edge(broker: Mosquitto, path: Path) -> AsyncIterator[tuple[Store, TwinService]]:
    async with Store(path) as store:
        settings = EventBusSettings(mqtt_server_external=broker.url)
        bus = EventBus(settings, NODE, outbox=store.outbox, health=Health(), objects=store, committed=store.committed)
        twins = TwinService(NODE, store=store, objects=store, outbox=store.outbox, uplink=FakeUplink(), bus=bus)
        bus.deliver_to(twins.message)
        bus.on_connected(twins.bus_connected)
        await twins.start()
        async with run(twins.run()), run(bus.run()):
            async with asyncio.timeout(DEADLINE):
                await bus.links[0].subscribed.wait()
            yield store, twins


async def want(store: Store, twins: TwinService, version: int, **desired: str) -> None:
    body = {
        "metadata": {"name": "lamp", "namespace": "default", "uid": "u", "resourceVersion": str(version)},
        "spec": {"properties": [{"name": name, "desired": {"value": value}} for name, value in desired.items()]},
    }
    change = ObjectChange("update", ResourceKey("device", "default", "lamp"), str(version), json.dumps(body).encode())
    await store.apply([change])
    await twins.changed(change)


async def told(probe: Probe, topic: str) -> Any:
    """The next message on a topic; others are passed over."""
    while True:
        (found,) = await seen(probe)
        if found[0] == topic:
            return json.loads(found[1])


async def level(store: Store) -> str | None:
    """The reported level as it is stored."""
    rows = (await store.load_twins())[DeviceId("default", "lamp")]
    found = json.loads(rows.get("level", b"{}")).get("actual", {}).get("value")
    return None if found is None else str(found)


@pytest.mark.parametrize("topic", [LONG, SHORT])
async def test_a_mapper_follows_and_reports(broker: Mosquitto, probe: Probe, tmp_path: Path, topic: str) -> None:
    probe.subscribe(f"{topic}/#")
    async with edge(broker, tmp_path / "edge.db") as (store, twins):
        await want(store, twins, 1, red="ON", green="OFF")
        assert (await told(probe, f"{topic}/twin/update/delta"))["delta"] == {"red": "ON", "green": "OFF"}
        report = '{"event_id":"7","twin":{"red":{"actual":{"value":"ON"},"metadata":{"type":"Updated"}}}}'
        await asyncio.to_thread(probe.publish, f"{topic}/twin/update", report)
        result = await told(probe, f"{topic}/twin/update/result")
        assert (result["event_id"], result["twin"]["red"]["actual"]["value"]) == ("7", "ON")
        assert (await told(probe, f"{topic}/twin/update/document"))["twin"]["red"]["current"]["expected"]["value"] == "ON"
        assert (await told(probe, f"{topic}/twin/update/delta"))["delta"] == {"green": "OFF"}
        await asyncio.to_thread(probe.publish, f"{topic}/twin/update", b"\xff garbage")
        assert (await told(probe, f"{topic}/twin/update/result"))["code"] == 400
    async with edge(broker, tmp_path / "edge.db"):
        assert (await told(probe, f"{topic}/twin/update/delta"))["delta"] == {"green": "OFF"}


async def test_reports_made_while_the_edge_was_away_arrive_in_order(broker: Mosquitto, probe: Probe, tmp_path: Path) -> None:
    """The broker keeps what was sent with QoS 1 for the edge's session; the last value wins, and is on disk once acknowledged."""
    path = tmp_path / "edge.db"
    async with edge(broker, path) as (store, twins):
        await want(store, twins, 1, level="0")
    for number in range(COUNT):
        probe.publish(f"{LONG}/twin/update", json.dumps({"twin": {"level": {"actual": {"value": str(number)}}}}), wait=number == COUNT - 1)
    async with edge(broker, path) as (store, twins):
        async with asyncio.timeout(DEADLINE):
            while await level(store) != str(COUNT - 1):
                await asyncio.sleep(0.002)
        departure = store.outbox.next(0.0)
        assert departure is not None
        assert json.loads(departure.envelope.body)["twin"]["level"]["actual"]["value"] == str(COUNT - 1)
