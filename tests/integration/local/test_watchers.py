"""What `pinnace up` sees of pins and MQTT, on a real broker and a real socket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import pytest
from fakes.edge import FakeEdge
from integration.mosquitto import Mosquitto

from pinnace.cloud.local.journal import Journal, NotSeen, Place
from pinnace.cloud.local.watchers import MqttWatch, watch_pins
from pinnace.mappers.gpio.ports import PinSocket, SimulatedPort, WatchedPort
from pinnace.mappers.sdk import Broker, Device, Mapper


@contextlib.asynccontextmanager
async def running(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(each) for each in work]
    try:
        yield
    finally:
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("is_abstract", [False, True])
async def test_pins_are_seen_also_when_their_socket_comes_late_and_goes(tmp_path: Path, is_abstract: bool) -> None:
    journal, port = Journal(), WatchedPort(SimulatedPort())
    path = f"@{tmp_path}/pins" if is_abstract else str(tmp_path / "pins")
    port.set_up(26)
    async with running(watch_pins(path, {"red": 26, "green": 13}, journal)):
        for level, value in ((1, "ON"), (0, "OFF")):
            async with running(PinSocket(port, path).run()):
                port.write(26, level)
                await journal.sees(Place.PIN, "red", value, seconds=20)
    assert journal.latest(Place.PIN, "green") is None


@pytest.mark.mosquitto
@pytest.mark.parametrize("identity", ["light", "default/light"])
async def test_deltas_reports_and_answers_are_seen_in_both_dialects(tmp_path: Path, identity: str) -> None:
    device = Device("light")

    @device.writes("red")
    async def red(value: str) -> None:
        """Takes everything."""

    journal = Journal()
    with Mosquitto(tmp_path) as broker:
        watch = MqttWatch(broker.port, "default", "light", journal)
        async with FakeEdge(broker.port, identity, {}) as edge, running(watch.run()):
            await watch.connected()
            async with running(Mapper(device, Broker(port=broker.port)).run()):
                for payload in (b"", b"[]", b'{"delta": 7}', b'{"delta": {"red": null}}', b'{"twin": {"red": 3}}'):
                    edge.raw("twin/update/delta", payload)
                    edge.raw("twin/get/result", payload)
                edge.desire(red="ON")
                await journal.sees(Place.DELTA, "red", "ON", seconds=20)
                await journal.sees(Place.REPORT, "red", "ON", seconds=20)
            if identity == "default/light":
                assert await watch.ask(seconds=20) == {"red": "ON"}
            edge.answers = False
            with pytest.raises(NotSeen, match="the edge did not answer"):
                await watch.ask(seconds=0.05)
