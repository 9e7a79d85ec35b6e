"""Disks that are full or read-only: the last good state is served, what cannot be stored is refused or waits, and all recovers."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.clock import FakeClock, settle

from pinnace.core.base.contract import envelopes
from pinnace.core.base.contract.classes import TWIN_REPORT
from pinnace.core.base.contract.keys import DeviceId, ResourceKey
from pinnace.core.base.errors import StoreFull
from pinnace.core.base.observe.health import Health
from pinnace.core.base.ports import ObjectChange
from pinnace.core.meta.store import Store
from pinnace.core.meta.writer import RETRY_SECONDS

pytestmark = pytest.mark.root

LAMP = DeviceId("default", "lamp")


def change(name: str, size: int = 100) -> ObjectChange:
    return ObjectChange("update", ResourceKey("configmap", "default", name), "1", b'{"data":"' + b"x" * size + b'"}')


def names(store: Store) -> list[str]:
    return [each.key.name for each in store.list("configmap")]


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder))
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    ballast = folder / "ballast"
    with ballast.open("ab", buffering=0) as file:
        for size in (65536, 4096):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return ballast


async def until_well(health: Health, clock: FakeClock) -> None:
    async with asyncio.timeout(60):
        while health.problem("store.writable"):
            await clock.advance(RETRY_SECONDS)
            await settle()


async def test_a_disk_that_fills_up_and_empties_again(disk: Path) -> None:
    health, clock = Health(), FakeClock()
    path = disk / "edge.db"
    async with Store(path, health=health, clock=clock) as store:
        await store.apply([change("a")])
        ballast = fill(disk)
        with pytest.raises(StoreFull, match="no space left"):
            await store.apply([change("big", 300_000)])
        assert "no space left" in health.problem("store.writable")
        assert names(store) == ["a"], "nothing of a refused change is seen"

        await store.save_twins(LAMP, {"red": b"x" * 200_000}, durable=False)
        store.outbox.compose_with(TWIN_REPORT, lambda subject, items: envelopes.new("twin", "twin", "update", subject, sorted(items)))
        store.outbox.put(TWIN_REPORT, "lamp", "red", b"on")
        with pytest.raises(StoreFull):
            await store.committed()
        departure = store.outbox.next(0.0)
        assert departure is not None, "reports go out although they cannot be stored"
        with pytest.raises(StoreFull):
            await store.save_twins(LAMP, {"green": b"on"}, durable=True)

        ballast.unlink()
        await until_well(health, clock)
        await store.committed()
        await store.apply([change("big", 100_000)])
    async with Store(path) as store:
        assert names(store) == ["a", "big"]
        assert await store.load_twins() == {LAMP: {"red": b"x" * 200_000, "green": b"on"}}
        assert len(store.outbox) == 1


async def test_a_start_on_a_full_disk(disk: Path) -> None:
    path = disk / "edge.db"
    async with Store(path) as store:
        await store.apply([change("a")])
        await store.save_twins(LAMP, {"red": b"on"}, durable=True)
    ballast = fill(disk)
    health, clock = Health(), FakeClock()
    async with Store(path, health=health, clock=clock, cache_bytes=1) as store:
        assert "working with the last stored state until then" in health.problem("store.writable")
        assert [each.body for each in store.list("configmap")] == [change("a").body]
        assert await store.load_twins() == {LAMP: {"red": b"on"}}
        with pytest.raises(StoreFull):
            await store.apply([change("b")])
        ballast.unlink()
        await until_well(health, clock)
        await store.apply([change("b")])
        assert names(store) == ["a", "b"]
    async with Store(path) as store:
        assert names(store) == ["a", "b"]


async def test_one_change_that_does_not_fit_refuses_nobody_else(disk: Path) -> None:
    async with Store(disk / "edge.db") as store:
        results = await asyncio.gather(
            store.apply([change("a")]), store.apply([change("big", 2_000_000)]), store.apply([change("b")]), return_exceptions=True
        )
        assert [type(result) for result in results] == [type(None), StoreFull, type(None)]
        assert names(store) == ["a", "b"]


async def test_a_full_disk_without_a_database_is_an_error(disk: Path) -> None:
    fill(disk)
    with pytest.raises(StoreFull):
        async with Store(disk / "edge.db"):
            pass


@pytest.mark.parametrize("how", ["closed", "killed", "cut"])
async def test_a_read_only_file_system(tmp_path: Path, how: str) -> None:
    """After a kill the last changes stand in the write-ahead log only; they count. A power cut leaves no shared memory beside it."""
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "edge.db"
    script = (
        "import asyncio, os, sys\n"
        "from pathlib import Path\n"
        "from pinnace.core.base.contract.keys import ResourceKey\n"
        "from pinnace.core.base.ports import ObjectChange\n"
        "from pinnace.core.meta.store import Store\n"
        "async def main():\n"
        "    async with Store(Path(sys.argv[1])) as store:\n"
        "        await store.apply([ObjectChange('insert', ResourceKey('configmap', 'default', 'a'), '1', b'{}')])\n"
        "        if sys.argv[2] != 'closed': os._exit(0)\n"
        "asyncio.run(main())\n"
    )
    subprocess.run([sys.executable, "-c", script, str(path), how], check=True)
    assert path.with_name("edge.db-wal").exists() == (how != "closed")
    if how == "cut":
        path.with_name("edge.db-shm").unlink()
    mount("--bind", str(folder), str(folder))
    try:
        mount("-o", "remount,bind,ro", str(folder))
        health, clock = Health(), FakeClock()
        async with Store(path, health=health, clock=clock) as store:
            assert "cannot be written" in health.problem("store.writable")
            assert names(store) == ["a"]
            with pytest.raises(StoreFull, match="cannot be written"):
                await store.apply([change("b")])
            mount("-o", "remount,bind,rw", str(folder))
            await until_well(health, clock)
            await store.apply([change("b")])
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
    async with Store(path) as store:
        assert names(store) == ["a", "b"]


async def test_a_damaged_file_on_a_read_only_file_system(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "edge.db"
    async with Store(path) as store:
        await store.apply([change("a")])
        await store._writer.call(store._database.snapshot)
    path.write_bytes(b"x" * 5000)
    mount("--bind", str(folder), str(folder))
    try:
        mount("-o", "remount,bind,ro", str(folder))
        health = Health()
        async with Store(path, health=health) as store:
            assert names(store) == ["a"]
        assert "store.damaged" in caplog.text
        assert health.problem("store.writable")
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
