"""What the cloud tells the twins: objects, and upstream's membership and twin messages."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from pinnace.core.base.contract.envelopes import new
from pinnace.core.base.contract.keys import DeviceId, ResourceKey
from pinnace.core.base.errors import StoreError
from pinnace.core.base.ports import ObjectChange

from .conftest import LAMP, MEMBERS, NODE, SHORT, Rig, device_object

ALONE = "$hw/events/device/lamp"


def entry(identity: str = "lamp", *, version: int = 1, **desired: str) -> dict[str, Any]:
    """A device in a membership message of KubeEdge 1.1."""
    twin = {
        name: {
            "expected": {"value": value, "metadata": {"timestamp": 1}}, "optional": False, "metadata": {"type": "string"},
            "expected_version": {"cloud": version, "edge": 0},
        }
        for name, value in desired.items()
    }  # fmt: skip
    made: dict[str, Any] = {"id": identity, "name": identity.rsplit("/", 1)[-1], "description": "Light"}
    return made | {"twin": twin} if desired else made


def membership(*, added: Any = None, removed: Any = None) -> dict[str, Any]:
    return {"event_id": "m", "timestamp": 1, "added_devices": added, "removed_devices": removed}


async def test_an_object_makes_a_device(rig: Rig) -> None:
    told = await rig.apply(device_object(red="ON", green="OFF"), "insert")
    assert [topic for topic, _ in told] == [
        f"{LAMP}/twin/update/document",
        f"{SHORT}/twin/update/document",
        f"{LAMP}/twin/update/delta",
        f"{SHORT}/twin/update/delta",
        MEMBERS,
    ]
    assert told[0][1]["twin"]["red"]["last"] is None
    assert told[2][1]["delta"] == {"red": "ON", "green": "OFF"}
    joined = told[4][1]
    assert joined["removed_devices"] is None
    assert joined["added_devices"][0]["id"] == "default/lamp"
    assert joined["added_devices"][0]["twin"]["red"]["expected"]["value"] == "ON"
    assert all(durable for _, _, durable in rig.store.writes)


async def test_desired_values_are_on_disk_before_anybody_hears_of_them(rig: Rig) -> None:
    heard: list[bool] = []
    rig.store.on_commit.append(lambda: heard.append(bool(rig.bus.published)))
    await rig.apply(device_object(red="ON"))
    await rig.apply(device_object(version=2, red="OFF"))
    assert heard == [False, False]


async def test_the_same_again_says_nothing(rig: Rig) -> None:
    await rig.apply(device_object(red="ON"))
    writes = len(rig.store.writes)
    assert await rig.apply(device_object(red="ON")) == []
    assert await rig.cloud("membership", membership(added=[entry("default/lamp", red="ON")])) == []
    assert len(rig.store.writes) == writes


async def test_an_older_object_changes_nothing(rig: Rig) -> None:
    await rig.apply(device_object(version=7, red="ON"))
    assert await rig.apply(device_object(version=6, red="OFF")) == []
    assert await rig.values() == {"red": ("ON", None)}


async def test_a_desired_value_taken_away(rig: Rig) -> None:
    await rig.apply(device_object(red="ON", green="ON"))
    await rig.report({"red": "ON"})
    told = await rig.apply(device_object(version=2))
    assert told[0][1]["twin"]["green"]["current"] is None
    assert await rig.values() == {"red": (None, "ON")}


async def test_types_come_from_the_model(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    properties: list[dict[str, Any]] = [
        {"name": "level", "type": "INT"},
        {"name": "lit", "type": "BOOLEAN"},
        {"name": "odd", "type": {"double": {}}},
    ]
    model: dict[str, Any] = {
        "kind": "DeviceModel",
        "metadata": {"name": "light", "namespace": "default"},
        "spec": {"properties": properties},
    }
    await rig.apply(model)
    with caplog.at_level(logging.WARNING):
        await rig.apply(device_object(level=3, lit=True, odd="warm"))
    assert await rig.values() == {"level": ("3", None), "lit": ("true", None)}
    assert (await rig.get())["level"]["metadata"] == {"type": "int"}
    assert [record.message for record in caplog.records if "odd" in record.message]
    assert (await rig.report({"level": "bright"}))[0][1]["code"] == 400
    properties[2]["type"] = "STRING"
    await rig.apply(model)
    assert (await rig.values())["odd"] == ("warm", None)


async def test_an_object_of_an_older_api(rig: Rig) -> None:
    body = {
        "apiVersion": "devices.kubeedge.io/v1alpha2", "kind": "Device",
        "metadata": {"name": "lamp", "namespace": "default", "resourceVersion": "4"}, "spec": {},
        "status": {"twins": [{"propertyName": "red", "desired": {"value": "ON", "metadata": {"type": "string"}}}, {"propertyName": "x"}]},
    }  # fmt: skip
    await rig.apply(body)
    assert await rig.values() == {"red": ("ON", None)}


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'"x"', b'{"metadata":[],"spec":3}', b'{"spec":{"properties":[1,{"name":2}]}}'])
async def test_objects_that_are_none(rig: Rig, body: bytes) -> None:
    """Logged, acknowledged, and nothing breaks."""
    await rig.service.changed(ObjectChange("update", ResourceKey("device", "default", "lamp"), "", body))
    await rig.apply(device_object(red="ON"))
    assert await rig.values() == {"red": ("ON", None)}


async def test_a_device_that_goes(rig: Rig) -> None:
    await rig.apply(device_object(red="ON"))
    told = await rig.apply(device_object(), "delete")
    assert [topic for topic, _ in told] == [MEMBERS]
    assert told[0][1]["added_devices"] is None
    assert told[0][1]["removed_devices"][0]["id"] == "default/lamp"
    assert rig.store.disk == {}
    assert (await rig.client(f"{LAMP}/twin/get", {}))[0][1]["code"] == 404


async def test_another_device_of_the_same_name(rig: Rig) -> None:
    """Its versions may be lower and its values are its own."""
    await rig.apply(device_object(version=9, red="ON"))
    await rig.report({"red": "ON"})
    await rig.apply(device_object(version=3, uid="u2", red="OFF"))
    assert await rig.values() == {"red": ("OFF", None)}


async def test_a_local_desired_value_does_not_keep_the_cloud_out(rig: Rig) -> None:
    await rig.apply(device_object(version=1, red="ON"))
    await rig.client(f"{LAMP}/twin/update", {"twin": {"red": {"expected": {"value": "MINE"}}}})
    await rig.apply(device_object(version=2, red="ON"))
    assert await rig.values() == {"red": ("MINE", None)}
    await rig.crash()
    await rig.apply(device_object(version=3, red="OFF"))
    assert await rig.values() == {"red": ("OFF", None)}


async def test_a_cloud_of_kubeedge_1_1(rig: Rig) -> None:
    """Devices without namespace, twins by membership and `cloud_updated`."""
    told = await rig.cloud("membership", membership(added=[entry(version=5001, red="OFF")]))
    assert [topic for topic, _ in told] == [f"{ALONE}/twin/update/document", f"{ALONE}/twin/update/delta", MEMBERS]
    assert told[0][1]["event_id"] == "m"
    update = {"event_id": "A", "timestamp": 1, "twin": entry(version=5002, red="ON")["twin"]}
    told = await rig.cloud("device/lamp/twin/cloud_updated", update)
    assert [topic for topic, _ in told] == [f"{ALONE}/twin/update/document", f"{ALONE}/twin/update/delta"]
    assert told[1][1]["delta"] == {"red": "ON"}
    await rig.cloud("device/lamp/twin/cloud_updated", json.dumps({"twin": entry(version=5000, red="OLD")["twin"]}))
    assert await rig.values(ALONE) == {"red": ("ON", None)}
    await rig.report({"red": "ON"}, ALONE)
    assert "device/lamp/twin/edge_updated" in rig.reports()
    gone = {"red": {"metadata": {"type": "deleted"}, "expected_version": {"cloud": 5003, "edge": 0}}}
    await rig.cloud("device/lamp/twin/cloud_updated", {"twin": gone})
    assert await rig.values(ALONE) == {"red": (None, "ON")}
    told = await rig.cloud("membership", membership(removed=[entry()]))
    assert [topic for topic, _ in told] == [MEMBERS]
    assert rig.store.disk == {}


async def test_a_cloud_of_kubeedge_1_23(rig: Rig) -> None:
    """Membership names the device, the object says what is wanted."""
    told = await rig.cloud("membership", membership(added=[entry("default/lamp")]))
    assert [topic for topic, _ in told] == [MEMBERS]
    told = await rig.apply(device_object(version=12, red="ON"))
    assert told[0][0] == f"{LAMP}/twin/update/document"
    assert await rig.cloud("membership", membership(added=[entry("default/lamp")])) == []
    assert await rig.values() == {"red": ("ON", None)}


async def test_it_asks_who_belongs_to_the_node(rig: Rig) -> None:
    await rig.uplink.connect()
    (question,) = rig.uplink.posted
    route = (question.source, question.group, question.operation, question.resource)
    assert route == ("twin", "resource", "get", "membership/detail")
    content = json.loads(json.loads(question.body))
    assert (content["event_type"], content["group_id"], content["operation"]) == ("group_membership_event", NODE, "detail")


async def test_the_full_list_adds_and_removes(rig: Rig) -> None:
    await rig.cloud("membership", membership(added=[entry("default/old", red="1"), entry("default/kept", red="1")]))
    await rig.apply(device_object("stored", red="1"))
    detail = {"event_id": "d", "timestamp": 1, "devices": [entry("default/kept", red="1"), entry("default/new", red="1")]}
    await rig.cloud("membership/detail", detail, operation="response")
    assert set(rig.store.disk) == {DeviceId("default", name) for name in ("kept", "new", "stored")}


async def test_membership_does_not_remove_what_its_object_keeps(rig: Rig) -> None:
    await rig.apply(device_object(red="1"))
    assert await rig.cloud("membership", membership(removed=[entry("default/lamp")])) == []
    assert await rig.values() == {"red": ("1", None)}


@pytest.mark.parametrize(
    ("resource", "content"),
    [
        ("membership", None), ("membership", []), ("membership", "text"), ("membership", {"added_devices": 3}),
        ("membership", {"added_devices": [None, 1, {}, {"id": "a/b/c"}, {"id": ""}]}), ("membership/detail", 7),
        ("device/lamp/twin/cloud_updated", {"twin": {"red": 1}}), ("device/none/twin/cloud_updated", {"twin": {}}),
        ("device/lamp/twin/cloud_updated", None), ("something/else", {}), ("twin", "OK"),
    ],
)  # fmt: skip
async def test_bad_messages_of_the_cloud(rig: Rig, resource: str, content: Any) -> None:
    await rig.apply(device_object(red="1"))
    before = json.dumps(await rig.values())
    assert await rig.cloud(resource, content) == []
    assert json.dumps(await rig.values()) == before


async def test_answers_to_reports_are_not_messages(rig: Rig) -> None:
    answer = new("devicecontroller", "twin", "response", "twin", "OK")
    answer.parent_id = "some-id"
    assert await rig.service.handle(answer) is None


async def test_a_full_disk_is_not_acknowledged_and_made_up_for(rig: Rig) -> None:
    await rig.apply(device_object(red="OFF"))
    rig.store.broken = True
    rig.bus.take()
    for _ in range(2):
        with pytest.raises(StoreError):
            await rig.apply(device_object(version=2, red="ON"))
    assert rig.bus.take() == []
    rig.store.broken = False
    told = await rig.apply(device_object(version=2, red="ON"))
    assert told[0][1]["delta"] == {"red": "ON"}
    await rig.crash()
    assert await rig.values() == {"red": ("ON", None)}


async def test_an_object_stored_before_the_crash_is_applied_at_the_start(rig: Rig) -> None:
    """The object is durable first; its twins may not have been."""
    rig.store.broken = True
    with pytest.raises(StoreError):
        await rig.apply(device_object(red="ON"))
    rig.store.broken = False
    await rig.crash()
    assert await rig.values() == {"red": ("ON", None)}


async def test_rows_that_cannot_be_read(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    await rig.apply(device_object(red="ON"))
    await rig.report({"x": "1"})
    rig.store.disk[DeviceId("default", "lamp")] |= {"x": b"\xff", "": b"["}
    with caplog.at_level(logging.WARNING):
        await rig.restart()
    assert len([record for record in caplog.records if record.message.startswith("twins.unreadable")]) == 2
    assert await rig.values() == {"red": ("ON", None)}


@pytest.mark.parametrize(("wire", "times"), [(0, 2), (1, 1)])
async def test_an_upstream_cloud_is_told_the_first_report_twice(wire: int, times: int) -> None:
    rig = Rig()
    rig.uplink.peer_wire = wire
    await rig.start()
    await rig.apply(device_object(red="ON"))
    await rig.report({"red": "ON"})
    sent = 0
    while envelopes := rig.sent():
        sent += 1
        for envelope in envelopes:
            rig.outbox.confirm(envelope)
    assert sent == times
    await rig.report({"red": "OFF"})
    assert len(rig.sent()) == 1
    await rig.stop()
