"""The pods' cgroups in this machine's own hierarchies, below a root of the test's own: limits the kernel took, strays, leftovers."""

from __future__ import annotations

import contextlib
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pinnace.core.base.errors import ConfigError
from pinnace.core.base.pod import Pod
from pinnace.core.base.settings.edged import KubeletSettings
from pinnace.core.pods.ports import SpecRefused
from pinnace.core.pods.upkeep.cgroups import PodCgroups
from pinnace.core.pods.upkeep.hierarchies import CGROUPS, Hierarchies

pytestmark = pytest.mark.root

ROOM = {"cpu": 2000, "memory": 1 << 40}


def pod(uid: str, **resources: Any) -> Pod:
    return Pod({"metadata": {"name": uid, "uid": uid}, "spec": {"containers": [{"name": "c", "resources": resources}]}})


BURSTABLE = {"requests": {"cpu": "500m"}, "limits": {"cpu": "1", "memory": "64Mi"}}
GUARANTEED = {"limits": {"cpu": "250m", "memory": "32Mi"}}


@pytest.fixture
def root() -> Iterator[str]:
    name = f"pinnace-test-{uuid.uuid4().hex[:8]}"
    yield name
    for tree in (Hierarchies(each) for each in (CGROUPS, CGROUPS / "unified") if each.is_dir()):
        for _ in range(200):
            if tree.remove(name):
                break
            subprocess.run(["sleep", "0.02"], check=False)
    assert not any(any(CGROUPS.glob(pattern)) for pattern in (name, f"*/{name}"))


def cgroups(root: str, **settings: Any) -> PodCgroups:
    return PodCgroups(KubeletSettings(cgroup_root=f"/{root}", **settings), room=ROOM)


def value(controller: str, path: str, v1: str, v2: str) -> str:
    tree = Hierarchies()
    return tree.read(controller, path, v2 if tree.is_unified else v1).strip()


async def test_limits_of_pods_and_tiers(root: str) -> None:
    made = cgroups(root, pod_pids_limit=50)
    burstable, guaranteed, best = pod("b-1", **BURSTABLE), pod("g-1", **GUARANTEED), pod("e-1")
    assert made.parent(burstable) == f"/{root}/kubepods/burstable/podb-1"
    assert made.parent(guaranteed) == f"/{root}/kubepods/podg-1"
    assert made.parent(best) == f"/{root}/kubepods/besteffort/pode-1"
    for each in (burstable, guaranteed, best):
        await made.ensure(each)
    at = made.parent(burstable)[1:]
    assert value("memory", at, "memory.limit_in_bytes", "memory.max") == str(64 << 20)
    assert value("cpu", at, "cpu.shares", "cpu.weight") in ("512", "20")
    assert value("cpu", at, "cpu.cfs_quota_us", "cpu.max").startswith("100000")
    assert value("pids", at, "pids.max", "pids.max") == "50"
    assert value("cpu", f"{root}/kubepods/burstable", "cpu.shares", "cpu.weight") in ("512", "20")
    assert value("cpu", f"{root}/kubepods/besteffort", "cpu.shares", "cpu.weight") in ("2", "1")
    assert value("cpu", f"{root}/kubepods", "cpu.shares", "cpu.weight") in ("2048", "79")
    assert value("cpu", made.parent(best)[1:], "cpu.cfs_quota_us", "cpu.max").split()[0] in ("-1", "max")
    assert set(made.leftovers()) == {"b-1", "g-1", "e-1"}


async def test_another_agent_finds_and_removes_what_the_former_left(root: str) -> None:
    await cgroups(root).ensure(pod("left", **BURSTABLE))
    after = cgroups(root)
    assert set(after.leftovers()) == {"left"}
    await after.ensure(pod("left", **BURSTABLE))
    await after.remove("left")
    assert not after.leftovers()
    await after.remove("left")


