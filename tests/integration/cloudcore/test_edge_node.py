"""Our own edge's node against a whole cloudcore on the embedded API, in both dialects."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from fakes.outbox import FakeDepartures

from pinnace.cloud.kube.resources import LEASES, NODES
from pinnace.core.base.contract import wireversion
from pinnace.core.base.contract.envelopes import ack
from pinnace.core.base.contract.keys import NodeName, ResourceKey
from pinnace.core.base.errors import RemoteError
from pinnace.core.base.observe.health import Health
from pinnace.core.base.ports import ObjectChange, StoredObject
from pinnace.core.base.settings.edged import EdgedSettings, KubeletSettings
from pinnace.core.hub.service import HubLink
from pinnace.core.hub.settings import EdgeHubSettings, WebSocketSettings
from pinnace.core.node.service import NodeService
from pinnace.ext.records import Envelope

NAME = "edge-7"


class NoObjects:
    def get(self, key: ResourceKey) -> StoredObject | None:
        return None

    def list(self, kind: str, namespace: str = "", labels: Mapping[str, str] | None = None) -> list[StoredObject]:
        return []

    async def apply(self, changes: Sequence[ObjectChange]) -> None: ...


class Edge:
    """Link and node, without a store: what is pushed is acknowledged and noted."""

    def __init__(self, world: Any, folder: Path) -> None:
        self.health = Health()
        self.pushed: list[Envelope] = []
        settings = EdgeHubSettings(
            http_server=f"https://127.0.0.1:{world.cloud.https_port}",
            websocket=WebSocketSettings(server=f"127.0.0.1:{world.cloud.websocket_port}"),
            tls_ca_file=folder / "ca.crt",
            tls_cert_file=folder / "node.crt",
            tls_private_key_file=folder / "node.key",
            token=world.cloud.token,
        )
        self.link = HubLink(settings, NodeName(NAME), departures=FakeDepartures(), health=self.health)
        self.link.deliver("resource", self._store)
        kubelet = KubeletSettings(node_lease_duration_seconds=1)
        edged = EdgedSettings(node_labels={"zone": "a"}, node_ip="192.0.2.7", tailored_kubelet_config=kubelet)
        self.node = NodeService(edged, NodeName(NAME), uplink=self.link, objects=NoObjects(), health=self.health)

    async def _store(self, envelope: Envelope) -> list[Envelope]:
        self.pushed.append(envelope)
        return [ack(envelope)]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self.link.run()), asyncio.create_task(self.node.run())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture(params=[0, 1], ids=["upstream", "ours"])
def edge(request: pytest.FixtureRequest, world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Edge:
    monkeypatch.setattr(wireversion, "CURRENT", request.param)
    return Edge(world, tmp_path / "edge")


async def found(api: Any, resource: Any, name: str, namespace: str = "") -> Any:
    try:
        return await api.get(resource, name, namespace)
    except RemoteError as error:
        if error.code != 404:
            raise
        return None


def condition(node: Any, kind: str) -> str:
    conditions = ((node or {}).get("status") or {}).get("conditions") or []
    return next((str(each["status"]) for each in conditions if each["type"] == kind), "")


async def test_registers_reports_and_renews(world: Any, edge: Edge) -> None:
    async with edge.running():
        node = await world.until(lambda: found(world.api, NODES, NAME), lambda node: condition(node, "Ready") == "True")
        assert node["metadata"]["labels"]["zone"] == "a"
        assert node["metadata"]["labels"]["node-role.kubernetes.io/edge"] == ""
        addresses = {each["type"]: each["address"] for each in node["status"]["addresses"]}
        assert addresses == {"InternalIP": "192.0.2.7", "Hostname": NAME}
        lease = await world.until(lambda: found(world.api, LEASES, NAME, "kube-node-lease"), lambda lease: lease)
        first = lease["spec"]["renewTime"]
        await world.until(lambda: found(world.api, LEASES, NAME, "kube-node-lease"), lambda lease: lease["spec"]["renewTime"] > first)
        edge.health.set("store", "the database is damaged")
        await world.until(lambda: found(world.api, NODES, NAME), lambda node: condition(node, "StoreHealthy") == "False")
        edge.health.set("store")
        node = await world.until(lambda: found(world.api, NODES, NAME), lambda node: condition(node, "StoreHealthy") == "True")
        assert [each["type"] for each in node["status"]["conditions"]].count("Ready") == 1
        assert edge.health.problems == {}


async def test_a_deleted_node_comes_back(world: Any, edge: Edge) -> None:
    async with edge.running():
        node = await world.until(lambda: found(world.api, NODES, NAME), lambda node: condition(node, "Ready") == "True")
        await world.api.delete(NODES, NAME)
        edge.health.set("store", "something to report")
        again = await world.until(
            lambda: found(world.api, NODES, NAME), lambda other: other and other["metadata"]["uid"] != node["metadata"]["uid"]
        )
        assert again["metadata"]["labels"]["zone"] == "a"


async def test_adopts_a_node_that_somebody_made_by_hand(world: Any, edge: Edge) -> None:
    await world.api.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NAME, "labels": {"mine": "1"}}})
    async with edge.running():
        node = await world.until(lambda: found(world.api, NODES, NAME), lambda node: condition(node, "Ready") == "True")
        assert node["metadata"]["labels"]["mine"] == "1"
        assert node["metadata"]["labels"]["zone"] == "a"
        assert node["metadata"]["labels"]["node-role.kubernetes.io/edge"] == ""
