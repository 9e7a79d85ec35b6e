"""The parts of the twin service by themselves."""

from __future__ import annotations

import asyncio
import logging

import pytest
from fakes.edgeports import FakeUplink
from fakes.rows import FakeRows

from pinnace.core.base.aio.backoff import Backoff
from pinnace.core.base.contract.keys import DeviceId
from pinnace.core.base.errors import StoreError
from pinnace.core.meta.outbox import Outbox
from pinnace.core.twins.desired import members_of, wanted_of
from pinnace.core.twins.device import Device
from pinnace.core.twins.inbox import Inbox, Receipts
from pinnace.core.twins.reports import Reports
from pinnace.core.twins.roster import Roster


def test_a_roster_finds_by_name_on_one_level() -> None:
    roster = Roster()
    bare, default, attic = (Device(DeviceId(namespace, "lamp")) for namespace in ("", "default", "attic"))
    roster.add(attic)
    assert roster.find(DeviceId("", "lamp")) is attic
    assert roster.levels(attic) == (2, 1)
    roster.add(default)
    assert roster.find(DeviceId("", "lamp")) is default
    assert (roster.levels(attic), roster.levels(default)) == ((2,), (2, 1))
    roster.add(bare)
    assert roster.find(DeviceId("", "lamp")) is bare
    assert (roster.levels(bare), roster.levels(default)) == ((1,), (2,))
    assert list(roster) == [bare, attic, default]
    for device in (bare, default, attic):
        assert roster.remove(device.id) is device
    assert roster.remove(attic.id) is None
    assert roster.find(DeviceId("", "lamp")) is None
    assert len(roster) == 0


def test_a_device_survives_its_row() -> None:
    device = Device(DeviceId("default", "lamp"), description="Light <1>", uid="u")
    device.take_state("online", 1_700_000_000)
    device.take_state("offline", 1_800_000_000)
    after, failed = Device.load(device.id, {"": device.row()})
    assert failed == {}
    assert (after.description, after.uid, after.state, after.last_online) == ("Light <1>", "u", "offline", 1_700_000_000)
    assert after.entry(with_twins=True) == device.entry(with_twins=True)
    assert Device.load(device.id, {"": b"[1]"})[1] == {}


def test_wanted_values() -> None:
    listed = [
        {"name": "a", "desired": {"value": "x", "metadata": {"type": "INT"}}},
        {"name": "b", "desired": {"value": 1.5}},
        {"name": "c", "desired": {"value": None}},
        {"name": "d"},
        "e",
    ]
    model = {"spec": {"properties": [{"name": "b", "type": "FLOAT"}, {"type": "INT"}, 3]}}
    wanted = wanted_of({"metadata": {"uid": "u"}, "spec": {"properties": listed}}, model, version="12")
    assert (wanted.uid, wanted.version) == ("u", 12)
    assert wanted.payload == (
        b'{"twin":{"a":{"expected":{"value":"x"},"optional":false,"metadata":{"type":"int"}},'
        b'"b":{"expected":{"value":"1.5"},"optional":false,"metadata":{"type":"float"}}}}'
    )
    assert wanted_of({}, None).version == wanted_of({"metadata": {"resourceVersion": "abc"}}, None).version == -1


def test_members() -> None:
    found, refused = members_of([{"id": "a/b", "twin": {}}, {"name": "c", "twin": None}, {"id": "//"}, 1], "e")
    assert [(each.id, each.payload) for each in found] == [
        (DeviceId("a", "b"), b'{"event_id":"e","twin":{}}'), (DeviceId("", "c"), b""),
    ]  # fmt: skip
    assert len(refused) == 2


def test_an_inbox_keeps_its_bounds(caplog: pytest.LogCaptureFixture) -> None:
    inbox = Inbox(lambda: None, count=3, size_bound=100)
    with caplog.at_level(logging.WARNING):
        for number in range(5):
            inbox.put(str(number), b"x", None)
    assert (len(inbox), inbox.dropped, len(caplog.records)) == (3, 2, 1)
    inbox.put("long", b"x" * 99, None)
    assert [arrival.topic for arrival in iter(inbox.take, None)] == ["4", "long"]
    assert inbox.take() is None


async def test_what_an_inbox_dropped_without_acknowledgement_is_asked_for_once_there_is_room() -> None:
    asked: list[int] = []
    inbox = Inbox(lambda: asked.append(len(inbox)), count=2)
    for number in range(4):
        inbox.put(str(number), b"x", lambda: None)
    await inbox.wait()
    assert asked == []
    while inbox.take() is not None:
        pass
    waiting = asyncio.create_task(inbox.wait())
    await asyncio.sleep(0)
    assert asked == [0]
    inbox.put("5", b"x", None)
    await waiting
    inbox.take()
    again = asyncio.create_task(inbox.wait())
    await asyncio.sleep(0)
    assert asked == [0]
    again.cancel()


async def test_receipts_wait_for_the_disk() -> None:
    written = asyncio.Event()
    problems = [StoreError("full"), StoreError("full")]

    async def committed() -> None:
        if problems:
            raise problems.pop()
        await written.wait()

    done: list[int] = []
    receipts = Receipts(committed, backoff=Backoff(0.001, 0.001))
    task = asyncio.create_task(receipts.run())
    receipts.add(lambda: done.append(1))
    async with asyncio.timeout(20):
        while problems:
            await asyncio.sleep(0)
        receipts.add(lambda: done.append(2))
        assert done == []
        written.set()
        while done != [1, 2]:
            await asyncio.sleep(0)
    task.cancel()


def test_a_report_that_was_refused_goes_when_another_device_leaves(caplog: pytest.LogCaptureFixture) -> None:
    outbox = Outbox(FakeRows(), max_bytes=100)
    current = {("default/fan", "speed"): b"5" * 60, ("default/fan", "on"): b"1" * 60}
    reports = Reports(outbox, FakeUplink(), lambda path, name: current.get((path, name), b""))
    reports.start()
    reports.twins("default/lamp", {"red": b"x" * 90})
    reports.twins("default/fan", {"speed": b"4" * 60, "on": b"1" * 60})
    assert len(outbox) == 1
    assert caplog.text.count("twins.report-waits") == 1
    reports.forget("default/lamp")
    first = outbox.next(0.0)
    assert first is not None
    assert b"1" * 60 in first.envelope.body
    assert outbox.confirm(first.envelope.msg_id)
    second = outbox.next(0.0)
    assert second is not None
    assert b"5" * 60 in second.envelope.body, "what it is now, not what was refused then"
    assert caplog.text.count("twins.report-waits") == 1
