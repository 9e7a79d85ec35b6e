"""The store on real files: what is written, when, what is there after reopening, and what reading costs nothing."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest
from fakes.clock import FakeClock, settle

from pinnace.core.base.contract import envelopes
from pinnace.core.base.contract.classes import EVENT, LEASE, TWIN_REPORT
from pinnace.core.base.contract.keys import DeviceId, ResourceKey
from pinnace.core.base.errors import StoreError
from pinnace.core.base.observe.health import Health
from pinnace.core.base.ports import ObjectChange
from pinnace.core.meta.store import Store, labels_of
from pinnace.core.meta.writer import SNAPSHOT_SECONDS, WINDOW_SECONDS
from pinnace.ext.records import Envelope

LAMP = DeviceId("default", "lamp")


def change(
    name: str, version: str = "1", *, kind: str = "configmap", space: str = "default", size: int = 10, **labels: str
) -> ObjectChange:
    body = orjson.dumps({"metadata": {"name": name, "labels": labels}, "data": "x" * size})
    return ObjectChange("update", ResourceKey(kind, space, name), version, body)


def gone(name: str) -> ObjectChange:
    return ObjectChange("delete", ResourceKey("configmap", "default", name), "", b"")


def on_disk(path: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return connection.execute(sql).fetchall()


def compose(subject: str, items: Mapping[str, bytes]) -> Envelope:
    return envelopes.new("twin", "twin", "update", subject, {name: body.decode() for name, body in items.items()})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "edge" / "edge.db"


async def test_everything_is_there_after_reopening(path: Path) -> None:
    async with Store(path) as store:
        await store.apply([change("a", "5", app="x"), change("b", "6"), change("n", "7", kind="node", space="")])
        await store.apply([change("a", "8", app="y"), gone("b")])
        await store.save_twins(LAMP, {"": b"lamp", "red": b"on", "green": b"off"}, durable=True)
        await store.save_twins(LAMP, {"red": b"off", "green": None}, durable=False)
        store.outbox.put(TWIN_REPORT, "lamp", "red", b"off")
        store.outbox.put(EVENT, "s", "e", b"1")
        store.outbox.put(LEASE, "n", "", b"fleeting")
    async with Store(path) as store:
        assert [(each.key.name, each.version) for each in store.list("configmap")] == [("a", "8")]
        assert store.list("configmap", labels={"app": "x"}) == []
        assert [each.key.name for each in store.list("configmap", "default", {"app": "y"})] == ["a"]
        assert store.get(ResourceKey("node", "", "n")) is not None
        assert store.get(ResourceKey("configmap", "default", "b")) is None
        assert await store.load_twins() == {LAMP: {"": b"lamp", "red": b"off"}}
        store.outbox.compose_with(TWIN_REPORT, compose)
        store.outbox.compose_with(EVENT, compose)
        for resource in ("lamp", "s"):
            departure = store.outbox.next(0.0)
            assert departure is not None
            assert departure.envelope.resource == resource
        assert store.outbox.next(0.0) is None


async def test_desired_state_is_on_the_disk_when_apply_returns(path: Path) -> None:
    async with Store(path) as store:
        await store.apply([change("a", "5")])
        assert on_disk(path, "SELECT name, version FROM objects") == [("a", "5")]
        await store.save_twins(LAMP, {"red": b"on"}, durable=True)
        assert on_disk(path, "SELECT property, body FROM twins") == [("red", b"on")]
        await store.delete_device(LAMP)
        assert on_disk(path, "SELECT * FROM twins") == []


async def test_every_commit_is_synced(path: Path) -> None:
    """What a power cut takes cannot be shown here; that SQLite syncs the log at each commit is this setting."""
    async with Store(path) as store:
        assert await store._writer.call(lambda: [*store._database.rows("PRAGMA synchronous")]) == [(2,)]
        assert await store._writer.call(lambda: [*store._database.rows("PRAGMA journal_mode")]) == [("wal",)]


async def test_rows_wait_for_their_window_and_no_longer(path: Path) -> None:
    clock = FakeClock()
    async with Store(path, clock=clock) as store:
        await store.save_twins(LAMP, {"red": b"1"}, durable=False)
        store.outbox.put(TWIN_REPORT, "lamp", "red", b"1")
        await clock.advance(WINDOW_SECONDS * 0.9)
        await store.save_twins(LAMP, {"red": b"2"}, durable=False)
        assert on_disk(path, "SELECT * FROM twins") == []
        await clock.advance(WINDOW_SECONDS * 0.2)
        async with asyncio.timeout(30):
            while not (rows := on_disk(path, "SELECT body FROM twins UNION ALL SELECT body FROM outbox ORDER BY body")):
                await settle()
        assert rows == [(b"1",), (b"2",)]


async def test_who_waits_hurries_the_group_commit(path: Path) -> None:
    async with Store(path, clock=FakeClock()) as store:
        await store.committed()
        store.outbox.put(TWIN_REPORT, "lamp", "red", b"1")
        await store.committed()
        assert on_disk(path, "SELECT body FROM outbox") == [(b"1",)]


async def test_a_commit_takes_the_waiting_rows_along(path: Path) -> None:
    async with Store(path, clock=FakeClock()) as store:
        store.outbox.put(TWIN_REPORT, "lamp", "red", b"1")
        await store.apply([change("a")])
        assert on_disk(path, "SELECT body FROM outbox") == [(b"1",)]


async def test_a_report_never_undoes_a_newer_row_whatever_waits_where(path: Path) -> None:
    async with Store(path, clock=FakeClock()) as store:
        slow = asyncio.ensure_future(store.apply([change(str(number)) for number in range(500)]))
        await settle(2)
        desired = asyncio.ensure_future(store.save_twins(LAMP, {"red": b"desired"}, durable=True))
        await settle(2)
        await store.save_twins(LAMP, {"red": b"reported later"}, durable=False)
        deleted = asyncio.ensure_future(store.delete_device(DeviceId("default", "old")))
        await store.save_twins(DeviceId("default", "old"), {"": b"back"}, durable=False)
        await asyncio.gather(slow, desired, deleted)
        await store.committed()
        assert await store.load_twins() == {LAMP: {"red": b"reported later"}}
        await store.save_twins(DeviceId("default", "old"), {"": b"back"}, durable=False)
        assert (await store.load_twins())[DeviceId("default", "old")] == {"": b"back"}, "before its group commit too"


async def test_cancelling_the_one_who_waits_changes_nothing(path: Path) -> None:
    async with Store(path) as store:
        waiting = asyncio.ensure_future(store.apply([change("a", "5")]))
        await settle(3)
        waiting.cancel()
        await store.apply([change("b", "6")])
        assert [each.key.name for each in store.list("configmap")] == ["a", "b"]
        assert len(on_disk(path, "SELECT * FROM objects")) == 2


async def test_one_transaction_or_nothing(path: Path) -> None:
    async with Store(path) as store:
        bad = ObjectChange("update", ResourceKey("configmap", "default", "\ud800"), "1", b"{}")
        with pytest.raises(StoreError):
            await store.apply([change("a"), bad])
        assert store.list("configmap") == []
        results = await asyncio.gather(store.apply([change("b")]), store.apply([bad]), store.apply([change("c")]), return_exceptions=True)
        assert [result is None for result in results] == [True, False, True], "one that cannot be stored refuses nobody else"
        assert [each.key.name for each in store.list("configmap")] == ["b", "c"]


async def test_bodies_over_the_bound_are_read_back(path: Path) -> None:
    async with Store(path, cache_bytes=20_000) as store:
        await store.apply([change(f"c{number:02}", str(number), size=2000, app=str(number % 2)) for number in range(40)])
        assert store._cache.evicted > 25
        assert store._cache.bytes_used <= 20_000
        found = store.list("configmap", labels={"app": "1"})
        assert [each.key.name for each in found] == [f"c{number:02}" for number in range(1, 40, 2)]
        assert all(each.body == change(each.key.name, size=2000, app="1").body for each in found)
        each = store.get(ResourceKey("configmap", "default", "c00"))
        assert each is not None
        assert (each.version, each.body) == ("0", change("c00", size=2000, app="0").body)
        await store.apply([gone("c00"), change("c02", "99", size=1)])
        assert store.get(ResourceKey("configmap", "default", "c00")) is None
        assert store._cache.bytes_used <= 20_000
    async with Store(path, cache_bytes=20_000) as store:
        assert len(store.list("configmap")) == 39


async def test_reading_waits_for_no_commit(path: Path) -> None:
    async with Store(path, cache_bytes=1) as store:
        await store.apply([change("a", size=100)])
        connection = store._database._connection
        assert connection is not None
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("DELETE FROM objects")
        found = store.get(ResourceKey("configmap", "default", "a"))
        connection.execute("ROLLBACK")
        assert found is not None


async def test_a_second_process_is_refused(path: Path) -> None:
    async with Store(path):
        with pytest.raises(StoreError, match="in use by another process"):
            async with Store(path):
                pass
    async with Store(path):
        pass


async def test_a_closed_store_refuses(path: Path) -> None:
    async with Store(path) as store:
        pass
    with pytest.raises(StoreError, match="closed"):
        await store.apply([change("a")])
    store.outbox.put(TWIN_REPORT, "lamp", "red", b"1")
    with pytest.raises(StoreError, match="closed"):
        await store.committed()


async def test_snapshots_follow_desired_state_and_not_too_often(path: Path) -> None:
    clock = FakeClock()
    snapshot = path.with_name("edge.db.snapshot")

    async def advance(seconds: float) -> None:
        await clock.advance(seconds)
        async with asyncio.timeout(30):
            while store._writer._snapshot_due is not None and store._writer._snapshot_due <= clock.now():
                await settle()
        await store._writer.call(lambda: None)

    async with Store(path, clock=clock, health=Health()) as store:
        await store.save_twins(LAMP, {"red": b"on"}, durable=True)
        await advance(10 * SNAPSHOT_SECONDS)
        assert not snapshot.exists(), "nothing that the cloud would not say again"
        await store.apply([change("a")])
        await advance(61)
        assert on_disk(snapshot, "SELECT name FROM objects") == [("a",)]
        assert snapshot.stat().st_mode & 0o777 == 0o600
        await store.apply([change("b")])
        await advance(61)
        assert on_disk(snapshot, "SELECT name FROM objects") == [("a",)]
        await advance(SNAPSHOT_SECONDS)
        assert on_disk(snapshot, "SELECT name FROM objects ORDER BY name") == [("a",), ("b",)]


@pytest.mark.parametrize("body", [b"{", b"null", b"[]", b'{"metadata":null}', b'{"metadata":{"labels":[]}}', b'{"metadata":{}}'])
def test_labels_of_what_has_none(body: bytes) -> None:
    assert not labels_of(body)


def test_labels_that_are_no_texts_are_left_out() -> None:
    assert labels_of(b'{"metadata":{"labels":{"a":"b","c":1}}}') == {"a": "b"}
