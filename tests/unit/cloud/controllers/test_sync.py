"""A node gets what it lacks, once, and what is written down is what it confirmed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from pinnace.cloud.controllers import sync
from pinnace.cloud.controllers.inventory import parse_inventory
from pinnace.cloud.controllers.items import Item, Known, content_digest, is_behind, parse_sync
from pinnace.cloud.kube.resources import DEVICE_MODELS, DEVICE_STATUSES, DEVICES, NODES, OBJECT_SYNCS
from pinnace.core.base.contract.envelopes import new
from pinnace.core.base.contract.keys import NodeName
from pinnace.ext.records import Envelope

NODE = NodeName("n1")


async def settle(cloud: Any) -> None:
    """The node stores everything, and it is written down."""
    for message in cloud.store():
        await cloud.sync.stored(NODE, message)
    cloud.hub.pushes.clear()
    await cloud.sync.recorded()


async def connect(cloud: Any) -> None:
    cloud.hub.here.add(NODE)
    await cloud.sync.connection(NODE, True)


async def disconnect(cloud: Any) -> None:
    cloud.hub.here.discard(NODE)
    await cloud.sync.connection(NODE, False)


async def test_a_new_node_gets_model_and_device_with_its_twins_between(cloud: Any) -> None:
    await connect(cloud)
    await cloud.hub.until(lambda: len(cloud.hub.pushes) == 3)
    assert cloud.hub.resources() == [("insert", "default/devicemodel/m"), ("update", "membership"), ("insert", "default/device/d")]
    assert {each["metadata"]["name"] for each in (await cloud.kube.list(OBJECT_SYNCS))[0]} == {"n1.model-uid", "n1.device-uid"}
    await settle(cloud)
    found = {each["metadata"]["name"]: each["status"]["objectResourceVersion"] for each in (await cloud.kube.list(OBJECT_SYNCS))[0]}
    assert found["n1.device-uid"] == cloud.kube.find(DEVICES, "d", "default")["metadata"]["resourceVersion"]


async def test_what_is_stored_is_not_sent_again(cloud: Any) -> None:
    await connect(cloud)
    await cloud.hub.until(lambda: len(cloud.hub.pushes) == 3)
    await settle(cloud)
    await disconnect(cloud)
    await connect(cloud)
    marker = cloud.kube.put(DEVICES, {**cloud.kube.find(DEVICES, "d", "default"), "status": {"state": "online"}})
    await cloud.seen("devices", marker["metadata"]["resourceVersion"])
    cloud.kube.put(DEVICES, {"metadata": {"name": "e", "namespace": "default", "uid": "e-uid"}, "spec": {"nodeName": NODE}})
    await cloud.hub.until(lambda: ("insert", "default/device/e") in cloud.hub.resources())
    assert {address for _, address in cloud.hub.resources()} == {"membership", "default/device/e"}


async def test_what_was_never_confirmed_is_sent_again(cloud: Any) -> None:
    await connect(cloud)
    await cloud.hub.until(lambda: len(cloud.hub.pushes) == 3)
    await disconnect(cloud)
    cloud.hub.pushes.clear()
    await connect(cloud)
    await cloud.hub.until(lambda: len(cloud.hub.pushes) == 3)
    assert ("update", "default/device/d") in cloud.hub.resources(), "it may have it already"


async def test_a_deletion_while_away_is_made_good(cloud: Any) -> None:
    await connect(cloud)
    await cloud.hub.until(lambda: len(cloud.hub.pushes) == 3)
    await settle(cloud)
    await disconnect(cloud)
    await cloud.kube.delete(DEVICES, "d", "default")
    async with asyncio.timeout(10):
        while cloud.caches["devices"].get("default", "d") is not None:
            await asyncio.sleep(0)
    await connect(cloud)
    await cloud.hub.until(lambda: len(cloud.hub.pushes) == 3)
    assert sorted(cloud.hub.resources()) == [("delete", "default/device/d"), ("delete", "default/devicemodel/m"), ("update", "membership")]
    await settle(cloud)
    assert (await cloud.kube.list(OBJECT_SYNCS))[0] == []


async def test_a_device_that_moves_leaves_its_node(cloud: Any) -> None:
    cloud.kube.put(NODES, {"metadata": {"name": "n2", "uid": "n2-uid"}})
    cloud.hub.here.add(NodeName("n2"))
    await connect(cloud)
    await cloud.sync.connection(NodeName("n2"), True)
    await cloud.hub.until(lambda: len(cloud.hub.pushes) == 3)
    await settle(cloud)
    found = cloud.kube.find(DEVICES, "d", "default")
    cloud.kube.put(DEVICES, {**found, "spec": found["spec"] | {"nodeName": "n2"}})
    await cloud.hub.until(lambda: len(cloud.hub.pushes) >= 6)
    assert ("delete", "default/device/d") in cloud.hub.resources("n1")
    assert ("insert", "default/device/d") in cloud.hub.resources("n2")


async def test_the_mirror_follows_and_heals(cloud: Any) -> None:
    def mirrored() -> Any:
        return cloud.kube.find(DEVICE_STATUSES, "d", "default")

    async def until(condition: Any) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0)

    await until(lambda: mirrored() is not None)
    assert mirrored()["metadata"]["ownerReferences"][0]["uid"] == "device-uid"
    twins = [{"propertyName": "red", "reported": {"value": "ON"}}]
    cloud.kube.put(DEVICES, {**cloud.kube.find(DEVICES, "d", "default"), "status": {"twins": twins, "state": "online", "elsewhere": 1}})
    await until(lambda: mirrored()["status"] == {"twins": twins, "state": "online"})
    await cloud.kube.delete(DEVICE_STATUSES, "d", "default")
    await until(lambda: (mirrored() or {}).get("status") == {"twins": twins, "state": "online"})


async def test_what_an_earlier_device_of_the_name_showed_is_not_taken_over(cloud: Any) -> None:
    """A Device made anew while its predecessor's DeviceStatus waits for the collector."""
    await cloud.close()
    owner = {"apiVersion": "devices.kubeedge.io/v1beta1", "kind": "Device", "name": "d", "uid": "earlier", "controller": True}
    twins = [{"propertyName": "red", "reported": {"value": "ON", "metadata": {"timestamp": "5"}}}]
    earlier = {"metadata": {"name": "d", "namespace": "default", "uid": "s", "ownerReferences": [owner]}, "status": {"twins": twins}}
    again = type(cloud)()
    again.kube.put(
        DEVICES, {"metadata": {"name": "d", "namespace": "default", "uid": "device-uid"}, "spec": {"properties": [{"name": "red"}]}}
    )
    again.kube.put(DEVICE_STATUSES, earlier)
    await again.start()
    async with asyncio.timeout(10):
        while again.kube.find(DEVICE_STATUSES, "d", "default")["metadata"]["ownerReferences"][0]["uid"] != "device-uid":
            await asyncio.sleep(0)
    await again.mirror.workers.idle()
    await again.reports.workers.idle()
    assert "twins" not in (again.kube.find(DEVICES, "d", "default").get("status") or {})
    assert "twins" not in again.kube.find(DEVICE_STATUSES, "d", "default")["status"]
    await again.close()


