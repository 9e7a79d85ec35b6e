"""A twin service on ports in memory, which tests speak to as clients and as the cloud do."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fakes.edgeports import FakeBus, FakeObjects, FakeOutbox, FakeTwinStore, FakeUplink

from pinnace.core.base.contract.envelopes import new
from pinnace.core.base.contract.keys import NodeName, ResourceKey
from pinnace.core.base.ports import ObjectChange
from pinnace.core.twins.service import TwinService
from pinnace.ext.records import Envelope

NODE = NodeName("pi-1")
LAMP = "$hw/events/device/default/lamp"
SHORT = "$hw/events/device/lamp"
MEMBERS = f"$hw/events/node/{NODE}/membership/updated"


def device_object(name: str = "lamp", *, version: int = 1, uid: str = "u1", namespace: str = "default", **desired: Any) -> dict[str, Any]:
    """A v1beta1 Device with these desired values."""
    return {
        "apiVersion": "devices.kubeedge.io/v1beta1",
        "kind": "Device",
        "metadata": {"name": name, "namespace": namespace, "uid": uid, "resourceVersion": str(version), "labels": {"description": "Light"}},
        "spec": {
            "deviceModelRef": {"name": "light"},
            "nodeName": NODE,
            "properties": [{"name": each, "desired": {"value": value}} for each, value in desired.items()],
        },
    }


class Rig:
    """The service with its ports. `crash` is a power cut and a new start; `restart` an orderly one."""

    def __init__(self) -> None:
        self.store = FakeTwinStore()
        self.objects = FakeObjects()
        self.outbox = FakeOutbox(self.store)
        self.uplink = FakeUplink()
        self.bus = FakeBus()
        self._make()

    def _make(self) -> None:
        self.service = TwinService(NODE, store=self.store, objects=self.objects, outbox=self.outbox, uplink=self.uplink, bus=self.bus)

    async def start(self) -> None:
        await self.service.start()
        self._run = asyncio.create_task(self.service.run())

    async def stop(self) -> None:
        self._run.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._run

    async def crash(self) -> None:
        await self.stop()
        self.store.crash()
        await self._again()

    async def restart(self) -> None:
        await self.stop()
        self.store.commit()
        await self._again()

    async def _again(self) -> None:
        self.store.on_commit.clear()
        self.store.on_crash.clear()
        self.outbox = self.outbox.restarted(self.store)
        self.uplink = FakeUplink(peer_wire=self.uplink.peer_wire)
        self._make()
        await self.start()

    async def client(self, topic: str, payload: Any) -> list[tuple[str, Any]]:
        """Publish as a client, and what was published in answer."""
        self.bus.take()
        await self.send(topic, payload)
        return self.bus.take()

    async def send(self, topic: str, payload: Any) -> None:
        """Publish as a client; returns when it is acknowledged."""
        done = asyncio.Event()
        self.service.message(topic, payload if isinstance(payload, bytes) else json.dumps(payload).encode(), done.set)
        async with asyncio.timeout(20):
            await done.wait()

    async def report(self, values: dict[str, str], topic: str = LAMP) -> list[tuple[str, Any]]:
        return await self.client(
            f"{topic}/twin/update", {"event_id": "e", "twin": {name: {"actual": {"value": value}} for name, value in values.items()}}
        )

    async def apply(self, body: dict[str, Any], operation: str = "update") -> list[tuple[str, Any]]:
        """Store an object and tell of it, as the sync does; what was published."""
        self.bus.take()
        metadata = body["metadata"]
        key = ResourceKey(body["kind"].lower(), metadata["namespace"], metadata["name"])
        change = ObjectChange(operation, key, metadata.get("resourceVersion", ""), json.dumps(body).encode())
        await self.objects.apply([change])
        await self.service.changed(change)
        return self.bus.take()

    async def cloud(self, resource: str, content: Any, *, operation: str = "update") -> list[tuple[str, Any]]:
        """A message of group `twin`; what was published."""
        self.bus.take()
        assert await self.service.handle(new("devicecontroller", "twin", operation, resource, content)) is None
        return self.bus.take()

    async def get(self, topic: str = LAMP) -> dict[str, Any]:
        answers = await self.client(f"{topic}/twin/get", {})
        assert [each for each, _ in answers] == [f"{topic}/twin/get/result"]
        twins = answers[0][1]["twin"]
        assert isinstance(twins, dict)
        return twins

    async def values(self, topic: str = LAMP) -> dict[str, tuple[str | None, str | None]]:
        """Property → (desired, reported)."""
        twins = await self.get(topic)
        return {name: (twin.get("expected", {}).get("value"), twin.get("actual", {}).get("value")) for name, twin in twins.items()}

    def reports(self) -> dict[str, dict[str, Any]]:
        """Resource → content of what the outbox would send now."""
        return {each.resource: json.loads(each.body) for each in self.outbox.send()}

    def sent(self) -> list[Envelope]:
        return self.outbox.send()


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    await made.start()
    yield made
    await made.stop()
