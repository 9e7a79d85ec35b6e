"""Nodes fall silent and come back: conditions and taints, with time in the test's hand."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.cloud.standalone.controllers.nodes import UNREACHABLE, Nodes
from pinnace.cloud.standalone.objects import now_text


class Hand:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def hand() -> Hand:
    return Hand()


def ready(node: Any) -> Any:
    return next(each for each in node["status"]["conditions"] if each["type"] == "Ready")


async def beat(parts: Any, count: int) -> None:
    spec = {"renewTime": f"2026-01-01T00:00:{count:02d}.000000Z"}
    await parts.objects.change(parts.kind("leases", "coordination.k8s.io"), "n", "kube-node-lease", lambda old: {**old, "spec": spec})


def node_of(parts: Any) -> Any:
    return parts.state.table("nodes").get("", "n").decode()


async def registered(parts: Any) -> None:
    conditions = [{"type": "Ready", "status": "True", "lastHeartbeatTime": now_text(), "lastTransitionTime": now_text()}]
    await parts.make("nodes", "n", spec={"taints": [{"key": "mine", "effect": "NoSchedule"}]}, status={"conditions": conditions})
    spec = {"renewTime": "2026-01-01T00:00:00.000000Z"}
    await parts.make("leases", "n", "kube-node-lease", group="coordination.k8s.io", spec=spec)


async def test_silence_is_noticed_and_forgiven(parts: Any, hand: Hand) -> None:
    await registered(parts)
    nodes = Nodes(parts.objects, now=hand)
    await nodes.look()
    for count in range(1, 4):
        hand.now += 39
        await beat(parts, count)
        await nodes.look()
    assert ready(node_of(parts))["status"] == "True"
    hand.now += 41
    await nodes.look()
    silent = node_of(parts)
    assert ready(silent)["status"] == "Unknown"
    assert ready(silent)["reason"] == "NodeStatusUnknown"
    taints = {(each["key"], each["effect"]) for each in silent["spec"]["taints"]}
    assert taints == {("mine", "NoSchedule"), (UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")}
    version = silent["metadata"]["resourceVersion"]
    hand.now += 100
    await nodes.look()
    assert node_of(parts)["metadata"]["resourceVersion"] == version, "said once"

    await beat(parts, 5)

    def back(old: Any) -> Any:
        ready(old)["status"] = "True"
        return old

    await parts.objects.change(parts.kind("nodes"), "n", "", back, subresource="status")
    await nodes.look()
    node = node_of(parts)
    assert ready(node)["status"] == "True"
    assert [each["key"] for each in node["spec"]["taints"]] == ["mine"]


async def test_a_node_that_never_reported(parts: Any, hand: Hand) -> None:
    await parts.make("nodes", "n")
    nodes = Nodes(parts.objects, now=hand)
    await nodes.look()
    assert not (node_of(parts).get("status") or {}).get("conditions")
    hand.now += 41
    await nodes.look()
    assert ready(node_of(parts))["reason"] == "NodeStatusNeverUpdated"


async def test_not_ready_is_tainted_too(parts: Any, hand: Hand) -> None:
    await parts.make("nodes", "n", status={"conditions": [{"type": "Ready", "status": "False"}]})
    await Nodes(parts.objects, now=hand).look()
    assert {each["key"] for each in node_of(parts)["spec"]["taints"]} == {"node.kubernetes.io/not-ready"}