def test_sync_objects_are_named_by_node_and_uid() -> None:
    known = parse_sync(
        {
            "metadata": {"name": "192.168.4.22-pi2.some-uid", "namespace": "default"},
            "spec": {"objectKind": "Device", "objectName": "d"}, "status": {"objectResourceVersion": "7", "objectDigest": "x"},
        }
    )  # fmt: skip
    assert known == Known(NodeName("192.168.4.22-pi2"), "some-uid", "Device", "default", "d", "7", "x")
    assert parse_sync({"metadata": {"name": "nodot"}}) is None
    assert parse_sync({"metadata": {"name": ".uid"}}) is None


def test_the_digest_overlooks_what_changes_by_itself() -> None:
    one = {"metadata": {"name": "a", "resourceVersion": "1", "generation": 1, "managedFields": []}, "data": {"x": "1", "y": "2"}}
    two = {"data": {"y": "2", "x": "1"}, "metadata": {"generation": 2, "resourceVersion": "2", "name": "a"}}
    assert content_digest(one) == content_digest(two)
    assert content_digest(one) != content_digest({**two, "data": {"x": "1"}})
    known = parse_sync({"metadata": {"name": "n.u"}, "status": {"objectResourceVersion": "7"}})
    item = Item(DEVICES, {"metadata": {"name": "d", "uid": "u", "resourceVersion": "8"}}, "digest")
    assert is_behind(None, item)
    assert is_behind(known, item), "an upstream cloudcore left no digest: versions decide"
    assert not is_behind(known, replace(item, object={"metadata": {"name": "d", "uid": "u", "resourceVersion": "7"}}))


