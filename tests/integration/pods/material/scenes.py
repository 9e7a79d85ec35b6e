"""What test_mounts.py plays, each scene in a process with its own mount namespace: `scenes.py SCENE FOLDER`."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import stat
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.materials import MaterialsWorld, pod_with, secret_data

from pinnace.core.base.pod import Pod
from pinnace.core.pods.material.mounts import Mounts
from pinnace.core.pods.ports import SpecRefused, VolumesNotReady

MOUNTS = Mounts()
SCENES: dict[str, Callable[[MaterialsWorld], Awaitable[None]]] = {}


def scene(play: Callable[[MaterialsWorld], Awaitable[None]]) -> Callable[[MaterialsWorld], Awaitable[None]]:
    SCENES[play.__name__] = play
    return play


def volume(world: MaterialsWorld, kind: str, name: str) -> Path:
    return world.folder() / "volumes" / f"kubernetes.io~{kind}" / name


def file_system(path: Path) -> str:
    return subprocess.run(["stat", "-f", "-c", "%T", str(path)], capture_output=True, text=True, check=True).stdout.strip()


async def ended(world: MaterialsWorld) -> None:
    """All of it is gone, and a second time does no harm."""
    await world.materials.unmount("u-1")
    assert not MOUNTS.points(world.root / "kubelet"), MOUNTS.points(world.root / "kubelet")
    assert not world.folder().exists()
    await world.materials.unmount("u-1")
    assert not await world.materials.leftovers()


def sub_path_pod(source: dict[str, Any], *paths: str) -> Pod:
    mounts = [{"name": "v", "mountPath": f"/m{index}", "subPath": path} for index, path in enumerate(paths)]
    return pod_with({"name": "v", **source}, container={"volumeMounts": mounts})


@scene
async def memory_and_secrets(world: MaterialsWorld) -> None:
    world.store("secret", "login", data=secret_data(password="hush"))
    pod = pod_with({"name": "mem", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}, {"name": "s", "secret": {"secretName": "login"}})
    for _ in range(3):
        await world.materials.mount(pod)
    memory, secret = volume(world, "empty-dir", "mem"), volume(world, "secret", "s")
    assert (file_system(memory), file_system(secret)) == ("tmpfs", "tmpfs")
    assert stat.S_IMODE(memory.stat().st_mode) == 0o777
    assert os.statvfs(memory).f_blocks * os.statvfs(memory).f_frsize == 1 << 20
    assert (secret / "password").read_text() == "hush"
    assert len(MOUNTS.points(world.folder())) == 2
    with contextlib.suppress(OSError):
        (memory / "big").write_bytes(b"x" * (2 << 20))
    assert (memory / "big").stat().st_size <= 1 << 20
    await ended(world)


@scene
async def sub_paths(world: MaterialsWorld) -> None:
    source = world.root / "node"
    (source / "deep").mkdir(parents=True)
    (source / "deep/file").write_text("x")
    (source / "link").symlink_to("deep")
    pod = sub_path_pod({"hostPath": {"path": str(source)}}, "deep", "link/file", "made/here")
    await world.config(pod)
    folder, file, made, *_ = (await world.config(pod)).mounts
    assert (Path(folder.host_path) / "file").read_text() == "x"
    assert Path(file.host_path).read_text() == "x"
    (Path(made.host_path) / "new").write_text("y")
    assert (source / "made/here/new").read_text() == "y"
    assert len(MOUNTS.points(world.folder())) == 3
    await ended(world)
    assert sorted(str(each.relative_to(source)) for each in source.rglob("*")) == [
        "deep",
        "deep/file",
        "link",
        "made",
        "made/here",
        "made/here/new",
    ]


@scene
async def sub_path_attack(world: MaterialsWorld) -> None:
    """What an init container leaves behind in a volume so that the next container gets the node's files."""
    (world.root / "node-secret").write_text("the node's")
    attacks: list[dict[str, str]] = [
        {"x": str(world.root)},
        {"x": "/"},
        {"x": "../" * 12 + "etc"},
        {"x": "/proc/self/root"},
        {"a": "../..", "x": "a"},
        {"d/up": "../../..", "x": "d/up"},
    ]
    for links in attacks:
        pod = sub_path_pod({"emptyDir": {}}, "x")
        await world.materials.mount(pod)
        for link, target in links.items():
            place = volume(world, "empty-dir", "v") / link
            place.parent.mkdir(exist_ok=True)
            place.symlink_to(target)
        with pytest.raises(SpecRefused, match="leads out of the volume"):
            await world.config(pod)
        assert not MOUNTS.points(world.folder())
        await ended(world)
    assert (world.root / "node-secret").read_text() == "the node's"


