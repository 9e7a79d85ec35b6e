"""A version on trial migrates the database and is given up: the version before goes on from what it had."""

from __future__ import annotations

import contextlib
import os
import pkgutil
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pinnace.core.base.contract.keys import DeviceId, ResourceKey
from pinnace.core.base.errors import StoreError, StoreFull
from pinnace.core.base.ports import ObjectChange
from pinnace.core.meta import database
from pinnace.core.meta.database import SCHEMA, Database, files_of, former_of, written_schema
from pinnace.core.meta.store import Store

NEXT = b"ALTER TABLE twins ADD COLUMN told INTEGER NOT NULL DEFAULT 0;\nCREATE TABLE labels (name TEXT PRIMARY KEY);\n"
LAMP = DeviceId("default", "lamp")


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch) -> Callable[[], contextlib.AbstractContextManager[None]]:
    """Within it, this is the version whose schema is the next one."""
    get_data = pkgutil.get_data

    @contextlib.contextmanager
    def as_newer() -> Iterator[None]:
        with monkeypatch.context() as patched:
            patched.setattr(database, "SCHEMA", SCHEMA + 1)
            patched.setattr(pkgutil, "get_data", lambda package, name: NEXT if f"v{SCHEMA + 1}" in name else get_data(package, name))
            yield

    return as_newer


Newer = Callable[[], contextlib.AbstractContextManager[None]]


def change(name: str, version: str = "1") -> ObjectChange:
    return ObjectChange("update", ResourceKey("configmap", "default", name), version, b"{}")


def held(store: Store) -> dict[str, str]:
    return {each.key.name: each.version for each in store.list("configmap")}


async def before_the_trial(path: Path) -> None:
    async with Store(path) as store:
        await store.apply([change("kept"), change("changed")])
        await store.save_twins(LAMP, {"red": b"on"}, durable=True)
        await store.inventory_told()


async def trial(path: Path, *names: str, snapshot: bool = True) -> None:
    """One start of the newer version, which stores something."""
    async with Store(path, on_trial=True) as store:
        assert written_schema(path) == SCHEMA + 1
        await store.apply([change("changed", "2"), *(change(name) for name in names)])
        if snapshot:
            await store._writer.call(store._database.snapshot)


async def test_the_version_before_goes_on_from_what_it_had_and_tells_the_cloud_so(tmp_path: Path, newer: Newer) -> None:
    path = tmp_path / "edge.db"
    await before_the_trial(path)
    with newer():
        await trial(path, "acknowledged")
        await trial(path, "more")
    async with Store(path) as store:
        assert held(store) == {"kept": "1", "changed": "1"}
        assert await store.load_twins() == {LAMP: {"red": b"on"}}
        assert store.inventory_due, "the cloud sends again what the trial acknowledged"
        await store.apply([change("later")])
    assert written_schema(path) == written_schema(path.with_name("edge.db.snapshot")) == SCHEMA
    assert not former_of(path).exists()
    assert path.stat().st_mode & 0o777 == 0o600
    async with Store(path) as store:
        assert "later" in held(store)


async def test_a_version_that_stays_forgets_what_was_before_it(tmp_path: Path, newer: Newer) -> None:
    path = tmp_path / "edge.db"
    await before_the_trial(path)
    with newer():
        await trial(path, "acknowledged")
        assert former_of(path) in files_of(path)
        async with Store(path) as store:
            assert held(store) == {"kept": "1", "changed": "2", "acknowledged": "1"}
            assert not store.inventory_due
        assert not former_of(path).exists()
    with pytest.raises(StoreError, match="newer Pinnace"):
        async with Store(path):
            pass


async def test_nothing_is_kept_where_nothing_is_migrated(tmp_path: Path, newer: Newer) -> None:
    path = tmp_path / "edge.db"
    async with Store(path, on_trial=True) as store:
        assert held(store) == {}
    await before_the_trial(path)
    async with Store(path, on_trial=True):
        assert not former_of(path).exists()
    with newer():
        async with Store(path):
            assert not former_of(path).exists(), "no trial, no way back"


async def test_what_was_kept_is_not_used_when_it_is_damaged(tmp_path: Path, newer: Newer) -> None:
    path = tmp_path / "edge.db"
    await before_the_trial(path)
    with newer():
        await trial(path, "acknowledged")
    kept = former_of(path)
    kept.write_bytes(kept.read_bytes()[:-4096])
    with pytest.raises(StoreError, match="newer Pinnace"):
        async with Store(path):
            pass
    with newer():
        async with Store(path, on_trial=True) as store:
            assert held(store) == {"kept": "1", "changed": "2", "acknowledged": "1"}


async def test_a_trial_that_cannot_keep_what_was_before_migrates_nothing(tmp_path: Path, newer: Newer) -> None:
    path = tmp_path / "edge.db"
    await before_the_trial(path)
    (tmp_path / "edge.db.former").mkdir()
    with newer():
        store = Store(path, on_trial=True)
        async with store:
            assert held(store) == {"kept": "1", "changed": "1"}
            with pytest.raises(StoreFull):
                await store.apply([change("new")])
    assert written_schema(path) == SCHEMA


class Cut(BaseException):
    """The power."""


@pytest.mark.parametrize("is_damaged", [False, True], ids=["whole", "damaged"])
async def test_the_power_may_be_cut_at_any_step_of_going_back(
    tmp_path: Path, newer: Newer, monkeypatch: pytest.MonkeyPatch, is_damaged: bool
) -> None:
    cuts = 0
    while True:
        folder = tmp_path / str(cuts)
        folder.mkdir()
        path = folder / "edge.db"
        await before_the_trial(path)
        with newer():
            await trial(path, "acknowledged")
        if is_damaged:
            path.write_bytes(b"x" * 4096)
        left = _cut(path, cuts, monkeypatch)
        if left is None:
            break
        path = left
        async with Store(path) as store:
            assert held(store) == {"kept": "1", "changed": "1"}, f"cut {cuts}"
            assert store.inventory_due
        assert written_schema(path.with_name("edge.db.snapshot")) == SCHEMA
        assert not former_of(path).exists()
        cuts += 1
    assert cuts > 4


def _cut(path: Path, after: int, monkeypatch: pytest.MonkeyPatch) -> Path | None:
    """Open with a power cut after so many changes to the folder: the database as it then lies on the disk, None when it did not come to
    that."""
    left = after

    def counted(change: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **more: Any) -> Any:
            nonlocal left
            if left == 0:
                raise Cut
            left -= 1
            return change(*arguments, **more)

        return step

    opened = Database(path)
    try:
        with monkeypatch.context() as patched:
            for owner, name in ((Path, "replace"), (Path, "rename"), (Path, "unlink"), (Path, "hardlink_to"), (os, "fsync")):
                patched.setattr(owner, name, counted(getattr(owner, name)))
            opened.open()
    except Cut:
        return shutil.copytree(path.parent, path.parent.with_suffix(".cut")) / path.name
    finally:
        opened.close()
    return None
