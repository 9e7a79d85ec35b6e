"""Desired values down to a node and reported ones back into the API, with the project's own samples, through the conversion webhook."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pinnace.cloud.kube.resources import DEVICE_MODELS, DEVICE_STATUSES, DEVICES, OBJECT_SYNCS
from pinnace.cloud.ports import Object, Resource

NODE = "192.168.4.22-pi2"
LIGHT = "traffic-light-instance-01"
OLD_DEVICES = Resource("devices.kubeedge.io", "v1alpha1", "devices", "Device", True)
OLD_MODELS = Resource("devices.kubeedge.io", "v1alpha1", "devicemodels", "DeviceModel", True)


def reported(device: Object) -> dict[str, str]:
    twins = (device.get("status") or {}).get("twins") or ()
    return {each["propertyName"]: each["reported"]["value"] for each in twins if "reported" in each}


def desired(message: Any) -> dict[str, str]:
    return {each["name"]: each["desired"]["value"] for each in message["content"]["spec"]["properties"] if "desired" in each}


def recorded(syncs: list[Object]) -> set[str]:
    """The kinds of what the node has confirmed; the ConfigMap is the profile of its devices."""
    return {each["spec"]["objectKind"] for each in syncs if (each.get("status") or {}).get("objectResourceVersion", "0") != "0"}


async def set_desired(api: Any, **values: str) -> Object:
    """As `kubectl edit` of the v1beta1 object does it."""
    device = await api.get(DEVICES, LIGHT, "default")
    for each in device["spec"]["properties"]:
        if each["name"] in values:
            each["desired"]["value"] = values[each["name"]]
    changed: Object = await api.replace(DEVICES, device, LIGHT, "default")
    return changed


@pytest.mark.parametrize("name", ["traffic-light", "dyson-fan"])
async def test_samples_apply_and_come_back_as_they_were(world: Any, name: str) -> None:
    await world.apply_sample(name)
    for resource, part in ((OLD_MODELS, "model"), (OLD_DEVICES, "instance")):
        given = world.sample(name, part)
        live = await world.api.get(resource, given["metadata"]["name"], "default")
        assert live["spec"] == given["spec"]
        assert live.get("status") == given.get("status")
        assert live["metadata"]["labels" if part == "instance" else "name"] == given["metadata"]["labels" if part == "instance" else "name"]


async def test_a_stored_device_shows_both_versions(world: Any) -> None:
    await world.apply_sample()
    new = await world.api.get(DEVICES, LIGHT, "default")
    assert new["spec"]["nodeName"] == NODE
    assert [(each["name"], each["desired"]["value"]) for each in new["spec"]["properties"]] == [
        ("red", "OFF"), ("yellow", "OFF"), ("green", "OFF"),
    ]  # fmt: skip
    assert reported(new) == {"red": "OFF", "yellow": "OFF", "green": "OFF"}
    await set_desired(world.api, red="ON")
    old = await world.api.get(OLD_DEVICES, LIGHT, "default")
    assert old["status"]["twins"][0]["desired"]["value"] == "ON"
    assert old["status"]["twins"][0]["reported"]["value"] == "OFF"


async def test_a_device_goes_down_in_order(world: Any) -> None:
    async with world.connected() as node:
        start = len(node.received)
        await world.apply_sample()
        device = await node.pushed("insert", f"default/device/{LIGHT}", after=start)
        kinds = [each["route"]["resource"] for each in node.received[start:] if "node" not in each["route"]["resource"]]
        assert kinds[:3] == ["default/devicemodel/traffic-light", "membership", f"default/device/{LIGHT}"]
        assert desired(device) == {"red": "OFF", "yellow": "OFF", "green": "OFF"}
        assert device["content"]["apiVersion"] == "devices.kubeedge.io/v1beta1"
        assert device["content"]["spec"]["nodeName"] == NODE
        assert "status" not in device["content"]
        membership = await node.saw(lambda each: each["route"]["resource"] == "membership")
        (added,) = membership["content"]["added_devices"]
        assert added["id"] == f"default/{LIGHT}"
        assert added["description"] == "Light"
        assert added["twin"]["red"]["expected"]["value"] == "OFF"
        assert added["twin"]["red"]["expected_version"]["cloud"] > 0


async def test_each_desired_value_goes_down_once(world: Any) -> None:
    async with world.connected() as node:
        await world.apply_sample()
        await node.pushed("insert", f"default/device/{LIGHT}")
        await world.until(
            lambda: world.api.list(OBJECT_SYNCS), lambda answer: recorded(answer[0]) == {"Device", "DeviceModel", "ConfigMap"}
        )
        for value in ("ON", "OFF", "ON"):
            start = len(node.received)
            changed = await set_desired(world.api, red=value)
            push = await node.pushed("update", f"default/device/{LIGHT}", after=start)
            assert desired(push)["red"] == value
            assert push["header"]["resourceversion"] == changed["metadata"]["resourceVersion"]
        before = len([each for each in node.received if each["route"]["resource"] == f"default/device/{LIGHT}"])
        await node.report(f"default/{LIGHT}", {"red": "ON"})
        await world.until(lambda: world.api.get(DEVICES, LIGHT, "default"), lambda device: reported(device)["red"] == "ON")
        await node.ask("query", f"null/node/{NODE}")
        after = len([each for each in node.received if each["route"]["resource"] == f"default/device/{LIGHT}"])
        assert after == before, "a report must not come back as a push"


async def test_a_report_is_shown_everywhere_and_confirmed(world: Any) -> None:
    async with world.connected() as node:
        await world.apply_sample()
        await node.pushed("insert", f"default/device/{LIGHT}")
        number = await node.report(f"default/{LIGHT}", {"red": "ON", "nonsense": "1"}, timestamp=1_900_000_000_000)
        confirmation = await node.saw(lambda each: each["header"].get("parent_msg_id") == number)
        assert confirmation["route"] == {"source": "devicecontroller", "group": "twin", "operation": "response", "resource": "twin"}
        assert confirmation["content"] == "OK"
        device = await world.api.get(DEVICES, LIGHT, "default")
        assert reported(device) == {"red": "ON", "yellow": "OFF", "green": "OFF"}, "shown when it is confirmed"
        assert device["status"]["twins"][0]["reported"]["metadata"]["timestamp"] == "1900000000000"
        old = await world.api.get(OLD_DEVICES, LIGHT, "default")
        assert [each["reported"]["value"] for each in old["status"]["twins"]] == ["ON", "OFF", "OFF"]
        assert [each["desired"]["value"] for each in old["status"]["twins"]] == ["OFF", "OFF", "OFF"]
        mirror = await world.until(
            lambda: world.api.list(DEVICE_STATUSES), lambda answer: answer[0] and reported(answer[0][0])["red"] == "ON"
        )
        assert mirror[0][0]["metadata"]["name"] == LIGHT
        assert mirror[0][0]["metadata"]["ownerReferences"][0]["uid"] == device["metadata"]["uid"]


async def test_state_of_a_device(world: Any) -> None:
    async with world.connected() as node:
        await world.apply_sample()
        await node.pushed("insert", f"default/device/{LIGHT}")
        text = '{"event_id":"e","timestamp":1,"device":{"name":"x","state":"online","lastOnlineTime":"2026-01-01T00:00:00Z"}}'
        number = await node.send("update", f"device/default/{LIGHT}/state/update", text, source="twin", group="resource")
        await node.saw(lambda each: each["header"].get("parent_msg_id") == number)
        device = await world.api.get(DEVICES, LIGHT, "default")
        assert device["status"]["state"] == "online"
        assert device["status"]["lastOnlineTime"] == "2026-01-01T00:00:00Z"


async def test_a_burst_is_coalesced_and_never_goes_back(world: Any) -> None:
    async with world.connected() as node:
        await world.apply_sample()
        await node.pushed("insert", f"default/device/{LIGHT}")
        device = await world.api.get(DEVICES, LIGHT, "default")
        seen: list[int] = []

        async def follow() -> None:
            async for event in world.api.watch(DEVICES, "default", resource_version=device["metadata"]["resourceVersion"]):
                value = reported(event.object)["red"]
                if value.isdecimal():
                    seen.append(int(value))
                if value == "500":
                    return

        follower = asyncio.create_task(follow())
        numbers = [
            await node.report(LIGHT, {"red": str(number)}, version=number, timestamp=1_900_000_000_000 + number) for number in range(1, 501)
        ]
        async with asyncio.timeout(20):
            await follower
        assert seen == sorted(set(seen))
        assert len(seen) < 400, "reports that arrive together are written together"
        await node.saw(lambda each: each["header"].get("parent_msg_id") == numbers[-1])
        confirmed = {each["header"].get("parent_msg_id") for each in node.received}
        assert confirmed.issuperset(numbers), "each is confirmed"


async def test_an_old_report_does_not_replace_a_newer_one(world: Any) -> None:
    async with world.connected() as node:
        await world.apply_sample()
        await node.pushed("insert", f"default/device/{LIGHT}")
        for value, version in (("NEW", 5), ("OLD", 4)):
            number = await node.report(f"default/{LIGHT}", {"red": value}, version=version, timestamp=1_900_000_000_000 + version)
            await node.saw(lambda each, number=number: each["header"].get("parent_msg_id") == number)
        assert reported(await world.api.get(DEVICES, LIGHT, "default"))["red"] == "NEW"


async def test_somebody_who_writes_the_whole_list_does_not_bring_back_an_old_report(world: Any) -> None:
    async with world.connected() as node:
        await world.apply_sample()
        await node.pushed("insert", f"default/device/{LIGHT}")
        await node.report(f"default/{LIGHT}", {"red": "ON"})
        await world.until(lambda: world.api.get(DEVICES, LIGHT, "default"), lambda device: reported(device)["red"] == "ON")
        start = len(node.received)
        twins = world.sample("traffic-light", "instance")["status"]["twins"]
        twins[2]["desired"]["value"] = "ON"
        await world.api.patch(OLD_DEVICES, LIGHT, {"status": {"twins": twins}}, "default")
        await world.until(lambda: world.api.get(DEVICES, LIGHT, "default"), lambda device: reported(device)["red"] == "ON")
        push = await node.pushed("update", f"default/device/{LIGHT}", after=start)
        assert desired(push) == {"red": "OFF", "yellow": "OFF", "green": "ON"}


async def test_another_nodes_device_is_out_of_reach(world: Any) -> None:
    await world.apply_sample()
    async with world.connected("stranger") as node:
        await node.report(f"default/{LIGHT}", {"red": "STOLEN"})
        await node.report(LIGHT, {"red": "STOLEN"})
        await node.ask("query", "null/node/stranger")
        assert reported(await world.api.get(DEVICES, LIGHT, "default"))["red"] == "OFF"
        detail = await node.send("get", "membership/detail", "{}", source="twin", group="resource")
        await node.saw(lambda each: each["header"].get("parent_msg_id") == detail)
        listing = await node.saw(lambda each: each["route"]["resource"] == "membership/detail")
        assert listing["content"]["devices"] == []
        assert not [each for each in node.received if "/device/" in each["route"]["resource"]]


async def test_changes_while_a_node_is_away_reach_it_once(world: Any) -> None:
    async with world.connected() as node:
        await world.apply_sample()
        await node.pushed("insert", f"default/device/{LIGHT}")
        await world.until(
            lambda: world.api.list(OBJECT_SYNCS), lambda answer: recorded(answer[0]) == {"Device", "DeviceModel", "ConfigMap"}
        )
    await set_desired(world.api, red="ON")
    async with world.connected() as node:
        push = await node.pushed("update", f"default/device/{LIGHT}")
        assert desired(push)["red"] == "ON"
        await node.ask("query", f"null/node/{NODE}")
        assert not [each for each in node.received if "devicemodel" in each["route"]["resource"]], "what it has is not sent again"
    await world.api.delete(DEVICES, LIGHT, "default")
    async with world.connected() as node:
        gone = await node.pushed("delete", f"default/device/{LIGHT}")
        assert set(gone["content"]["metadata"]) == {"name", "namespace", "uid"}
        removed = await node.saw(lambda each: each["route"]["resource"] == "membership")
        assert removed["content"]["removed_devices"] == [{"id": f"default/{LIGHT}", "name": LIGHT}]
        await node.pushed("delete", "default/devicemodel/traffic-light")
        await world.until(lambda: world.api.list(OBJECT_SYNCS), lambda answer: not answer[0])
    assert await world.api.get(DEVICE_MODELS, "traffic-light", "default")


async def test_a_label_places_the_device(world: Any) -> None:
    await world.apply_sample()
    async with world.connected("pi-by-label", labels={"hostname": NODE}) as node:
        push = await node.pushed("insert", f"default/device/{LIGHT}")
        assert push["content"]["spec"]["nodeName"] == "pi-by-label"