@scene
async def a_sub_path_of_a_config_map_follows_a_restart(world: MaterialsWorld) -> None:
    world.store("configmap", "app", data={"color": "red"})
    pod = sub_path_pod({"configMap": {"name": "app", "optional": True}}, "color", "later")
    await world.materials.mount(pod)
    color, later, *_ = (await world.config(pod)).mounts
    assert Path(color.host_path).read_text() == "red"
    assert Path(later.host_path).is_dir()
    world.store("configmap", "app", data={"color": "blue", "later": "now"})
    await world.materials.mount(pod)
    assert Path(color.host_path).read_text() == "red"  # a container that runs keeps what it has
    color, later, *_ = (await world.config(pod, attempt=1)).mounts
    assert (Path(color.host_path).read_text(), Path(later.host_path).read_text()) == ("blue", "now")
    await ended(world)


def bound(world: MaterialsWorld, source: Path, **spec: Any) -> dict[str, Any]:
    about = {"uid": "c-1", "name": "mine"}
    world.store("persistentvolumeclaim", "mine", metadata=about, spec={"volumeName": "pv-1"}, status={"phase": "Bound"})
    world.store(
        "persistentvolume", "pv-1", "", metadata={"name": "pv-1"}, spec={"claimRef": {"uid": "c-1"}, "local": {"path": str(source)}, **spec}
    )
    return {"name": "data", "persistentVolumeClaim": {"claimName": "mine"}}


@scene
async def local_volume(world: MaterialsWorld) -> None:
    source = world.root / "disk"
    source.mkdir()
    (source / "kept").write_text("x")
    pod = pod_with(bound(world, source), securityContext={"fsGroup": 4242})
    for _ in range(2):
        await world.materials.mount(pod)
    place = volume(world, "local-volume", "pv-1")
    assert (place / "kept").read_text() == "x"
    assert (source / "kept").stat().st_gid == 4242
    await ended(world)
    assert (source / "kept").read_text() == "x"
    await world.materials.mount(pod_with(bound(world, source, accessModes=["ReadOnlyMany"])))
    with pytest.raises(OSError, match="Read-only file system"):
        (place / "new").write_text("y")
    await ended(world)
    assert [each.name for each in source.iterdir()] == ["kept"]


@scene
async def busy(world: MaterialsWorld) -> None:
    """A process that still works in a volume keeps nothing from going."""
    pod = pod_with({"name": "mem", "emptyDir": {"medium": "Memory"}})
    await world.materials.mount(pod)
    folder = volume(world, "empty-dir", "mem")
    with (folder / "open").open("w") as stream:
        stream.write("x")
        child = subprocess.Popen(["sleep", "100"], cwd=folder)
        try:
            await ended(world)
        finally:
            child.kill()
            child.wait()


@scene
async def half_way(world: MaterialsWorld) -> None:
    """The agent dies after it unmounted, or after it removed a part: the next one goes on."""
    source = world.root / "disk"
    source.mkdir()
    (source / "kept").write_text("x")
    world.store("secret", "login", data=secret_data(password="hush"))
    volumes = [bound(world, source), {"name": "s", "secret": {"secretName": "login"}}, {"name": "e", "emptyDir": {}}]
    pod = pod_with(*volumes, container={"volumeMounts": [{"name": "data", "mountPath": "/d", "subPath": "sub"}, *_mounts("s", "e")]})
    await world.materials.mount(pod)
    await world.config(pod)
    (volume(world, "empty-dir", "e") / "file").write_text("x")
    points = MOUNTS.points(world.folder())
    assert len(points) == 3, points
    MOUNTS.unmount(points[-1])
    (world.folder() / "etc-hosts").unlink()
    world.restart()
    assert set(await world.materials.leftovers()) == {"u-1"}
    await ended(world)
    assert sorted(each.name for each in source.iterdir()) == ["kept", "sub"]


def _mounts(*names: str) -> Iterator[dict[str, str]]:
    for name in names:
        yield {"name": name, "mountPath": f"/{name}"}


@scene
async def reboot(world: MaterialsWorld) -> None:
    """The mounts are gone, the disk is as it was, and there is no link."""
    world.store("configmap", "app", data={"color": "red"})
    world.store("secret", "login", data=secret_data(password="hush"))
    volumes = [
        {"name": "cm", "configMap": {"name": "app"}},
        {"name": "s", "secret": {"secretName": "login"}},
        {"name": "mem", "emptyDir": {"medium": "Memory"}},
        {"name": "disk", "emptyDir": {}},
    ]
    pod = pod_with(*volumes)
    await world.materials.mount(pod)
    (volume(world, "empty-dir", "mem") / "lost").write_text("x")
    (volume(world, "empty-dir", "disk") / "kept").write_text("x")
    for point in reversed(MOUNTS.points(world.folder())):
        MOUNTS.unmount(point)
    assert not list(volume(world, "secret", "s").iterdir())
    world.restart()
    await world.materials.mount(pod)
    await world.config(pod)
    assert (volume(world, "secret", "s") / "password").read_text() == "hush"
    assert (volume(world, "configmap", "cm") / "color").read_text() == "red"
    assert not (volume(world, "empty-dir", "mem") / "lost").exists()
    assert (volume(world, "empty-dir", "disk") / "kept").exists()
    await ended(world)


