"""The twins on the real store: reports and their outbox rows come back together, desired values before anything else."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

from fakes.edgeports import FakeBus, FakeUplink

from pinnace.core.base.contract.keys import ResourceKey
from pinnace.core.base.ports import ObjectChange
from pinnace.core.meta.store import Store
from pinnace.core.twins.service import TwinService

from .conftest import LAMP, NODE, device_object


class Edge:
    def __init__(self, store: Store, service: TwinService, bus: FakeBus) -> None:
        self.store = store
        self.service = service
        self.bus = bus

    async def want(self, version: int, **desired: str) -> None:
        body = device_object(version=version, **desired)
        change = ObjectChange("update", ResourceKey("device", "default", "lamp"), str(version), json.dumps(body).encode())
        await self.store.apply([change])
        await self.service.changed(change)

    async def report(self, **values: str) -> None:
        done = asyncio.Event()
        body = {"twin": {name: {"actual": {"value": value}} for name, value in values.items()}}
        self.service.message(f"{LAMP}/twin/update", json.dumps(body).encode(), done.set)
        async with asyncio.timeout(20):
            await done.wait()

    def waiting(self) -> dict[str, str]:
        """Property → reported value of everything the outbox would send."""
        found = {}
        while (departure := self.store.outbox.next(0.0)) is not None:
            for name, twin in json.loads(departure.envelope.body)["twin"].items():
                found[name] = twin["actual"]["value"]
            assert self.store.outbox.confirm(departure.envelope.msg_id)
        return found


@contextlib.asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Edge]:
    async with Store(path) as store:
        bus = FakeBus()
        service = TwinService(NODE, store=store, objects=store, outbox=store.outbox, uplink=FakeUplink(), bus=bus)
        await service.start()
        task = asyncio.create_task(service.run())
        try:
            yield Edge(store, service, bus)
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def test_everything_is_back_after_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path / "edge.db") as edge:
        await edge.want(1, red="ON", green="OFF")
        await edge.report(red="OFF", green="OFF")
        await edge.report(red="ON", extra="7")
    async with opened(tmp_path / "edge.db") as edge:
        edge.service.bus_connected()
        assert edge.bus.published == []
        assert edge.waiting() == {"red": "ON", "green": "OFF", "extra": "7"}
        await edge.want(2, red="OFF", green="OFF")
    async with opened(tmp_path / "edge.db") as edge:
        edge.service.bus_connected()
        assert [json.loads(payload)["delta"] for _, payload in edge.bus.published] == [{"red": "OFF"}] * 2
        assert edge.waiting() == {}


async def test_a_removed_device_leaves_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path / "edge.db") as edge:
        await edge.want(1, red="ON")
        await edge.report(red="ON")
        change = ObjectChange("delete", ResourceKey("device", "default", "lamp"), "2", b"null")
        await edge.store.apply([change])
        await edge.service.changed(change)
        assert edge.waiting() == {}
    async with opened(tmp_path / "edge.db") as edge:
        assert await edge.store.load_twins() == {}
        assert edge.waiting() == {}
