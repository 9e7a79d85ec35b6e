"""A runtime's images: what is there, pulls from a real registry, and removal."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from contract.runtime.installations import BUSYBOX, USER
from contract.runtime.pods import TestPod
from rig.images import busybox, file
from rig.registry import Registry

from pinnace.core.base.runtime import Credential, PullFailed, Runtime, RuntimeFailed


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with Registry(tmp_path_factory.mktemp("registry")) as made:
        yield made


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with Registry(tmp_path_factory.mktemp("guarded"), users={"pi": "secret"}) as made:
        yield made


async def test_image_by_name_and_by_id(runtime: Runtime) -> None:
    image = await runtime.images.image(BUSYBOX)
    assert image is not None
    assert image.id.startswith("sha256:")
    assert len(image.id) == 71
    assert BUSYBOX in image.tags
    assert image.size > 500_000
    assert await runtime.images.image(image.id) == image
    assert image.id in {each.id for each in await runtime.images.images()}


async def test_user_of_an_image(runtime: Runtime) -> None:
    image, other = await runtime.images.image(USER), await runtime.images.image(BUSYBOX)
    assert image is not None
    assert other is not None
    assert (image.user, other.user) == ("app", "")


@pytest.mark.bookkeeping
async def test_image_that_is_not_there(runtime: Runtime) -> None:
    assert await runtime.images.image("pinnace.test/nothing:1") is None
    assert await runtime.images.image("sha256:" + "0" * 64) is None


@pytest.mark.parametrize("name", ["", "Upper/Case", "a b", "-x", "name:", "name@sha256:12", "http://host/name", "a//b"])
async def test_name_that_is_none(runtime: Runtime, name: str) -> None:
    for asked in (runtime.images.image(name), runtime.images.pull(name)):
        with pytest.raises(PullFailed) as caught:
            await asked
        assert caught.value.reason == "InvalidImageName"


async def test_pull_by_tag_and_by_digest_then_run(pod: TestPod, registry: Registry) -> None:
    digest = registry.push("team/tool:1", busybox({"Cmd": ["cat", "/word"]}, extra=[file("word", "pulled\n")]))
    images = pod.runtime.images
    progress: list[tuple[int, int]] = []
    name = f"{registry.host}/team/tool:1"
    image = await images.pull(name, progress=lambda had, whole: progress.append((had, whole)))
    assert name in image.tags
    assert f"{registry.host}/team/tool@{digest}" in image.digests
    assert progress
    by_digest = f"{registry.host}/team/tool@{digest}"
    assert (await images.pull(by_digest)).id == image.id
    known = await images.image(by_digest)
    assert known is not None
    assert known.id == image.id
    container = await pod.run(image=name)
    assert pod.said(container) == "pulled\n"
    assert container.image == image.id
    assert container.image_ref in (by_digest, image.id)


async def test_tag_that_moved_is_pulled_anew(runtime: Runtime, registry: Registry) -> None:
    name = f"{registry.host}/team/moving:1"
    registry.push("team/moving:1", busybox(extra=[file("word", "old")]))
    old = await runtime.images.pull(name)
    registry.push("team/moving:1", busybox(extra=[file("word", "new")]))
    new = await runtime.images.pull(name)
    assert new.id != old.id
    known = await runtime.images.image(name)
    assert known is not None
    assert known.id == new.id


async def test_pull_of_what_the_registry_has_not(runtime: Runtime, registry: Registry) -> None:
    with pytest.raises(PullFailed) as caught:
        await runtime.images.pull(f"{registry.host}/team/missing:1")
    assert caught.value.reason == "ErrImagePull"
    assert not caught.value.is_unreachable


async def test_pull_from_where_nobody_answers(runtime: Runtime, tmp_path: Path) -> None:
    silent = Registry(tmp_path / "silent")
    with pytest.raises(PullFailed) as caught:
        await runtime.images.pull(f"{silent.host}/team/tool:1")
    assert caught.value.is_unreachable
    with pytest.raises(PullFailed) as caught:
        await runtime.images.pull("registry.invalid/team/tool:1")
    assert caught.value.is_unreachable


async def test_pull_with_credentials_tried_in_order(runtime: Runtime, guarded: Registry) -> None:
    guarded.push("team/secret:1", busybox(extra=[file("word", "secret")]))
    name = f"{guarded.host}/team/secret:1"
    with pytest.raises(PullFailed) as caught:
        await runtime.images.pull(name)
    assert not caught.value.is_unreachable
    wrong = Credential(guarded.host, "pi", "wrong")
    with pytest.raises(PullFailed) as caught:
        await runtime.images.pull(name, [wrong])
    assert "wrong" not in str(caught.value)
    image = await runtime.images.pull(name, [wrong, Credential(guarded.host, "pi", "secret")])
    assert name in image.tags


async def test_pulls_of_one_image_at_once(runtime: Runtime, registry: Registry) -> None:
    registry.push("team/shared:1", busybox(extra=[file("word", "shared")]))
    before = registry.gets("team/shared/blobs")  # those of the other runtimes
    images = await asyncio.gather(*(runtime.images.pull(f"{registry.host}/team/shared:1") for _ in range(4)))
    assert len({each.id for each in images}) == 1
    assert registry.gets("team/shared/blobs") - before <= 3, "each layer and the configuration once"


async def test_remove_but_not_what_is_in_use(pod: TestPod, registry: Registry) -> None:
    name = f"{registry.host}/team/gone:1"
    registry.push("team/gone:1", busybox({"Cmd": ["true"]}, extra=[file("word", "gone")]))
    image = await pod.runtime.images.pull(name)
    container = await pod.run(image=name)
    with pytest.raises(RuntimeFailed, match="in use"):
        await pod.runtime.images.remove(image.id)
    assert await pod.runtime.images.image(name) is not None
    await pod.runtime.remove_container(container.id)
    await pod.runtime.images.remove(image.id)
    assert await pod.runtime.images.image(name) is None
    assert await pod.runtime.images.image(image.id) is None


async def test_disk(runtime: Runtime) -> None:
    disk = await runtime.images.disk()
    assert disk.path.is_dir()
    assert 0 < disk.available <= disk.capacity
    assert disk.used_by_images >= 0
    assert 0 <= disk.inodes_free <= disk.inodes
