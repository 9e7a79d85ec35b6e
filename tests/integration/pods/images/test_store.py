"""What the store keeps and what it throws away, and what an agent that holds fifty images pays for it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from fakes.clock import FakeClock
from rig.deep import deepen
from rig.images import file, layer

from pinnace.core.base.imagefiles import build, write_archive
from pinnace.core.base.runtime import RuntimeFailed
from pinnace.core.base.settings.edged import BuiltinRuntimeSettings
from pinnace.core.pods.images.index import Index, StoredImage, StoredLayer
from pinnace.core.pods.images.layout import Layout
from pinnace.core.pods.images.records import ImageConfig
from pinnace.core.pods.images.store import LEFTOVER_SECONDS, PARTIAL_SECONDS, BuiltinImages

pytestmark = pytest.mark.root


def fill(layout: Layout, count: int) -> list[StoredImage]:
    """Images with one common layer and one of their own."""
    layout.ensure()
    index = Index(layout)
    index.load()
    found = []
    for number in range(count):
        layers = tuple(StoredLayer(name, 100, 1) for name in ("common", f"own{number}"))
        for each in layers:
            layout.layer(each.name).mkdir(parents=True, exist_ok=True)
        config = ImageConfig(env=(("PATH", "/bin"),) * 10, cmd=("sh",))
        found.append(index.put(StoredImage(f"sha256:{number:064x}", (f"r/a:{number}",), (), layers, (f"sha256:{number:064x}",), config)))
    return found


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(wall=time.time())


@pytest.fixture
def store(tmp_path: Path, clock: FakeClock) -> BuiltinImages:
    settings = BuiltinRuntimeSettings(root_dir=tmp_path, import_dir=tmp_path / "import", max_image_bytes=1000)
    return BuiltinImages(settings, clock=clock)


async def test_the_disk_of_a_store_that_was_never_there_is_unknown(store: BuiltinImages) -> None:
    with pytest.raises(RuntimeFailed, match=r"images cannot be asked: .*: No such file"):
        await store.disk()


async def test_what_was_in_progress_is_gone_after_a_start(store: BuiltinImages) -> None:
    store.layout.ensure()
    (store.layout.work / "abc.1/d").mkdir(parents=True)
    deepen(store.layout.work / "deep.1")
    (store.layout.work / "archive.7").write_text("x")
    (store.layout.locks / "sha256-1").touch()
    (store.layout.index / ".x.json.1").write_text("{")
    await store.start()
    assert list(store.layout.work.iterdir()) == []
    assert list(store.layout.locks.iterdir()) == []
    assert await store.images() == []


async def test_leftovers_are_collected_when_they_are_old(store: BuiltinImages, clock: FakeClock) -> None:
    fill(store.layout, 2)
    await store.start()
    stray = store.layout.layer("stray")
    stray.mkdir(parents=True)
    (store.layout.blobs / "1234").touch()
    await store.collect(LEFTOVER_SECONDS)
    assert stray.exists()  # the rest of its image may still come
    await clock.advance(LEFTOVER_SECONDS + 60)
    await store.collect(LEFTOVER_SECONDS)
    assert sorted(each.name for each in store.layout.layers.iterdir()) == ["common", "own0", "own1"]
    assert list(store.layout.blobs.iterdir()) == []


async def test_partial_downloads_are_bounded_in_size_and_age(store: BuiltinImages, clock: FakeClock) -> None:
    await store.start()
    for number in range(4):
        path = store.layout.partials / str(number)
        path.write_bytes(bytes(400))
        os.utime(path, (clock.wall() - number, clock.wall() - number))
    await store.collect(LEFTOVER_SECONDS)
    assert sorted(each.name for each in store.layout.partials.iterdir()) == ["0", "1"]  # the newest, up to maxImageBytes
    await clock.advance(PARTIAL_SECONDS + 1)
    await store.collect(LEFTOVER_SECONDS)
    assert list(store.layout.partials.iterdir()) == []


async def test_times_of_use_survive_and_a_held_image_is_in_use_now(store: BuiltinImages, clock: FakeClock) -> None:
    first, second = fill(store.layout, 2)
    await store.start()
    store.hold(first.id, "c")
    await clock.advance(100)
    used = {each.id: each.used_at for each in await store.images()}
    assert used == {first.id: clock.wall(), second.id: 0.0}
    store.release("c")
    store.release("never seen")
    at = clock.wall()
    await clock.advance(100)
    await store.close()
    again = BuiltinImages(BuiltinRuntimeSettings(root_dir=store.layout.root.parent), clock=clock)
    await again.start()
    assert {each.id: each.used_at for each in await again.images()} == {first.id: at, second.id: 0.0}
    again.layout.used.write_bytes(b"rubbish")
    await again.start()


async def test_an_image_that_was_lost_may_be_held_but_not_used(store: BuiltinImages) -> None:
    (image,) = fill(store.layout, 1)
    (store.layout.index / f"{0:064x}.json").write_bytes(b"{")
    await store.start()
    store.hold(image.id, "c")
    with pytest.raises(RuntimeFailed, match="no image"):
        store.layers(image.id)
    assert await store.images() == []
    store.release("c")


async def test_a_store_that_cannot_be_made_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = BuiltinImages(BuiltinRuntimeSettings(root_dir=tmp_path / "file"))
    with pytest.raises(RuntimeFailed, match="check rootDir"):
        await store.start()


async def test_nobody_begins_to_use_an_image_that_is_being_removed(store: BuiltinImages, monkeypatch: pytest.MonkeyPatch) -> None:
    (image, _) = fill(store.layout, 2)
    await store.start()
    begun, go_on = threading.Event(), threading.Event()
    remove = Index.remove

    def slowly(index: Index, image_id: str) -> None:
        begun.set()
        assert go_on.wait(30)
        remove(index, image_id)

    monkeypatch.setattr(Index, "remove", slowly)
    removal = asyncio.create_task(store.remove(image.id))
    await asyncio.to_thread(begun.wait, 30)
    store.hold(image.id, "late")
    try:
        for use in (store.config, store.layers):
            with pytest.raises(RuntimeFailed, match="there is no image"):
                use(image.id)
    finally:
        go_on.set()
        await removal


async def test_an_image_held_while_its_removal_waits_for_its_turn_stays(store: BuiltinImages) -> None:
    (image, _) = fill(store.layout, 2)
    await store.start()
    async with store._writing:  # as while another image is entered
        removal = asyncio.create_task(store.remove(image.id))
        await asyncio.sleep(0)
        store.hold(image.id, "late")
    with pytest.raises(RuntimeFailed, match="in use by container late"):
        await removal
    assert all(each.is_dir() for each in store.layers(image.id))


async def test_shared_layers_count_once(store: BuiltinImages) -> None:
    fill(store.layout, 5)
    await store.start()
    disk = await store.disk()
    assert disk.used_by_images == 600
    assert disk.capacity >= disk.available > 0
    assert disk.inodes >= disk.inodes_free > 0


async def test_run_imports_and_ends_when_cancelled(tmp_path: Path) -> None:

    (tmp_path / "import").mkdir()
    write_archive(tmp_path / "import/a.tar", {"docker.io/library/a:1": [build([layer([file("a")])])]})
    os.utime(tmp_path / "import/a.tar", (0, 0))
    store = BuiltinImages(BuiltinRuntimeSettings(root_dir=tmp_path / "root", import_dir=tmp_path / "import"))
    imported = asyncio.Event()
    store.on_import(lambda _: imported.set())
    await store.start()
    running = asyncio.create_task(store.run())
    await asyncio.wait_for(imported.wait(), 60)
    assert await store.image("a:1") is not None
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await store.close()


SCRIPT = """
import asyncio, json, sys
from pathlib import Path
from pinnace.core.base.settings.edged import BuiltinRuntimeSettings
from pinnace.core.pods.images.store import BuiltinImages

def rss():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

async def main():
    store = BuiltinImages(BuiltinRuntimeSettings(root_dir=Path(sys.argv[1])))
    before = rss()
    await store.start()
    print(json.dumps({"images": len(await store.images()), "grown": rss() - before, "modules": sorted(sys.modules)}))

asyncio.run(main())
"""


def test_fifty_images_cost_an_agent_little(tmp_path: Path) -> None:
    fill(Layout(tmp_path / "images"), 50)
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    assert said["images"] == 50
    assert said["grown"] < 2_000_000
    heavy = {"urllib3", "zstandard", "tarfile", "ctypes", "http", "multiprocessing", "concurrent.futures.process"}
    assert not heavy & {name for name in said["modules"] if not name.startswith("pinnace")}