def inventory(*entries: tuple[str, str, str]) -> Envelope:
    """(uid, kind/name, version) of each object the node has."""
    content = [
        dict(zip(("kind", "name"), address.split("/"), strict=True)) | {"namespace": "default", "uid": uid, "version": version}
        for uid, address, version in entries
    ]
    return new("metamanager", "meta", "update", "inventory", content)


async def test_a_node_that_lost_its_database_gets_everything_again(cloud: Any) -> None:
    await connect(cloud)
    await cloud.hub.until(lambda: len(cloud.hub.pushes) == 3)
    await settle(cloud)
    await disconnect(cloud)
    await connect(cloud)
    (answer,) = await cloud.sync.inventory(NODE, inventory())
    assert (answer.operation, answer.body) == ("response", b'"OK"')
    await cloud.hub.until(lambda: len(cloud.hub.pushes) == 3)
    assert cloud.hub.resources() == [("update", "default/devicemodel/m"), ("update", "membership"), ("update", "default/device/d")]


async def test_a_node_with_an_older_database_gets_what_is_newer_and_loses_what_is_gone(cloud: Any) -> None:
    await connect(cloud)
    await cloud.hub.until(lambda: len(cloud.hub.pushes) == 3)
    await settle(cloud)
    model = cloud.kube.find(DEVICE_MODELS, "m", "default")["metadata"]["resourceVersion"]
    held = inventory(("model-uid", "devicemodel/m", model), ("device-uid", "device/d", "1"), ("gone-uid", "device/gone", "1"))
    await cloud.sync.inventory(NODE, held)
    await cloud.hub.until(lambda: ("update", "default/device/d") in cloud.hub.resources())
    assert ("delete", "default/device/gone") in cloud.hub.resources()
    assert "default/devicemodel/m" not in {address for _, address in cloud.hub.resources()}
    await settle(cloud)
    assert {each["metadata"]["name"] for each in (await cloud.kube.list(OBJECT_SYNCS))[0]} == {"n1.model-uid", "n1.device-uid"}


@pytest.mark.parametrize(
    "content",
    [
        None,
        {},
        [1],
        [{"kind": "device"}],
        [{"kind": "device", "namespace": "../x", "name": "a", "uid": "u", "version": "1"}],
        [{}] * 10_001,
    ],
)
def test_what_is_no_inventory_is_refused(content: Any) -> None:
    with pytest.raises(ValueError, match=r"expected|not names"):
        parse_inventory(content)


async def test_a_node_cannot_name_more_and_more_objects(cloud: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "BOUND", 5)
    await connect(cloud)
    await cloud.hub.until(lambda: len(cloud.hub.pushes) == 3)
    for number in range(8):
        await cloud.sync.inventory(NODE, inventory((f"uid-{number}", f"device/d{number}", "1")))
    assert len(cloud.sync.known(NODE)) <= 5
