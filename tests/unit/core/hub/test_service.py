"""When the link tries again."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import pytest
from fakes.clock import FakeClock
from fakes.outbox import FakeDepartures
from rig.processes import free_port

from pinnace.core.base.contract.envelopes import new
from pinnace.core.base.contract.keys import NodeName
from pinnace.core.base.errors import LinkError
from pinnace.core.base.observe.health import Health
from pinnace.core.hub.service import HubLink
from pinnace.core.hub.settings import EdgeHubSettings, WebSocketSettings

ENOUGH = 12


class NotingClock(FakeClock):
    """Every wait is over at once, until there were enough of them."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []
        self.enough = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        if len(self.waits) >= ENOUGH:
            self.enough.set()
            await asyncio.get_running_loop().create_future()
        await asyncio.sleep(0)


def settings(folder: Path, *, token: str) -> EdgeHubSettings:
    nobody = f"127.0.0.1:{free_port()}"
    return EdgeHubSettings(
        http_server=f"https://{nobody}",
        websocket=WebSocketSettings(server=nobody),
        tls_ca_file=folder / "ca",
        tls_cert_file=folder / "crt",
        tls_private_key_file=folder / "key",
        token=token,
    )


async def waits(settings: EdgeHubSettings, health: Health) -> list[float]:
    clock = NotingClock()
    link = HubLink(settings, NodeName("edge-1"), departures=FakeDepartures(), health=health, clock=clock)
    task = asyncio.create_task(link.run())
    await asyncio.wait_for(clock.enough.wait(), 20)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return clock.waits


async def test_an_absent_cloud_is_tried_every_few_seconds_at_most(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    health = Health()
    found = await waits(settings(tmp_path, token=f"{'0' * 64}.a.b.c"), health)
    assert found[0] <= 0.25
    assert max(found) <= 3.0
    assert min(found[6:]) >= 1.5
    assert "cannot be reached" in health.problem("cloud")
    assert caplog.text.count("health.degraded fact=cloud") == 1


async def test_a_refusal_is_repeated_ever_more_slowly(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    health = Health()
    found = await waits(settings(tmp_path, token=""), health)
    assert found[0] >= 1.0
    assert all(30.0 <= wait <= 60.0 for wait in found[6:])
    assert "no join token is set" in health.problem("cloud")
    assert caplog.text.count("health.degraded fact=cloud") == 1


async def test_nothing_is_sent_without_a_link(tmp_path: Path) -> None:
    link = HubLink(settings(tmp_path, token=""), NodeName("edge-1"), departures=FakeDepartures(), health=Health())
    message = new("edged", "meta", "query", "null/node/edge-1")
    assert not link.connected
    assert link.peer_wire == 0
    link.post(message)
    with pytest.raises(LinkError, match="not connected"):
        await link.request(message)


def test_keepalives_follow_the_settings(tmp_path: Path) -> None:
    slow = dataclasses.replace(settings(tmp_path, token=""), heartbeat=7)
    link = HubLink(slow, NodeName("edge-1"), departures=FakeDepartures(), health=Health())
    assert link._limits.keepalive_interval == 7.0
