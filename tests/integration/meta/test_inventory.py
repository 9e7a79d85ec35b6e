"""A database the cloud knows nothing of: it is told once, durably, what is in it."""

from __future__ import annotations

import random
from pathlib import Path

import orjson
import pytest
from fakes.uplink import FakeUplink

from pinnace.core.base.contract.envelopes import OK_BODY, Envelope, Operation, reply
from pinnace.core.base.contract.keys import ResourceKey
from pinnace.core.base.errors import LinkError
from pinnace.core.base.ports import ObjectChange
from pinnace.core.meta.inventory import InventoryReport
from pinnace.core.meta.store import Store

LAMP = ObjectChange("insert", ResourceKey("device", "default", "lamp"), "7", b'{"metadata":{"name":"lamp","uid":"u1"}}')
OURS = ObjectChange("insert", ResourceKey("mqttsubscription", "", "a/b"), "", b'{"topic":"a/b"}')
ENTRY = {"kind": "device", "namespace": "default", "name": "lamp", "uid": "u1", "version": "7"}


def accept(request: Envelope) -> Envelope:
    return reply(request, OK_BODY)


async def told(store: Store, uplink: FakeUplink) -> None:
    uplink.on_connected(InventoryReport(store, uplink).connected)
    await uplink.connect()


async def test_a_new_database_is_told_once(tmp_path: Path) -> None:
    async with Store(tmp_path / "edge.db") as store:
        await store.apply([LAMP, OURS])
        uplink = FakeUplink(accept, peer_wire=1)
        await told(store, uplink)
        (question,) = uplink.asked
        assert (question.operation, question.resource, orjson.loads(question.body)) == ("update", "inventory", [ENTRY])
        await uplink.connect()
        assert len(uplink.asked) == 1
    async with Store(tmp_path / "edge.db") as store:
        assert not store.inventory_due


def refuse(request: Envelope) -> Envelope:
    return reply(request, "no", operation=Operation.ERROR)


def lose(request: Envelope) -> Envelope:
    raise LinkError("the link broke")


@pytest.mark.parametrize(("answer", "wire"), [(refuse, 1), (lose, 1), (accept, 0)])
async def test_it_stays_due_until_a_cloud_has_taken_it(tmp_path: Path, answer: object, wire: int) -> None:
    async with Store(tmp_path / "edge.db") as store:
        uplink = FakeUplink(answer, peer_wire=wire)  # type: ignore[arg-type]
        await told(store, uplink)
        assert len(uplink.asked) == wire
        assert store.inventory_due
    async with Store(tmp_path / "edge.db") as store:
        assert store.inventory_due
        await told(store, FakeUplink(accept, peer_wire=1))
        assert not store.inventory_due


async def test_a_restored_snapshot_is_told(tmp_path: Path) -> None:
    path = tmp_path / "edge.db"
    async with Store(path) as store:
        await store.apply([LAMP])
        await store.inventory_told()
        await store._writer.call(store._database.snapshot)
    with path.open("r+b") as file:
        file.seek(100)
        file.write(random.Random(1).randbytes(8000))
    async with Store(path) as store:
        assert store.inventory_due
        uplink = FakeUplink(accept, peer_wire=1)
        await told(store, uplink)
        assert orjson.loads(uplink.asked[0].body) == [ENTRY]
    async with Store(path) as store:
        assert not store.inventory_due
