"""Pulls from a real registry: what is on the disk afterwards, who may pull, and what goes wrong in which words."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from pathlib import Path

import pytest
from integration.mosquitto import make_tls
from rig.images import busybox, file, folder, layer, this_platform
from rig.registry import Registry, TokenServer

from pinnace.core.base.imagefiles import Compression, Platform, build, for_docker
from pinnace.core.base.runtime import Credential, PullFailed, RuntimeFailed
from pinnace.core.base.settings.edged import RegistrySettings
from pinnace.core.pods.images.store import BuiltinImages

from .conftest import StoreMaker

pytestmark = pytest.mark.root


async def failure(store: BuiltinImages, reference: str, *credentials: Credential) -> PullFailed:
    with pytest.raises(PullFailed) as caught:
        await store.pull(reference, credentials)
    return caught.value


async def test_a_pulled_image_is_unpacked_and_described(store: BuiltinImages, registry: Registry) -> None:
    image = busybox({"Env": ["A=b", "C=d=e"], "User": "app", "Entrypoint": ["/bin/sh"]}, extra=[file("data/x", b"content", 0o640, uid=7)])
    digest = registry.push("team/first:1", image)
    seen: list[tuple[int, int]] = []
    found = await store.pull(f"{registry.host}/team/first:1", progress=lambda had, total: seen.append((had, total)))
    assert found.id == image.config.digest
    assert found.tags == (f"{registry.host}/team/first:1",)
    assert found.digests == (f"{registry.host}/team/first@{digest}",)
    assert found.user == "app"
    assert found.used_at > 0
    size = sum(each.blob.size for each in image.layers)
    assert seen[-1] == (size, size)
    config = store.config(found.id)
    assert config.env == (("A", "b"), ("C", "d=e"))
    assert config.entrypoint == ("/bin/sh",)
    bottom, top = store.layers(found.id)
    assert stat.S_IMODE((bottom / "bin/busybox").stat().st_mode) == 0o755
    assert (bottom / "bin/sh").readlink() == Path("busybox")
    assert (top / "data/x").read_bytes() == b"content"
    assert (top / "data/x").stat().st_uid == 7
    assert await store.image(found.id) == found
    assert await store.image(found.digests[0]) == found
    assert await store.images() == [found]
    assert not list((bottom.parents[2] / "p").iterdir())


@pytest.mark.parametrize("compression", Compression)
async def test_every_packing(store: BuiltinImages, registry: Registry, compression: Compression) -> None:
    name = f"packed/{compression.name.lower()}:1"
    registry.push(name, build([layer([file("a", compression.name)], compression)]))
    found = await store.pull(f"{registry.host}/{name}")
    assert (store.layers(found.id)[0] / "a").read_text() == compression.name


async def test_docker_manifests(store: BuiltinImages, registry: Registry) -> None:
    image = for_docker(busybox())
    registry.push("docker/b:1", image)
    assert (await store.pull(f"{registry.host}/docker/b:1")).id == image.config.digest


async def test_an_index_gives_this_machine_its_image(store: BuiltinImages, registry: Registry) -> None:
    mine = build([layer([file("mine")])], platform=this_platform())
    other = build([layer([file("other")])], platform=Platform("linux", "mips64le"))
    root = registry.push("multi/b:1", [other, mine])
    found = await store.pull(f"{registry.host}/multi/b:1")
    assert found.id == mine.config.digest
    assert f"{registry.host}/multi/b@{root}" in found.digests
    assert registry.gets(other.layers[0].blob.digest) == 0
    by_digest = await store.pull(f"{registry.host}/multi/b@{root}")
    assert by_digest.id == mine.config.digest


async def test_an_index_without_this_machine_names_what_it_has(store: BuiltinImages, registry: Registry) -> None:
    registry.push("multi/foreign:1", [build([layer([file(name)])], platform=Platform("linux", name)) for name in ("mips", "sparc")])
    error = await failure(store, f"{registry.host}/multi/foreign:1")
    assert "linux/mips, linux/sparc" in str(error)
    assert not error.is_unreachable


async def test_an_unknown_image(store: BuiltinImages, registry: Registry) -> None:
    error = await failure(store, f"{registry.host}/no/such:1")
    assert error.reason == "ErrImagePull"
    assert "not found" in str(error)
    assert not error.is_unreachable


async def test_a_bad_name(store: BuiltinImages) -> None:
    assert (await failure(store, "Capital:1")).reason == "InvalidImageName"
    with pytest.raises(PullFailed, match="capital letters"):
        await store.image("Capital:1")


async def test_nobody_listens(store: BuiltinImages) -> None:
    with socket.socket() as taken:  # bound, but not listening
        taken.bind(("127.0.0.1", 0))
        error = await failure(store, f"127.0.0.1:{taken.getsockname()[1]}/a:1")
    assert error.is_unreachable
    assert error.reason == "RegistryUnavailable"
    assert (await failure(store, "no-such-host.invalid/a:1")).is_unreachable


async def test_passwords(tmp_path: Path, store: BuiltinImages) -> None:
    with Registry(tmp_path / "r", users={"pi": "secret"}) as registry:
        registry.push("own/b:1", busybox())
        name = f"{registry.host}/own/b:1"
        error = await failure(store, name)
        assert "unauthorized" in str(error)
        assert not error.is_unreachable
        error = await failure(store, name, Credential(registry.host, "pi", "wrong-word"))
        assert "unauthorized" in str(error)
        assert "wrong-word" not in str(error)
        assert "imagePullSecrets" in str(error)
        wrong, right = Credential(registry.host, "pi", "wrong-word"), Credential(f"https://{registry.host}/v1/", "pi", "secret")
        assert (await store.pull(name, [wrong, right])).tags == (name,)
        assert "not found" in str(await failure(store, f"{registry.host}/own/other:1", right))


async def test_tokens(tmp_path: Path, make_store: StoreMaker) -> None:
    tokens = TokenServer(users={"pi": "secret"}, public=frozenset({"open/b"}))
    with Registry(tmp_path / "r", tokens=tokens) as registry:
        for name in ("open/b:1", "own/b:1"):
            registry.push(name, busybox())
        for number, (name, credentials) in enumerate(
            (
                ("open/b:1", []),
                ("open/b:1", [Credential(registry.host, "pi", "wrong")]),
                ("own/b:1", [Credential(registry.host, "pi", "secret")]),
                ("own/b:1", [Credential(registry.host, identity_token="identity")]),
            )
        ):
            store = make_store(name=f"node{number}")
            await store.start()
            assert (await store.pull(f"{registry.host}/{name}", credentials)).size > 0
        store = make_store(name="refused")
        await store.start()
        for credentials in ([], [Credential(registry.host, "pi", "wrong")], [Credential(registry.host, identity_token="stale")]):
            error = await failure(store, f"{registry.host}/own/b:1", *credentials)
            assert "unauthorized" in str(error)
            assert not error.is_unreachable


async def test_a_private_authority(tmp_path: Path, make_store: StoreMaker) -> None:
    tls = make_tls(tmp_path / "tls")
    with Registry(tmp_path / "r", tls=tls) as registry:
        registry.push("own/b:1", busybox())
        name = f"{registry.host}/own/b:1"
        stranger = make_store(RegistrySettings(registry.host), name="stranger")
        await stranger.start()
        error = await failure(stranger, name)
        assert "caFile" in str(error)
        assert not error.is_unreachable
        store = make_store(RegistrySettings(registry.host, ca_file=tls.ca))
        await store.start()
        assert (await store.pull(name)).tags == (name,)
        plain = make_store(RegistrySettings(registry.host, plain_http=True), name="plain")
        await plain.start()
        assert not (await failure(plain, name)).is_unreachable


async def test_a_registry_without_tls_where_tls_is_expected(make_store: StoreMaker, registry: Registry) -> None:
    store = make_store(RegistrySettings(registry.host))
    await store.start()
    error = await failure(store, f"{registry.host}/a:1")
    assert "plainHTTP" in str(error)
    assert not error.is_unreachable


async def test_the_same_image_at_the_same_time_is_fetched_once(store: BuiltinImages, registry: Registry) -> None:
    image = busybox(extra=[file("once", b"1")])
    registry.push("once/b:1", image)
    name = f"{registry.host}/once/b:1"
    found = await asyncio.gather(*(store.pull(name) for _ in range(5)))
    assert len(set(found)) == 1
    assert registry.gets("once/b/manifests/1") == 1
    assert registry.gets(image.layers[1].blob.digest) == 1


async def test_shared_layers_of_images_pulled_together_are_fetched_once(store: BuiltinImages, registry: Registry) -> None:
    shared = [layer([file(f"shared{number}", os.urandom(200_000))]) for number in range(3)]
    images = [build([*shared, layer([file("own", name)])]) for name in "abcd"]
    for name, image in zip("abcd", images, strict=True):
        registry.push(f"shared/{name}:1", image)
    found = await asyncio.gather(*(store.pull(f"{registry.host}/shared/{name}:1") for name in "abcd"))
    for each in shared:
        assert registry.gets(each.blob.digest) == 1
    assert len({store.layers(each.id)[:3] for each in found}) == 1
    assert len({store.layers(each.id)[3] for each in found}) == 4
    assert (await store.disk()).used_by_images < sum(each.size for each in found)


async def test_what_is_held_stays_and_shared_layers_outlive_one_image(store: BuiltinImages, registry: Registry) -> None:
    shared = layer([folder("shared")])
    for name in "ab":
        registry.push(f"gone/{name}:1", build([shared, layer([file("own", name)])]))
    first, second = [await store.pull(f"{registry.host}/gone/{name}:1") for name in "ab"]
    store.hold(first.id, "c1")
    with pytest.raises(RuntimeFailed, match="container c1"):
        await store.remove(first.id)
    store.release("c1")
    common, own = store.layers(first.id)
    await store.remove(first.id)
    assert await store.image(first.id) is None
    assert common.is_dir()
    assert not own.exists()
    assert store.layers(second.id)[0] == common
    await store.remove(second.id)
    assert not common.exists()
    with pytest.raises(RuntimeFailed):
        store.layers(second.id)


async def test_a_tag_that_moved_leaves_the_old_image(store: BuiltinImages, registry: Registry) -> None:
    name = f"{registry.host}/moving/b:1"
    registry.push("moving/b:1", build([layer([file("v", "one")])]))
    old = await store.pull(name)
    registry.push("moving/b:1", build([layer([file("v", "two")])]))
    new = await store.pull(name)
    assert new.id != old.id
    now = await store.image(old.id)
    assert now is not None
    assert now.tags == ()
    assert now.digests == old.digests
    assert await store.image(name) == await store.image(new.id)


async def test_an_image_larger_than_allowed(make_store: StoreMaker, registry: Registry) -> None:
    registry.push("large/b:1", build([layer([file("zeros", bytes(4 << 20))])]))
    store = make_store(max_image_bytes=2 << 20)
    await store.start()
    error = await failure(store, f"{registry.host}/large/b:1")
    assert "maxImageBytes" in str(error)
    assert await store.images() == []
    assert (await store.disk()).used_by_images == 0


async def test_images_are_there_after_a_restart(make_store: StoreMaker, registry: Registry) -> None:
    registry.push("stay/b:1", busybox())
    first = make_store()
    await first.start()
    image = await first.pull(f"{registry.host}/stay/b:1")
    await first.close()
    again = make_store()
    await again.start()
    assert await again.images() == [image]
    assert again.layers(image.id) == first.layers(image.id)
    assert again.config(image.id) == first.config(image.id)
