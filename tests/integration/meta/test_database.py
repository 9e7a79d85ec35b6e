"""Files that are old, new, damaged, missing: what the store makes of them, and that it says so."""

from __future__ import annotations

import logging
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pinnace.core.base.contract.keys import DeviceId, ResourceKey
from pinnace.core.base.errors import StoreDamaged, StoreError, StoreFull
from pinnace.core.base.observe.health import Health
from pinnace.core.base.ports import ObjectChange
from pinnace.core.meta.database import KEPT_DAMAGED, SCHEMA, Database
from pinnace.core.meta.store import Store

VECTORS = Path(__file__).resolve().parents[2] / "vectors/databases"
DAMAGES = 12


def change(name: str, version: str = "1", size: int = 1000) -> ObjectChange:
    return ObjectChange("update", ResourceKey("configmap", "default", name), version, b'{"data":"' + b"x" * size + b'"}')


async def fill(path: Path, *names: str, snapshot: bool = True) -> None:
    async with Store(path) as store:
        await store.apply([change(name) for name in names])
        await store.save_twins(DeviceId("default", "lamp"), {"red": b"on"}, durable=True)
        if snapshot:
            await store._writer.call(store._database.snapshot)


def names(store: Store) -> list[str]:
    return [each.key.name for each in store.list("configmap")]


@pytest.mark.parametrize("version", range(1, SCHEMA + 1))
async def test_a_database_of_every_earlier_schema_opens(tmp_path: Path, version: int) -> None:
    path = tmp_path / "edge.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((VECTORS / f"v{version}.sql").read_text())
    async with Store(path) as store:
        assert store.schema_version == SCHEMA
        lamp = store.get(ResourceKey("device", "default", "lamp"))
        assert lamp is not None
        assert (lamp.version, b'"desired":{"value":"ON"}' in lamp.body) == ("17", True)
        assert [each.key.name for each in store.list("device", labels={"room": "hall"})] == ["lamp"]
        assert store.get(ResourceKey("node", "", "edge-1")) is not None
        assert await store.load_twins() == {DeviceId("default", "lamp"): {"": b'{"state":"online"}', "red": b'{"desired":{"value":"ON"}}'}}
        assert len(store.outbox) == 2
        await store.apply([change("new")])


async def test_an_empty_file_is_a_new_database(tmp_path: Path) -> None:
    path = tmp_path / "edge.db"
    path.touch()
    health = Health()
    async with Store(path, health=health) as store:
        assert names(store) == []
    assert health.problems == {}


async def test_a_database_of_kubeedge_keeps_its_tables(tmp_path: Path) -> None:
    """The default path is where an upstream edgecore had its own; going back to it must stay possible."""
    path = tmp_path / "edgecore.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, type TEXT, value TEXT)")
        connection.execute("INSERT INTO meta VALUES ('default/pod/p', 'pod', '{}')")
    async with Store(path) as store:
        await store.apply([change("a")])
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT key FROM meta").fetchall() == [("default/pod/p",)]


async def test_a_newer_schema_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "edge.db"
    await fill(path, "a", snapshot=False)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO migrations VALUES (?, 0)", (SCHEMA + 1,))
    before = path.read_bytes()
    with pytest.raises(StoreError, match="newer Pinnace"):
        async with Store(path):
            pass
    assert path.read_bytes() == before
    assert list(tmp_path.glob("*.damaged-*")) == []


