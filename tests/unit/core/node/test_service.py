"""Registration, status and lease against a small cloud that answers as KubeEdge does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from fakes.clock import FakeClock, settle
from fakes.uplink import FakeUplink

from pinnace.core.base.contract.envelopes import load_body, reply
from pinnace.core.base.contract.keys import NodeName, ResourceKey
from pinnace.core.base.errors import LinkError, StoreError
from pinnace.core.base.observe.health import Health
from pinnace.core.base.ports import ObjectChange, StoredObject
from pinnace.core.base.settings.edged import EdgedSettings
from pinnace.core.node.machine import Reader
from pinnace.core.node.service import NodeService
from pinnace.ext.records import Envelope

NODE = "edge-1"


class Refused(Exception):
    def __init__(self, reason: str, code: int) -> None:
        self.status = {"status": "Failure", "message": f"{reason}!", "reason": reason, "code": code}


class SmallCloud:
    """Node and lease of one node."""

    def __init__(self) -> None:
        self.node: dict[str, Any] | None = None
        self.lease: dict[str, Any] | None = None
        self.version = 100
        self.fail: dict[tuple[str, str], Exception] = {}

    def answer(self, request: Envelope) -> Envelope:
        kind = request.resource.split("/")[1]
        failure = self.fail.get((request.operation, kind))
        if isinstance(failure, LinkError):
            raise failure
        try:
            if failure is not None:
                raise failure
            content = self._do(request.operation, kind, load_body(request))
        except Refused as refused:
            content = {"Object": None, "Err": {"ErrStatus": refused.status}}
            if (request.operation, kind) == ("query", "node"):
                content = {"ErrStatus": refused.status}
        return reply(request, content, source="edgecontroller", group="resource")

    def _do(self, operation: str, kind: str, body: Any) -> Any:
        self.version += 1
        attribute = "lease" if kind == "lease" else "node"
        there = getattr(self, attribute)
        if operation == "insert":
            if there is not None:
                raise Refused("AlreadyExists", 409)
            body["metadata"] |= {"uid": "uid-1", "resourceVersion": str(self.version)}
            setattr(self, attribute, body)
            return {"Object": body, "Err": None}
        if there is None:
            raise Refused("NotFound", 404)
        if kind == "lease" and operation == "update" and body["metadata"].get("resourceVersion") != there["metadata"]["resourceVersion"]:
            raise Refused("Conflict", 409)
        if operation == "update" and kind == "node":
            there["metadata"]["labels"] |= body["metadata"]["labels"]
            return "OK"
        if operation == "update":
            setattr(self, attribute, body)
            body["metadata"]["resourceVersion"] = str(self.version)
        if operation == "patch":
            there["status"] = body["status"]
        there = getattr(self, attribute)
        return there if (operation, kind) == ("query", "node") else {"Object": there, "Err": None}


class OneObject:
    """The Node as it was pushed last."""

    stored: StoredObject | None = None
    failure: StoreError | None = None

    def get(self, key: ResourceKey) -> StoredObject | None:
        if self.failure is not None:
            raise self.failure
        return self.stored if key == ResourceKey("node", "", NODE) else None

    def list(self, kind: str, namespace: str = "", labels: Mapping[str, str] | None = None) -> list[StoredObject]:
        return []

    async def apply(self, changes: Sequence[ObjectChange]) -> None:
        raise AssertionError("the node writes no objects")


class World:
    def __init__(self, root: Path) -> None:
        self.clock = FakeClock()
        self.cloud = SmallCloud()
        self.uplink = FakeUplink(self.cloud.answer)
        self.health = Health()
        self.objects = OneObject()
        self.node = NodeService(
            EdgedSettings(node_labels={"zone": "a"}, node_ip="192.0.2.7"),
            NodeName(NODE),
            uplink=self.uplink,
            objects=self.objects,
            health=self.health,
            clock=self.clock,
            reader=Reader(root),
        )

    def asked(self, *kinds: str) -> list[tuple[str, str]]:
        found = [(each.operation, each.resource.split("/")[1]) for each in self.uplink.asked]
        return [each for each in found if each[1] in kinds]

    async def connect(self) -> None:
        await self.uplink.connect()
        await settle()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 1000000 kB\nMemAvailable: 900000 kB\n")
    made = World(tmp_path)
    task = asyncio.create_task(made.node.run())
    await settle()
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def ready(world: World) -> dict[str, Any]:
    assert world.cloud.node is not None
    return next(dict(each) for each in world.cloud.node["status"]["conditions"] if each["type"] == "Ready")


async def test_says_nothing_without_a_link(world: World) -> None:
    await world.clock.advance(100)
    assert world.uplink.asked == []


async def test_registers_then_reports_and_takes_a_lease(world: World) -> None:
    await world.connect()
    assert world.asked("node", "nodepatch") == [("insert", "node"), ("patch", "nodepatch")]
    assert world.asked("lease") == [("query", "lease"), ("insert", "lease")]
    assert world.cloud.node is not None
    assert world.cloud.node["metadata"]["labels"]["zone"] == "a"
    first = world.uplink.asked[0]
    assert (first.source, first.group) == ("edged", "meta")
    patch = next(each for each in world.uplink.asked if each.operation == "patch")
    assert patch.resource == "null/nodepatch/edge-1"
    assert isinstance(json.loads(patch.body), str)  # upstream's cloud takes a text


async def test_adopts_a_node_that_is_there_and_adds_its_labels(world: World) -> None:
    world.cloud.node = {"metadata": {"name": NODE, "uid": "u", "resourceVersion": "1", "labels": {"mine": "1"}}, "spec": {}, "status": {}}
    await world.connect()
    assert world.asked("node") == [("insert", "node"), ("query", "node"), ("update", "node")]
    assert world.cloud.node["metadata"]["labels"]["mine"] == "1"
    assert world.cloud.node["metadata"]["labels"]["node-role.kubernetes.io/edge"] == ""
    assert len(world.uplink.posted) == 1  # an object is acknowledged
    assert ready(world)["status"] == "True"


async def test_a_status_that_stays_the_same_is_sent_every_five_minutes(world: World) -> None:
    await world.connect()
    for _ in range(29):
        await world.clock.advance(10)
    assert world.asked("nodepatch") == [("patch", "nodepatch")]
    for _ in range(2):
        await world.clock.advance(10)
    assert len(world.asked("nodepatch")) == 2


async def test_a_problem_is_told_at_once_and_so_is_its_end(world: World) -> None:
    await world.connect()
    world.health.set("store", "the database is damaged")
    await settle()
    assert world.cloud.node is not None
    told = {each["type"]: each["status"] for each in world.cloud.node["status"]["conditions"]}
    assert told["StoreHealthy"] == "False"
    world.health.set("store")
    await settle()
    told = {each["type"]: each["status"] for each in world.cloud.node["status"]["conditions"]}
    assert told["StoreHealthy"] == "True"


async def test_reports_at_once_after_a_reconnect(world: World) -> None:
    """Meanwhile the cloud may have called the node lost."""
    await world.connect()
    world.uplink.disconnect()
    await world.clock.advance(60)
    assert world.cloud.node is not None
    world.cloud.node["status"]["conditions"] = []
    await world.connect()
    assert ready(world)["status"] == "True"
    assert world.asked("node") == [("insert", "node")]


async def test_denies_that_it_is_lost(world: World) -> None:
    """The cluster stopped seeing leases for a while, although the link stood."""
    await world.connect()
    assert world.cloud.node is not None
    lost = {"type": "Ready", "status": "Unknown", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    world.cloud.node["status"]["conditions"] = [lost]
    key = ResourceKey("node", "", NODE)
    world.objects.stored = StoredObject(key, "7", json.dumps({**world.cloud.node, "status": {"conditions": [lost]}}).encode())
    await world.clock.advance(11)
    assert ready(world)["status"] == "True"
    assert ready(world)["lastTransitionTime"] != lost["lastTransitionTime"]
    await world.clock.advance(100)
    assert len(world.asked("nodepatch")) == 2


async def test_a_store_that_cannot_be_read_is_told_all_the_same(world: World) -> None:
    world.objects.failure = StoreError("the disk fails")
    await world.connect()
    world.health.set("store.writable", "the disk fails")
    await settle()
    assert world.cloud.node is not None
    told = {each["type"]: each["status"] for each in world.cloud.node["status"]["conditions"]}
    assert told["StoreWritableHealthy"] == "False"


async def test_renews_its_lease_every_ten_seconds(world: World) -> None:
    await world.connect()
    times = []
    for _ in range(3):
        await world.clock.advance(10)
        assert world.cloud.lease is not None
        times.append(world.cloud.lease["spec"]["renewTime"])
    assert len(set(times)) == 3
    assert world.asked("lease")[2:] == [("update", "lease")] * 3


async def test_a_lease_somebody_changed_is_read_again(world: World) -> None:
    await world.connect()
    assert world.cloud.lease is not None
    world.cloud.lease = {**world.cloud.lease, "metadata": {**world.cloud.lease["metadata"], "resourceVersion": "other"}}
    await world.clock.advance(10)
    assert world.asked("lease")[2:] == [("update", "lease"), ("query", "lease"), ("update", "lease")]


async def test_a_lease_somebody_deleted_is_made_again(world: World) -> None:
    await world.connect()
    world.cloud.lease = None
    await world.clock.advance(10)
    assert world.cloud.lease is not None


async def test_a_node_somebody_deleted_registers_again(world: World) -> None:
    await world.connect()
    world.cloud.node = None
    world.health.set("store", "something to report")
    await settle()
    await world.clock.advance(61)
    assert world.cloud.node is not None
    assert world.health.problem("node") == ""


async def test_a_refusal_is_said_once_and_tried_ever_more_slowly(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.cloud.fail["insert", "node"] = Refused("Forbidden", 403)
    await world.connect()
    assert "Forbidden!" in world.health.problem("node")
    for _ in range(30):
        await world.clock.advance(10)
    assert caplog.text.count("health.degraded fact=node") == 1
    assert 3 <= len(world.asked("node")) <= 15
    del world.cloud.fail["insert", "node"]
    await world.clock.advance(61)
    assert world.health.problems == {}
    assert world.cloud.node is not None


async def test_a_link_that_breaks_in_the_middle_is_no_problem_of_the_nodes(world: World) -> None:
    world.cloud.fail["patch", "nodepatch"] = LinkError("broke")
    world.cloud.fail["insert", "lease"] = LinkError("broke")
    await world.connect()
    assert world.health.problems == {}
    world.cloud.fail.clear()
    await world.clock.advance(10)
    assert ready(world)["status"] == "True"
    assert world.cloud.lease is not None