async def test_a_tree_that_somebody_removed_is_made_again(root: str) -> None:
    made = cgroups(root)
    await made.ensure(pod("p", **GUARANTEED))
    Hierarchies().remove(f"{root}/kubepods")
    await made.ensure(pod("p", **GUARANTEED))
    assert value("memory", f"{root}/kubepods/podp", "memory.limit_in_bytes", "memory.max") == str(32 << 20)


@contextlib.contextmanager
def stray(folders: list[Path]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "600"])
    try:
        for each in folders:
            (each / "cgroup.procs").write_text(str(process.pid))
        yield process
    finally:
        process.kill()
        process.wait()


async def test_strays_are_ended_and_counted(root: str) -> None:
    made, web = cgroups(root), pod("web", **BURSTABLE)
    await made.ensure(web)
    path = made.parent(web)[1:]
    folders = sorted({folder for each in ("memory", "pids") if (folder := Hierarchies().folder(each, path)) is not None})
    for each in folders:
        (each / "container").mkdir()
    with stray([each / "container" for each in folders]) as process:
        assert made.tasks("web") == 1
        assert made.working_set("web") >= 0
        await made.remove("web")
        assert process.wait(timeout=10) == -9
    for _ in range(500):
        await made.remove("web")
        if not made.leftovers():
            break
        subprocess.run(["sleep", "0.01"], check=False)
    assert not made.leftovers()
    assert made.tasks("web") == made.working_set("web") == 0


async def test_memory_in_use_is_seen(root: str) -> None:
    made, web = cgroups(root), pod("web", **BURSTABLE)
    await made.ensure(web)
    folder = Hierarchies().folder("memory", made.parent(web)[1:])
    assert folder is not None
    (folder / "container").mkdir()
    script = 'echo $$ > "$0/cgroup.procs"; exec python3 -c "x = b\'x\' * (20 << 20); print(len(x), flush=True); input()"'
    with subprocess.Popen(["sh", "-c", script, str(folder / "container")], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        used = made.working_set("web")
        process.communicate(b"\n")
    assert 20 << 20 <= used <= 40 << 20


@pytest.mark.skipif(not (CGROUPS / "unified/cgroup.controllers").exists(), reason="no cgroup v2 hierarchy beside v1 here")
def test_a_v2_hierarchy_is_delegated_and_cleared(root: str) -> None:
    tree = Hierarchies(CGROUPS / "unified")
    assert tree.is_unified
    tree.make(f"{root}/kubepods/podx/c")
    controllers = (tree.roots[0] / "cgroup.controllers").read_text().split()
    assert (tree.roots[0] / root / "kubepods/podx/cgroup.subtree_control").read_text().split() == controllers
    with stray([tree.roots[0] / root / "kubepods/podx/c"]) as process:
        tree.remove(f"{root}/kubepods")
        assert process.wait(timeout=10) == -9
    for _ in range(500):
        if tree.remove(f"{root}/kubepods"):
            break
        subprocess.run(["sleep", "0.01"], check=False)
    assert tree.children(root) == set()


async def test_a_limit_the_kernel_refuses_is_the_pod_s_trouble(root: str) -> None:
    made = cgroups(root)
    with pytest.raises(SpecRefused) as refused:
        await made.ensure(pod("bad", limits={"cpu": "many"}))
    assert refused.value.reason == "FailedCreatePodContainer"
    assert not made.leftovers()


def test_names_of_the_systemd_driver() -> None:
    made = PodCgroups(KubeletSettings(cgroup_driver="systemd"), room=ROOM)
    assert made.parent(pod("a-b", **BURSTABLE)) == "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-poda_b.slice"
    assert made.parent(pod("a-b", **GUARANTEED)) == "/kubepods.slice/kubepods-poda_b.slice"
    with pytest.raises(ConfigError, match="cgroupRoot"):
        PodCgroups(KubeletSettings(cgroup_driver="systemd", cgroup_root="/edge"), room=ROOM)
    with pytest.raises(ConfigError, match="cgroupRoot"):
        PodCgroups(KubeletSettings(cgroup_root="/../x"), room=ROOM)
