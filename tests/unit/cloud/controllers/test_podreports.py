"""What a node may say of pods: its mirror pods belong to its Node and to nobody else, its reports are of the pod it means."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from fakes.kube import FakeKube

from pinnace.cloud.controllers.podreports import PodReportController
from pinnace.cloud.controllers.pods import PodController
from pinnace.cloud.kube.resources import NODES, PODS
from pinnace.cloud.ports import Object
from pinnace.cloud.watch import ObjectCache
from pinnace.core.base.aio.backoff import Backoff
from pinnace.core.base.contract.envelopes import load_body, new
from pinnace.core.base.contract.keys import NodeName, ResourceKey

NODE = NodeName("n1")
OWNER = {"apiVersion": "v1", "kind": "Node", "name": NODE, "uid": "node-uid", "controller": True}
VECTORS = Path(__file__).resolve().parents[3] / "vectors" / "kubeedge" / "upstream-edge-to-cloud.jsonl"


class Reports:
    """The controller over an API in memory, with the Node `n1`, and a second one whose Node nobody knows."""

    def __init__(self, cloud: Any) -> None:
        self.kube: FakeKube = cloud.kube
        self.cache = ObjectCache(cloud.kube, PODS, backoff=Backoff(0.001, 0.01))
        nodes = cloud.caches["nodes"]
        placement = PodController(cloud.kube, cloud.sync, pods=self.cache, nodes=nodes)
        self.controller = PodReportController(cloud.kube, cloud.hub, placement, pods=self.cache, nodes=nodes)

    async def insert(self, body: Object, node: str = NODE) -> Object:
        """The ObjectResp to a mirror pod."""
        name = body["metadata"]["name"]
        message = new("edged", "meta", "insert", f"default/pod/{name}", body)
        (answer,) = await self.controller.pod(NodeName(node), ResourceKey("pod", "default", name), message)
        return dict(load_body(answer))

    async def patch(self, name: str, body: Object) -> Object:
        message = new("edged", "meta", "patch", f"default/podpatch/{name}", orjson.dumps(body).decode())
        (answer,) = await self.controller.patch(NODE, ResourceKey("podpatch", "default", name), message)
        return dict(load_body(answer))


@pytest.fixture
async def reports(cloud: Any) -> AsyncIterator[Reports]:
    made = Reports(cloud)
    running = asyncio.create_task(made.cache.run())
    await made.cache.synced()
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def mirror(*owners: Object, node: str = NODE) -> Object:
    metadata: Object = {"name": f"s-{node}", "namespace": "default", "labels": {"app": "web"}, "uid": "of-the-file"}
    metadata |= {"annotations": {"kubernetes.io/config.mirror": "1"}} | ({"ownerReferences": list(owners)} if owners else {})
    return {"metadata": metadata, "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]}}


@pytest.mark.parametrize(
    "owners",
    [
        (),
        (OWNER,),
        ({**OWNER, "controller": False},),
        ({key: value for key, value in OWNER.items() if key != "controller"},),
        ({**OWNER, "blockOwnerDeletion": True},),
    ],
)
async def test_the_node_is_the_only_owner_and_the_controller_whatever_it_says(reports: Reports, owners: tuple[Object, ...]) -> None:
    answer = await reports.insert(mirror(*owners))
    assert answer["Err"] is None
    made = reports.kube.find(PODS, f"s-{NODE}", "default")
    assert made is not None
    assert made["metadata"]["ownerReferences"] == [OWNER]
    assert answer["Object"]["metadata"]["ownerReferences"] == [OWNER]


@pytest.mark.parametrize(
    "owners",
    [
        ({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "rs", "controller": True},),
        (OWNER, {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "rs"}),
        (OWNER, OWNER),
        ({**OWNER, "apiVersion": "v2"},),
        ({**OWNER, "uid": "of-a-node-before"},),
        ({**OWNER, "name": "n2"},),
    ],
)
async def test_another_owner_is_refused(reports: Reports, owners: tuple[Object, ...]) -> None:
    answer = await reports.insert(mirror(*owners))
    assert answer["Err"]["ErrStatus"]["reason"] == "Forbidden"
    assert reports.kube.find(PODS, f"s-{NODE}", "default") is None


async def test_a_node_that_has_no_node_yet_is_to_ask_again(reports: Reports) -> None:
    answer = await reports.insert(mirror(node="n2"), "n2")
    assert (answer["Err"]["ErrStatus"]["reason"], answer["Err"]["ErrStatus"]["code"]) == ("NotFound", 404)
    assert reports.kube.find(PODS, "s-n2", "default") is None
    reports.kube.put(NODES, {"metadata": {"name": "n2", "uid": "its-uid"}})  # the watch is behind: the API is asked
    assert (await reports.insert(mirror(node="n2"), "n2"))["Err"] is None
    made = reports.kube.find(PODS, "s-n2", "default")
    assert made is not None
    assert made["metadata"]["ownerReferences"] == [{**OWNER, "name": "n2", "uid": "its-uid"}]


def recorded() -> list[Object]:
    """The mirror pods that a KubeEdge edge 1.23.1 sent; the recording has left out their spec."""
    lines = [json.loads(line) for line in VECTORS.read_text().splitlines() if '"static-pod"' in line]
    messages = [json.loads(each["text"]) for each in lines if each["from"] == "edge"]
    return [each["content"] for each in messages if (each["route"]["operation"], each["route"]["group"]) == ("insert", "meta")]


async def test_kubeedges_own_edge_makes_its_mirrors(reports: Reports, cloud: Any) -> None:
    """It knows its Node and says so; what it says is what is made, again when that was deleted."""
    pods = recorded()
    assert len(pods) == 2
    for pod in pods:
        (owner,) = pod["metadata"]["ownerReferences"]
        node, name = owner["name"], pod["metadata"]["name"]
        stored = cloud.kube.put(NODES, {"metadata": {"name": node, "uid": owner["uid"]}})
        await cloud.seen("nodes", stored["metadata"]["resourceVersion"])
        answer = await reports.insert({**pod, "spec": mirror(node=node)["spec"]}, node)
        assert answer["Err"] is None
        assert (await cloud.kube.get(PODS, name, "default"))["metadata"]["ownerReferences"] == [owner]
        await cloud.kube.delete(PODS, name, "default")


async def test_a_report_without_a_uid_is_of_the_pod_that_is_known_here(reports: Reports) -> None:
    """One of its name that came since, perhaps on another node, keeps its status: the API refuses another's uid."""
    reports.kube.put(PODS, {"metadata": {"name": "p", "namespace": "default", "uid": "first"}, "spec": {"nodeName": NODE}})
    async with asyncio.timeout(10):
        while reports.cache.get("default", "p") is None:
            await asyncio.sleep(0)
    sent: list[Any] = []
    original = reports.kube.patch

    async def patched(resource: Any, name: str, patch: Any, *arguments: Any, **more: Any) -> Object:
        sent.append(orjson.loads(patch))
        return dict(await original(resource, name, patch, *arguments, **more))

    reports.kube.patch = patched  # type: ignore[method-assign]
    assert (await reports.patch("p", {"status": {"phase": "Running"}}))["Err"] is None
    assert (await reports.patch("p", {"metadata": {"uid": "told"}, "status": {"phase": "Running"}}))["Err"] is None
    assert [each["metadata"] for each in sent] == [{"uid": "first"}, {"uid": "told"}]
