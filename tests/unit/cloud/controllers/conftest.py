"""The controllers around an API in memory and a hub without sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from fakes.kube import FakeKube
from fakes.nodes import FakeHub

from pinnace.cloud.controllers.devices import DeviceController
from pinnace.cloud.controllers.mirror import StatusMirror
from pinnace.cloud.controllers.reports import ReportController
from pinnace.cloud.controllers.sync import SyncController
from pinnace.cloud.kube.resources import CLUSTER_OBJECT_SYNCS, DEVICE_MODELS, DEVICE_STATUSES, DEVICES, NODES, OBJECT_SYNCS
from pinnace.cloud.ports import Downlink, Object
from pinnace.cloud.watch import ObjectCache
from pinnace.core.base.aio.backoff import Backoff
from pinnace.core.base.contract.envelopes import Group
from pinnace.core.base.contract.keys import NodeName

NODE = NodeName("n1")


class Cloud:
    """Devices with everything that concerns them; one node, `n1`, with a Node of that name."""

    def __init__(self) -> None:
        self.kube = FakeKube()
        self.hub = FakeHub()
        names = (NODES, DEVICES, DEVICE_MODELS, DEVICE_STATUSES, OBJECT_SYNCS, CLUSTER_OBJECT_SYNCS)
        self.caches = {each.plural: ObjectCache(self.kube, each, backoff=Backoff(0.001, 0.01)) for each in names}
        self.sync = SyncController(
            self.kube,
            self.hub,
            object_syncs=self.caches["objectsyncs"],
            cluster_syncs=self.caches["clusterobjectsyncs"],
            nodes=self.caches["nodes"],
        )
        self.devices = DeviceController(
            self.hub, self.sync, devices=self.caches["devices"], models=self.caches["devicemodels"], nodes=self.caches["nodes"]
        )
        self.reports = ReportController(
            self.kube, self.hub, self.devices, devices=self.caches["devices"], statuses=self.caches["devicestatuses"]
        )
        self.mirror = StatusMirror(self.kube, devices=self.caches["devices"], statuses=self.caches["devicestatuses"], linger=0.0)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self._tasks = [asyncio.create_task(each.run()) for each in self.caches.values()]
        await asyncio.gather(*(each.synced() for each in self.caches.values()))
        self._tasks.append(asyncio.create_task(self.sync.run()))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.reports.workers.close()
        await self.mirror.workers.close()

    async def seen(self, plural: str, version: str) -> None:
        """Return when a cache has come to a resource version."""
        cache = self.caches[plural]
        async with asyncio.timeout(10):
            while not any(int(each["metadata"]["resourceVersion"]) >= int(version) for each in cache):
                await asyncio.sleep(0)

    def store(self) -> list[Downlink]:
        """The node confirms everything that was pushed and asks for it; those messages."""
        pushed = [message for _, message in self.hub.pushes if message.acknowledged]
        return [message for message in pushed if message.group == Group.RESOURCE]


def device(**values: str) -> Object:
    properties = [{"name": name, "desired": {"value": value}} for name, value in values.items()]
    spec = {"nodeName": NODE, "deviceModelRef": {"name": "m"}, "properties": properties}
    return {"metadata": {"name": "d", "namespace": "default", "uid": "device-uid"}, "spec": spec}


@pytest.fixture
async def cloud() -> AsyncIterator[Cloud]:
    made = Cloud()
    made.kube.put(NODES, {"metadata": {"name": NODE, "uid": "node-uid"}})
    made.kube.put(DEVICE_MODELS, {"metadata": {"name": "m", "namespace": "default", "uid": "model-uid"}, "spec": {"properties": []}})
    made.kube.put(DEVICES, device(red="OFF"))
    await made.start()
    yield made
    await made.close()
