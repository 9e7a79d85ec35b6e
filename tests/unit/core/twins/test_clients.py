"""What clients on MQTT ask for and are told, in both dialects."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from .conftest import LAMP, NODE, SHORT, Rig, device_object

VECTORS = Path(__file__).parents[3] / "vectors" / "twins"


async def test_an_update_is_answered_in_its_dialect_and_told_in_both(rig: Rig) -> None:
    await rig.apply(device_object(red="ON", green="OFF"))
    for topic in (LAMP, SHORT):
        answers = await rig.report({"red": "OFF"}, topic)
        assert [each for each, _ in answers] == [
            f"{topic}/twin/update/result",
            f"{LAMP}/twin/update/document",
            f"{SHORT}/twin/update/document",
            f"{LAMP}/twin/update/delta",
            f"{SHORT}/twin/update/delta",
        ]
        result, document, _, delta, _ = [content for _, content in answers]
        assert result["event_id"] == document["event_id"] == "e"
        assert "code" not in result
        assert result["twin"]["red"]["actual"]["value"] == "OFF"
        assert result["twin"].keys() == document["twin"].keys() == {"red"}
        assert document["twin"]["red"]["current"]["expected"]["value"] == "ON"
        assert delta["delta"] == {"red": "ON", "green": "OFF"}
        assert delta["twin"].keys() == {"red", "green"}
        assert delta["event_id"] not in ("", "e")


async def test_nothing_differs_no_delta(rig: Rig) -> None:
    await rig.apply(device_object(red="ON"))
    answers = await rig.report({"red": "ON"})
    assert not [topic for topic, _ in answers if topic.endswith("delta")]


async def test_a_report_goes_to_the_cloud_once(rig: Rig) -> None:
    await rig.apply(device_object(red="ON"))
    await rig.report({"red": "OFF"})
    await rig.report({"red": "OFF"})
    assert [name for _, _, name, _ in rig.outbox.puts] == ["red"]
    await rig.report({"red": "ON"})
    content = rig.reports()["device/default/lamp/twin/edge_updated"]
    assert content["event_id"]
    assert content["timestamp"] > 0
    twin = content["twin"]["red"]
    assert twin["actual"]["value"] == twin["expected"]["value"] == "ON"
    assert (twin["actual_version"], twin["expected_version"]) == ({"cloud": 0, "edge": 2}, {"cloud": 1, "edge": 0})
    assert (twin["optional"], twin["metadata"]) == (False, {"type": "string"})
    envelope = rig.sent()[0]
    assert (envelope.source, envelope.group, envelope.operation) == ("twin", "resource", "update")


async def test_get(rig: Rig) -> None:
    await rig.apply(device_object(red="ON"))
    for topic in (LAMP, SHORT):
        answers = await rig.client(f"{topic}/twin/get", {"event_id": "q", "twin": {"red": {}}})
        assert [each for each, _ in answers] == [f"{topic}/twin/get/result"]
        assert answers[0][1]["event_id"] == "q"
        assert answers[0][1]["twin"]["red"]["expected"]["value"] == "ON"
        assert "expected_version" not in answers[0][1]["twin"]["red"]


@pytest.mark.parametrize("payload", [case[0] for case in json.loads((VECTORS / "refused.json").read_text())["cases"]])
async def test_garbage_is_answered_and_nothing_of_it_stored(rig: Rig, payload: str, caplog: pytest.LogCaptureFixture) -> None:
    await rig.apply(
        {**device_object(fixed=1), "spec": {"properties": [{"name": "fixed", "desired": {"value": "1", "metadata": {"type": "int"}}}]}}
    )
    writes = list(rig.store.writes)
    with caplog.at_level(logging.WARNING):
        answers = await rig.client(f"{LAMP}/twin/update", payload.encode())
    assert [topic for topic, _ in answers] == [f"{LAMP}/twin/update/result", "$hw/events/device//twin/update/result"]
    assert all(content["code"] == 400 and content["reason"] for _, content in answers)
    assert len(caplog.records) == 1
    assert rig.store.writes == writes
    assert not rig.outbox.puts
    assert await rig.values() == {"fixed": ("1", None)}


@pytest.mark.parametrize(
    ("suffix", "payload", "results"),
    [
        ("twin/get", b"nonsense", ["twin/get/result"]),
        ("twin/get", b'"text"', ["twin/get/result"]),
        ("twin/get", b'{"event_id":1}', ["twin/get/result"]),
        ("state/update", b"{", ["state/update/result"]),
        ("state/update", b'{"state":1}', ["state/update/result"]),
        ("state/update", b"{}", ["state/update/result"]),
        ("state/update", b'{"state":"asleep"}', ["state/update/result"]),
        ("twin/cloud_updated", b"{}", ["twin/update/result"]),
    ],
)
async def test_garbage_in_other_requests(rig: Rig, suffix: str, payload: bytes, results: list[str]) -> None:
    await rig.apply(device_object(red="ON"))
    before = dict(rig.store.disk)
    answers = await rig.client(f"{SHORT}/{suffix}", payload)
    assert [topic for topic, _ in answers if "device//" not in topic] == [f"{SHORT}/{each}" for each in results]
    assert {content["code"] for _, content in answers} == {400}
    assert rig.store.disk == before
    assert not rig.outbox.puts


async def test_too_long(rig: Rig) -> None:
    await rig.apply(device_object(red="ON"))
    answers = await rig.client(f"{LAMP}/twin/update", b" " * ((1 << 20) + 1))
    assert answers[0][1]["code"] == 400


@pytest.mark.parametrize("suffix", ["twin/update", "twin/get", "state/update"])
async def test_unknown_device(rig: Rig, suffix: str) -> None:
    body = {"event_id": "e", "twin": {}, "state": "online"}
    for topic in ("$hw/events/device/other/none", "$hw/events/device/none"):
        answers = await rig.client(f"{topic}/{suffix}", body)
        assert [each for each, _ in answers] == [f"{topic}/{suffix}/result"]
        assert (answers[0][1]["code"], answers[0][1]["event_id"]) == (404, "e")
    assert (await rig.client(f"$hw/events/device/none/{suffix}", b"["))[0][1]["code"] == 400


async def test_a_name_on_one_level_prefers_the_default_namespace(rig: Rig) -> None:
    await rig.apply(device_object(namespace="attic", red="1"))
    assert await rig.values(SHORT) == {"red": ("1", None)}
    await rig.apply(device_object(red="2"))
    assert await rig.values(SHORT) == {"red": ("2", None)}
    topics = [each for each, _ in await rig.report({"red": "0"}, "$hw/events/device/attic/lamp")]
    assert f"{SHORT}/twin/update/document" not in topics
    await rig.apply(device_object(), "delete")
    await rig.apply(device_object(namespace="cellar", red="3"))
    assert (await rig.client(f"{SHORT}/twin/get", {}))[0][1]["code"] == 404


async def test_names_like_parts_of_topics(rig: Rig) -> None:
    for name in ("device", "hw", "events", "e", "twin"):
        await rig.apply(device_object(name, namespace=name, red="ON"))
        topic = f"$hw/events/device/{name}/{name}"
        assert await rig.values(topic) == {"red": ("ON", None)}
        assert await rig.values(f"$hw/events/device/{name}") == {"red": ("ON", None)}


async def test_states(rig: Rig) -> None:
    await rig.apply(device_object(red="ON"))
    answers = await rig.client(f"{SHORT}/state/update", {"event_id": "s", "state": "Online"})
    assert [topic for topic, _ in answers] == [f"{SHORT}/state/update/result"]
    device = answers[0][1]["device"]
    assert (device["name"], device["state"]) == ("lamp", "Online")
    assert device["lastOnlineTime"].endswith("Z")
    assert device["last_online"]
    content = rig.reports()["device/default/lamp/state/update"]
    assert content["device"] == {"name": "lamp", "state": "Online", "lastOnlineTime": device["lastOnlineTime"]}
    await rig.client(f"{LAMP}/state/update", {"state": "Online"})
    assert len(rig.outbox.puts) == 1
    answers = await rig.client(f"{LAMP}/state/update", {"state": "disconnected"})
    assert "lastOnlineTime" not in answers[0][1]["device"]
    assert len(rig.outbox.puts) == 2
    await rig.restart()
    _, members = (await rig.client("$hw/events/node/any/membership/get", {"event_id": "m"}))[0]
    assert members["devices"] == [
        {"id": "default/lamp", "name": "lamp", "description": "Light", "state": "disconnected", "last_online": device["lastOnlineTime"]}
    ]


async def test_membership_get(rig: Rig) -> None:
    result = f"$hw/events/node/{NODE}/membership/get/result"
    topic, content = (await rig.client("$hw/events/node/x/membership/get", {"event_id": "m"}))[0]
    assert (topic, content["event_id"], content["devices"]) == (result, "m", [])
    await rig.apply(device_object("b"))
    await rig.apply(device_object("a"))
    assert [each["id"] for each in (await rig.client("$hw/events/node/x/membership/get", {}))[0][1]["devices"]] == [
        "default/a",
        "default/b",
    ]
    topic, content = (await rig.client("$hw/events/node/x/membership/get", b"?"))[0]
    assert (topic, content["code"]) == (result, 400)


async def test_other_topics_are_logged_and_acknowledged(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for topic in ("$hw/events/device/a/twin/update/result", "$hw/events/node/a/nothing", "$hw/events/device//twin/update"):
            assert await rig.client(topic, {}) == []
    assert len(caplog.records) == 3


async def test_a_client_may_not_speak_for_the_cloud(rig: Rig) -> None:
    """`cloud_updated` from a client is its own word; as in KubeEdge it has everything reported again."""
    await rig.apply(device_object(version=5, red="ON"))
    await rig.report({"red": "ON", "x": "1"})
    rig.outbox.puts.clear()
    twin = {"expected": {"value": "FAKE"}, "metadata": {"type": "string"}, "expected_version": {"cloud": 10**15, "edge": 0}}
    answers = await rig.client(f"{LAMP}/twin/cloud_updated", {"twin": {"red": twin}})
    assert [topic for topic, _ in answers if topic.startswith(LAMP)] == [f"{LAMP}/twin/update/document", f"{LAMP}/twin/update/delta"]
    assert [name for _, _, name, _ in rig.outbox.puts] == ["red", "x"]
    await rig.apply(device_object(version=6, red="OFF"))
    assert (await rig.values())["red"] == ("OFF", "ON")


async def test_messages_are_dealt_with_in_order_and_acknowledged_when_on_disk(rig: Rig) -> None:
    await rig.apply(device_object(red="0"))
    rig.store.broken = True
    done: list[int] = []
    for number in range(200):
        payload = json.dumps({"twin": {"n": {"actual": {"value": str(number)}}}}).encode()
        rig.service.message(f"{LAMP}/twin/update", payload, lambda number=number: done.append(number))  # type: ignore[misc]
    results: list[Any] = []
    async with asyncio.timeout(20):
        while len(results) < 200:
            await asyncio.sleep(0)
            results = rig.bus.on(f"{LAMP}/twin/update/result")
    assert [each["twin"]["n"]["actual"]["value"] for each in results] == [str(number) for number in range(200)]
    assert done == []
    rig.store.broken = False
    await rig.send(f"{LAMP}/twin/get", {})
    assert done == list(range(200))
    await rig.crash()
    assert (await rig.values())["n"] == (None, "199")


async def test_a_broker_that_comes_back_hears_the_deltas(rig: Rig) -> None:
    await rig.apply(device_object("same", red="ON"))
    await rig.report({"red": "ON"}, "$hw/events/device/default/same")
    await rig.apply(device_object(red="ON"))
    await rig.restart()
    rig.bus.take()
    rig.service.bus_connected()
    told = rig.bus.take()
    assert [topic for topic, _ in told] == [f"{LAMP}/twin/update/delta", f"{SHORT}/twin/update/delta"]
    assert told[0][1]["delta"] == {"red": "ON"}


async def test_the_outbox_refuses_and_later_takes(rig: Rig) -> None:
    await rig.apply(device_object(red="ON"))
    await rig.report({"other": "1"})
    rig.outbox.full = True
    answers = await rig.report({"red": "OFF"})
    assert "code" not in answers[0][1]
    rig.outbox.full = False
    for envelope in rig.sent():
        rig.outbox.confirm(envelope)
    assert rig.reports()["device/default/lamp/twin/edge_updated"]["twin"]["red"]["actual"]["value"] == "OFF"
