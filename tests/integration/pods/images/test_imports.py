"""Archives from a folder: every format, whole or not, once each; their images stay and need no registry."""

from __future__ import annotations

import gzip
import io
import json
import logging
import os
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from fakes.clock import FakeClock
from rig.images import busybox, file, layer, this_platform, write_docker_archive

from pinnace.core.base.imagefiles import BuiltImage, Compression, Platform, build, index_of, tar_of, write_archive
from pinnace.core.base.settings.edged import BuiltinRuntimeSettings
from pinnace.core.pods.images.imports import SETTLED_SECONDS, Imported
from pinnace.core.pods.images.store import BuiltinImages

pytestmark = pytest.mark.root
NAME = "docker.io/library/own:1"


class Node:
    """A store, its import folder, and a clock that only the test moves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.import_dir = folder / "import"
        self.import_dir.mkdir(parents=True, exist_ok=True)
        self.told: list[Imported] = []
        self.clock = FakeClock(wall=time.time())
        self.again()

    def again(self) -> None:
        """As after a restart of the agent."""
        settings = BuiltinRuntimeSettings(root_dir=self.folder / "root", import_dir=self.import_dir, max_image_bytes=1 << 26)
        self.store = BuiltinImages(settings, clock=self.clock)
        self.store.on_import(self.told.append)

    async def put(self, name: str, make: Callable[[Path], object]) -> Path:
        """An archive that was there before, so that it has settled."""
        path = self.import_dir / name
        make(path)
        await self.settle()
        return path

    async def settle(self) -> None:
        """Let so much time pass that what was written until now has settled."""
        await self.clock.advance(time.time() - self.clock.wall() + SETTLED_SECONDS + 1)

    async def look(self) -> list[Imported]:
        self.told.clear()
        await self.store.imports.look()
        return list(self.told)


@pytest.fixture
async def node(tmp_path: Path) -> Node:
    made = Node(tmp_path)
    await made.store.start()
    return made


def oci(path: Path, image: BuiltImage | None = None, name: str = NAME) -> None:
    write_archive(path, {name: [image or busybox()]})


@pytest.mark.parametrize("kind", ["oci", "docker"])
@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tar.zst"])
async def test_every_kind_of_archive(node: Node, kind: str, ending: str) -> None:
    image = busybox({"Cmd": ["x"]}, extra=[file("own", "own")])

    def make(path: Path) -> None:
        if kind == "oci":
            oci(path, image)
        else:
            write_docker_archive(path, {"own:1": image})
        if ending == ".tar.gz":
            path.write_bytes(gzip.compress(path.read_bytes()))
        elif ending == ".tar.zst":
            path.write_bytes(zstandard.ZstdCompressor().compress(path.read_bytes()))

    path = await node.put("own" + ending, make)
    (told,) = await node.look()
    assert told.path == path
    assert told.problem == ""
    assert NAME in told.names
    found = await node.store.image("own:1")
    assert found is not None
    assert found.id == image.config.digest
    assert found.is_pinned
    assert node.store.config(found.id).cmd == ("x",)
    assert (node.store.layers(found.id)[1] / "own").read_text() == "own"
    assert await node.store.pull("own:1") == found  # as new as it gets, though there is no registry
    assert list(node.store.layout.work.iterdir()) == []


async def test_the_folder_is_made(node: Node) -> None:
    node.import_dir.rmdir()
    node.again()
    assert await node.look() == []
    assert node.import_dir.is_dir()


@pytest.mark.parametrize("compression", Compression)
async def test_every_packing_of_layers(node: Node, compression: Compression) -> None:
    await node.put("a.tar", lambda path: oci(path, build([layer([file("a", "a")], compression)])))
    (told,) = await node.look()
    assert told.problem == ""


async def test_an_archive_is_imported_once_also_after_a_restart(node: Node) -> None:
    await node.put("a.tar", oci)
    assert len(await node.look()) == 1
    assert await node.look() == []
    node.again()
    await node.store.start()
    assert await node.look() == []
    found = await node.store.image(NAME)
    assert found is not None
    assert found.is_pinned
    await node.store.remove(found.id)
    node.again()
    await node.store.start()
    assert len(await node.look()) == 1  # what is lost is there again


async def test_a_changed_archive_takes_the_name(node: Node) -> None:
    await node.put("a.tar", oci)
    await node.look()
    old = await node.store.image(NAME)
    await node.put("a.tar", lambda path: oci(path, busybox({"Cmd": ["new"]})))
    assert len(await node.look()) == 1
    new = await node.store.image(NAME)
    assert old is not None
    assert new is not None
    assert new.id != old.id
    before = await node.store.image(old.id)
    assert before is not None
    assert (before.is_pinned, before.tags) == (False, ())  # so that it can be collected


async def test_the_platform_of_this_machine(node: Node) -> None:
    mine = build([layer([file("mine")])], platform=this_platform())
    other = build([layer([file("other")])], platform=Platform("linux", "mips"))
    await node.put("multi.tar", lambda path: write_archive(path, {NAME: [other, mine]}))
    await node.put("foreign.tar", lambda path: write_archive(path, {"x:1": [other, build([], platform=Platform("linux", "sparc"))]}))
    told = {each.path.name: each for each in await node.look()}
    assert "linux/mips, linux/sparc" in told["foreign.tar"].problem
    found = await node.store.image(NAME)
    assert found is not None
    assert found.id == mine.config.digest


async def test_several_images_in_one_archive(node: Node) -> None:
    images = {f"docker.io/library/{name}:1": [build([layer([file(name)])])] for name in "abc"}
    await node.put("many.tar", lambda path: write_archive(path, images))
    (told,) = await node.look()
    assert {"docker.io/library/a:1", "docker.io/library/b:1", "docker.io/library/c:1"} <= set(told.names)


async def test_an_archive_that_is_still_written_to_waits(node: Node) -> None:
    oci(node.import_dir / "whole.tar")
    content = (node.import_dir / "whole.tar").read_bytes()
    (node.import_dir / "whole.tar").unlink()
    path = node.import_dir / "a.tar"
    for end in (1000, len(content) // 2, len(content)):
        path.write_bytes(content[:end])
        assert await node.look() == []
        assert await node.store.images() == []
    (told,) = await node.look()  # the same as at the last look
    assert told.problem == ""


async def test_an_archive_cut_off_is_told_once_and_taken_when_it_is_whole(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    path = await node.put("a.tar", oci)
    content = path.read_bytes()
    for end in (0, 100, 5000, len(content) // 2):
        path.write_bytes(content[:end])
        await node.settle()
        with caplog.at_level(logging.WARNING):
            (told,) = await node.look()
        assert str(path) in told.problem
        assert await node.look() == []
    assert "images.import.failed" in caplog.text
    assert await node.store.images() == []
    path.write_bytes(content)
    await node.settle()
    (told,) = await node.look()
    assert told.problem == ""


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "no archive"), (b"\x1f\x8brubbish", "damaged"), (b"\x28\xb5\x2f\xfdxxxx", "damaged"), (os.urandom(4096), "no archive")],
)
async def test_rubbish(node: Node, content: bytes, words: str) -> None:
    await node.put("a.tar", lambda path: path.write_bytes(content))
    await node.put("b.tar", oci)
    first, second = await node.look()
    assert words in first.problem
    assert second.problem == ""  # one bad archive does not keep the next away


async def test_a_damaged_blob_is_found(node: Node) -> None:
    image = build([layer([file("a", os.urandom(50_000))])])
    path = await node.put("a.tar", lambda path: oci(path, image))
    content = bytearray(path.read_bytes())
    content[content.index(image.layers[0].blob.read()) + 25_000] ^= 1
    path.write_bytes(bytes(content))
    await node.settle()
    (told,) = await node.look()
    assert "damaged" in told.problem
    assert await node.store.images() == []


async def test_an_attack_in_an_archive(node: Node) -> None:
    await node.put("a.tar", lambda path: oci(path, busybox(extra=[file("../x")])))
    (told,) = await node.look()
    assert "climbs out" in told.problem


async def test_a_compressed_archive_larger_than_allowed(node: Node) -> None:
    await node.put("a.tar.gz", lambda path: path.write_bytes(gzip.compress(bytes(1 << 27))))
    (told,) = await node.look()
    assert "maxImageBytes" in told.problem
    assert list(node.store.layout.work.iterdir()) == []


def annotate(path: Path, annotations: dict[str, str]) -> None:
    """Let the archive say this of its image, and nothing else."""
    with tarfile.open(path) as source:
        members = [(member, (source.extractfile(member) or io.BytesIO()).read()) for member in source]
    index = json.loads(next(content for member, content in members if member.name == "index.json"))
    index["manifests"][0]["annotations"] = annotations
    text = json.dumps(index).encode()
    path.write_bytes(tar_of([file("index.json", text), *(each for each in members if each[0].name != "index.json")]))


async def test_a_tag_alone_makes_the_files_name_the_images(node: Node) -> None:
    path = await node.put("traffic-light.tar", oci)
    annotate(path, {"org.opencontainers.image.ref.name": "v1"})
    await node.settle()
    assert (await node.look())[0].names[0] == "docker.io/library/traffic-light:v1"


async def test_an_image_without_a_name_is_there_and_told(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    image = busybox()
    path = await node.put("a.tar", lambda path: oci(path, image))
    annotate(path, {})
    await node.settle()
    (told,) = await node.look()
    assert (told.names, told.problem) == ((), "")
    assert "images.import.nameless" in caplog.text
    assert await node.store.image(image.config.digest) is not None


async def test_what_is_no_archive_is_left_alone(node: Node) -> None:
    await node.put("notes.txt", lambda path: path.write_text("x"))
    await node.put(".a.tar.part", lambda path: path.write_text("x"))
    (node.import_dir / "folder.tar").mkdir()
    (node.import_dir / "dangling.tar").symlink_to("nowhere")
    await node.put("z.tar", oci)
    (told,) = await node.look()
    assert told.path.name == "z.tar"
    node.import_dir.rename(node.folder / "elsewhere")
    assert await node.look() == []


def test_an_index_lists_what_it_offers() -> None:
    images = [build([], platform=Platform("linux", each)) for each in ("amd64", "arm64")]
    assert [each["platform"]["architecture"] for each in json.loads(index_of(images).read())["manifests"]] == ["amd64", "arm64"]
