"""One patch of a device at a time, the newest of what came meanwhile in the next, and a confirmation only for what the API has."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from pinnace.cloud.kube.resources import DEVICES
from pinnace.cloud.ports import Object, Resource
from pinnace.core.base.contract.envelopes import Envelope, new
from pinnace.core.base.contract.keys import NodeName, parse_resource
from pinnace.core.base.errors import LinkError

NODE = NodeName("n1")


def report(value: str, version: int, *, name: str = "red") -> Envelope:
    twin = {name: {"actual": {"value": value, "metadata": {"timestamp": 1_000 + version}}, "actual_version": {"cloud": 0, "edge": version}}}
    return new("twin", "resource", "update", "device/default/d/twin/edge_updated", {"event_id": "", "timestamp": 1, "twin": twin})


async def send(cloud: Any, envelope: Envelope, node: str = NODE) -> None:
    assert await cloud.reports.handle(NodeName(node), parse_resource(envelope.resource), envelope) == []


def value_of(cloud: Any) -> str:
    found = cloud.kube.find(DEVICES, "d", "default")
    twins = {each["propertyName"]: each for each in (found.get("status") or {}).get("twins") or ()}
    return str(twins["red"]["reported"]["value"]) if "red" in twins else ""


def confirmed(cloud: Any) -> list[str]:
    return [message.parent_id for _, message in cloud.hub.pushes if str(message.key) == "twin"]


def patches(cloud: Any) -> int:
    return len([each for each in cloud.kube.requests if each[:2] == ("patch", "devices")])


async def test_reports_during_a_patch_become_one_more(cloud: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, began = asyncio.Event(), asyncio.Event()
    original = cloud.kube.patch
    running = 0

    async def slow(resource: Resource, *arguments: Any, **more: Any) -> Object:
        nonlocal running
        if resource != DEVICES:
            untouched: Object = await original(resource, *arguments, **more)
            return untouched
        running += 1
        assert running == 1, "one patch of a device at a time"
        began.set()
        await gate.wait()
        result: Object = await original(resource, *arguments, **more)
        running -= 1
        return result

    monkeypatch.setattr(cloud.kube, "patch", slow)
    first = report("1", 1)
    await send(cloud, first)
    await began.wait()
    later = [report(str(number), number) for number in range(2, 101)]
    for each in later:
        await send(cloud, each)
    assert confirmed(cloud) == []
    gate.set()
    await cloud.reports.workers.idle()
    assert value_of(cloud) == "100"
    assert patches(cloud) == 2
    assert confirmed(cloud) == [first.msg_id, *(each.msg_id for each in later)]


async def test_nothing_is_confirmed_before_the_api_has_it(cloud: Any) -> None:
    failures = [LinkError("the API is away")] * 2

    def fail(verb: str, resource: Resource, name: str) -> None:
        if verb == "patch" and resource == DEVICES and failures:
            assert confirmed(cloud) == []
            raise failures.pop()

    cloud.kube.fail_with = fail
    message = report("ON", 1)
    await send(cloud, message)
    await cloud.reports.workers.idle()
    assert failures == []
    assert value_of(cloud) == "ON"
    assert confirmed(cloud) == [message.msg_id]


async def test_a_newer_report_wins_though_the_older_one_waits(cloud: Any) -> None:
    """The API is away, the older report is due, the newer comes: only the newer is ever written."""
    seen: list[str] = []
    is_away = True

    def fail(verb: str, resource: Resource, name: str) -> None:
        if verb == "patch" and resource == DEVICES:
            if is_away:
                raise LinkError("the API is away")
            seen.append(value_of(cloud))

    cloud.kube.fail_with = fail
    await send(cloud, report("OLD", 1))
    await asyncio.sleep(0)
    await send(cloud, report("NEW", 2))
    await send(cloud, report("OLD", 1))
    is_away = False
    await cloud.reports.workers.idle()
    assert value_of(cloud) == "NEW"
    assert seen == [""]
    assert len(confirmed(cloud)) == 3, "a repeated old one is confirmed too, so that the node forgets it"


async def test_a_change_under_the_patch_is_read_again(cloud: Any) -> None:
    await send(cloud, report("1", 1))
    await cloud.reports.workers.idle()
    turned = [True]

    def fail(verb: str, resource: Resource, name: str) -> None:
        if verb == "patch" and resource == DEVICES and turned:
            turned.clear()
            found = cloud.kube.find(DEVICES, "d", "default")
            twins = [{"propertyName": "other", "reported": {"value": "x"}}, *found["status"]["twins"]]
            cloud.kube.put(DEVICES, {**found, "status": {"twins": twins}})

    cloud.kube.fail_with = fail
    await send(cloud, report("2", 2))
    await cloud.reports.workers.idle()
    twins = cloud.kube.find(DEVICES, "d", "default")["status"]["twins"]
    assert [(each["propertyName"], each["reported"]["value"]) for each in twins] == [("other", "x"), ("red", "2")]


async def test_who_may_not_report_changes_nothing(cloud: Any, caplog: pytest.LogCaptureFixture) -> None:
    await send(cloud, report("STOLEN", 1), node="n2")
    await send(cloud, report("X", 1, name="unknown"))
    garbage = new("twin", "resource", "update", "device/default/d/twin/edge_updated", {"twin": 5})
    await send(cloud, garbage)
    await send(cloud, new("twin", "resource", "update", "device/default/nobody/twin/edge_updated", {"twin": {}}))
    await cloud.reports.workers.idle()
    assert value_of(cloud) == ""
    for word in ("report-refused", "property-unknown", "report-malformed", "report-unknown"):
        assert word in caplog.text


async def test_a_bare_name_is_looked_for_on_the_node(cloud: Any) -> None:
    message = report("ON", 1)
    message.resource = "device/d/twin/edge_updated"
    await send(cloud, message)
    await cloud.reports.workers.idle()
    assert value_of(cloud) == "ON"


async def test_what_is_overwritten_comes_back(cloud: Any) -> None:
    await send(cloud, report("ON", 1))
    await cloud.reports.workers.idle()
    found = cloud.kube.find(DEVICES, "d", "default")
    written = cloud.kube.put(
        DEVICES, orjson.loads(orjson.dumps({**found, "status": {"twins": [{"propertyName": "red", "reported": {"value": "OFF"}}]}}))
    )
    await cloud.seen("devices", written["metadata"]["resourceVersion"])
    await cloud.reports.workers.idle()
    assert value_of(cloud) == "ON"


async def test_a_device_that_moved_is_heard_though_its_new_node_counts_anew_and_its_clock_is_behind(cloud: Any) -> None:
    await send(cloud, report("ON", 57))
    await cloud.reports.workers.idle()
    found = cloud.kube.find(DEVICES, "d", "default")
    moved = cloud.kube.put(DEVICES, {**found, "spec": {**found["spec"], "nodeName": "n2"}})
    await cloud.seen("devices", moved["metadata"]["resourceVersion"])
    assert value_of(cloud) == "ON"
    for number, value in enumerate(["OFF", "DIM"], 1):
        await send(cloud, report(value, number), "n2")
        await cloud.reports.workers.idle()
        assert value_of(cloud) == value
    stale = cloud.kube.find(DEVICES, "d", "default")
    twins = orjson.loads(orjson.dumps(found["status"]["twins"]))
    written = cloud.kube.put(DEVICES, {**stale, "status": {"twins": twins}})  # somebody brings back what the former node said
    await cloud.seen("devices", written["metadata"]["resourceVersion"])
    await cloud.reports.workers.idle()
    assert value_of(cloud) == "DIM"


async def test_a_deleted_device_ends_its_reports(cloud: Any) -> None:
    def vanish(verb: str, resource: Resource, name: str) -> None:
        if verb == "patch" and resource == DEVICES:
            cloud.kube.fail_with = None
            cloud.kube.objects.pop(("devices.kubeedge.io", "devices", "default", "d"), None)

    cloud.kube.fail_with = vanish
    await send(cloud, report("ON", 1))
    await cloud.reports.workers.idle()
    assert confirmed(cloud) == []