@scene
async def something_mounted_in_a_volume(world: MaterialsWorld) -> None:
    """A privileged container mounted one of the node's folders inside an emptyDir, and that spread: its files stay."""
    precious = world.root / "precious"
    precious.mkdir()
    (precious / "kept").write_text("x")
    pod = pod_with({"name": "e", "emptyDir": {}})
    await world.materials.mount(pod)
    inner = volume(world, "empty-dir", "e") / "inner"
    inner.mkdir()
    for _ in range(2):
        MOUNTS.bind(precious, inner)
    await ended(world)
    assert (precious / "kept").read_text() == "x"


@scene
async def somebody_elses_files(world: MaterialsWorld) -> None:
    """Where a foreign volume should be mounted there are files: they are not ours to remove."""
    source = world.root / "disk"
    source.mkdir()
    await world.materials.mount(pod_with(bound(world, source)))
    place = volume(world, "local-volume", "pv-1")
    MOUNTS.unmount(place)
    (place / "found").write_text("x")
    with pytest.raises(VolumesNotReady, match=str(place)):
        await world.materials.unmount("u-1")
    assert (place / "found").exists()
    (place / "found").unlink()
    await ended(world)


@scene
async def group_and_owner(world: MaterialsWorld) -> None:
    world.store("secret", "login", data=secret_data(password="hush"))
    await world.uplink.connect()
    token = {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}
    volumes = [{"name": "s", "secret": {"secretName": "login", "defaultMode": 0o400}}, token, {"name": "e", "emptyDir": {}}]
    pod = pod_with(*volumes, securityContext={"fsGroup": 4242, "runAsUser": 1717})
    for _ in range(2):
        await world.materials.mount(pod)
    for path, owner, mode in (
        (volume(world, "secret", "s") / "password", (0, 4242), 0o440),
        (volume(world, "projected", "t") / "token", (1717, 4242), 0o640),
        (volume(world, "empty-dir", "e"), (0, 4242), 0o2777),
    ):
        status = path.stat()
        assert ((status.st_uid, status.st_gid), stat.S_IMODE(status.st_mode)) == (owner, mode), path
    first = (volume(world, "projected", "t") / "..data").readlink()
    await world.materials.mount(pod)
    assert (volume(world, "projected", "t") / "..data").readlink() == first
    await ended(world)


@scene
async def propagation(world: MaterialsWorld) -> None:
    """A mount that appears below a volume in a namespace that shares it is seen, and taken away."""
    assert ctypes.CDLL(None, use_errno=True).mount(None, b"/", None, 0x104000, None) == 0  # MS_REC | MS_SHARED
    pod = pod_with({"name": "e", "emptyDir": {}})
    await world.materials.mount(pod)
    folder = volume(world, "empty-dir", "e")
    (folder / "inner").mkdir()
    child = subprocess.Popen(
        [
            "unshare",
            "--mount",
            "--propagation",
            "shared",
            "sh",
            "-c",
            f"mount -t tmpfs inner '{folder}/inner' && echo done && exec sleep 100",
        ],
        stdout=subprocess.PIPE,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"done\n"
        assert MOUNTS.is_point(folder / "inner")
        await ended(world)
    finally:
        child.kill()
        child.communicate()


@scene
async def names_with_spaces(world: MaterialsWorld) -> None:
    """The node's folders may be called anything."""
    other = world.root / "a folder\twith\nodd\\ names"
    other.mkdir()
    inner = MaterialsWorld(other, MOUNTS)
    pod = pod_with({"name": "mem", "emptyDir": {"medium": "Memory"}})
    for _ in range(2):
        await inner.materials.mount(pod)
    assert len(MOUNTS.points(inner.folder())) == 1
    await ended(inner)


def main() -> None:
    name, folder = sys.argv[1:]
    began = time.monotonic()
    asyncio.run(_play(name, Path(folder)))
    print(f"{name}: {time.monotonic() - began:.2f} s")  # noqa: T201


async def _play(name: str, folder: Path) -> None:
    await SCENES[name](MaterialsWorld(folder, MOUNTS))


if __name__ == "__main__":
    main()