@pytest.mark.parametrize("seed", range(DAMAGES))
async def test_flipped_bytes_are_found_and_the_snapshot_is_used(tmp_path: Path, seed: int) -> None:
    """Flipped in pages' headers and in the file's own, which is where structure is; in a body nobody can tell."""
    path = tmp_path / "edge.db"
    await fill(path, *(f"c{number}" for number in range(40)))
    await fill(path, "later", snapshot=False)
    draw = random.Random(seed)
    content = bytearray(path.read_bytes())
    for _ in range(40):
        page = draw.randrange(len(content) // 4096) * 4096
        content[page + draw.randrange(100 if page == 0 else 12)] ^= draw.randrange(1, 256)
    path.write_bytes(content)
    health = Health()
    async with Store(path, health=health) as store:
        assert len(names(store)) == 40
        assert await store.load_twins() == {DeviceId("default", "lamp"): {"red": b"on"}}
        await store.apply([change("after")])
    (aside,) = tmp_path.glob("edge.db.damaged-*")
    assert aside.read_bytes() == bytes(content)
    assert aside.name in health.problem("store.damaged")
    again = Health()
    async with Store(path, health=again) as store:
        assert "after" in names(store)
    assert aside.name in again.problem("store.damaged"), "said until somebody has looked and removed the file"
    aside.unlink()
    healed = Health()
    async with Store(path, health=healed):
        assert healed.problems == {}


async def test_a_cut_file_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "edge.db"
    await fill(path, *(f"c{number}" for number in range(40)))
    path.write_bytes(path.read_bytes()[:20_000])
    async with Store(path) as store:
        assert len(names(store)) == 40


@pytest.mark.parametrize("content", [b"no database at all " * 300, b"SQLite format 3\0" + bytes(5000)])
async def test_a_file_of_something_else_is_set_aside_and_the_empty_start_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    path = tmp_path / "edge.db"
    path.write_bytes(content)
    health = Health()
    async with Store(path, health=health) as store:
        assert names(store) == []
        await store.apply([change("a")])
    assert "store.empty" in caplog.text
    assert "empty without one" in health.problem("store.damaged")


async def test_a_damaged_snapshot_of_a_damaged_file_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "edge.db"
    await fill(path, "a")
    path.write_bytes(b"x" * 5000)
    path.with_name("edge.db.snapshot").write_bytes(b"y" * 5000)
    async with Store(path) as store:
        assert names(store) == []
    assert "store.snapshot-damaged" in caplog.text
    assert "store.empty" in caplog.text


async def test_a_missing_file_comes_back_from_its_snapshot(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As after a stop between setting the damaged file aside and putting the snapshot in its place."""
    path = tmp_path / "edge.db"
    await fill(path, "a")
    path.unlink()
    with caplog.at_level(logging.WARNING):
        async with Store(path) as store:
            assert names(store) == ["a"]
    assert "store.restored" in caplog.text


async def test_only_the_newest_damaged_files_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "edge.db"
    await fill(path, "a")
    for number in range(KEPT_DAMAGED + 2):
        path.with_name(f"edge.db.damaged-2001010{number}T000000").write_bytes(b"old")
    path.write_bytes(b"x" * 5000)
    async with Store(path):
        pass
    found = sorted(tmp_path.glob("edge.db.damaged-*"))
    assert len(found) == KEPT_DAMAGED
    assert found[-1].read_bytes() == b"x" * 5000


async def test_damage_found_while_running_ends_the_store(tmp_path: Path) -> None:
    path = tmp_path / "edge.db"
    health = Health()
    async with Store(path, health=health) as store:
        await store.apply([change(f"c{number}") for number in range(400)])
        await store._writer.call(lambda: [*store._database.rows("PRAGMA wal_checkpoint(TRUNCATE)")])
        content = path.read_bytes()
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(random.Random(1).randbytes(len(content) - 4096))
        with pytest.raises(StoreDamaged):  # noqa: PT012 - one of them meets a damaged page
            for number in range(400):
                await store.apply([change(f"c{number}", "2", 900)])
        with pytest.raises(StoreDamaged):
            await store.failed()
        with pytest.raises(StoreDamaged):
            await store.committed()
        assert "restart" in health.problem("store.damaged")


def test_no_folder_and_none_to_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreFull, match="folder cannot be made"):
        Database(tmp_path / "file" / "edge.db").open()


async def test_the_file_is_private(tmp_path: Path) -> None:
    path = tmp_path / "edge" / "edge.db"
    async with Store(path) as store:
        await store.apply([change("a")])
        modes = {each.name: each.stat().st_mode & 0o777 for each in path.parent.iterdir()}
    assert set(modes.values()) == {0o600}, modes
    assert path.parent.stat().st_mode & 0o777 == 0o700
