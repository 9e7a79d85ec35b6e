"""Reading the machine, and what folders take."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest

from pinnace.core.base.pod import Pod
from pinnace.core.base.runtime import (
    CONTAINER_NAME_LABEL,
    POD_UID_LABEL,
    Container,
    ContainerState,
    DiskUsage,
    Runtime,
    RuntimeFailed,
    Usage,
)
from pinnace.core.pods.rules.eviction import ContainerUse, Level, over_limit
from pinnace.core.pods.upkeep.measuring import Measures

LIMIT = {"ephemeral-storage": "1Mi"}


class Told:
    """A runtime that tells usage, or cannot."""

    def __init__(self) -> None:
        self.images = self
        self.is_away = False

    async def usage(self) -> Sequence[Usage]:
        if self.is_away:
            raise RuntimeFailed("away")
        return [Usage("id", 1.0, 1.0, 5000, 4000, disk_bytes=100, disk_inodes=3)]

    async def containers(self, pod_uid: str = "") -> Sequence[Container]:
        labels = {POD_UID_LABEL: "u", CONTAINER_NAME_LABEL: "c"}
        return [Container("id", "s", "c", 0, ContainerState.RUNNING, "", "", "", 1.0, labels=labels)]

    async def disk(self) -> DiskUsage:
        if self.is_away:
            raise RuntimeFailed("away")
        return DiskUsage(Path("/images"), 1, 1000, 400, 50, 20)


class Counts:
    def working_set(self, pod_uid: str) -> int:
        return 7000

    def tasks(self, pod_uid: str) -> int:
        return 9


def measures(tmp_path: Path, runtime: Told) -> Measures:
    proc = tmp_path / "proc"
    (proc / "sys/kernel").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal:    1000 kB\nMemFree:      100 kB\nMemAvailable: 900 kB\nInactive(file): 50 kB\n")
    (proc / "loadavg").write_text("0.1 0.1 0.1 2/345 999\n")
    (proc / "sys/kernel/pid_max").write_text("4194304\n")
    (proc / "sys/kernel/threads-max").write_text("1000\n")
    (tmp_path / "pods").mkdir()
    return Measures(cast(Runtime, runtime), Counts(), pods_dir=tmp_path / "pods", logs_dir=tmp_path / "logs", proc=proc)


async def test_levels(tmp_path: Path) -> None:
    runtime = Told()
    made = measures(tmp_path, runtime)
    levels = await made.levels()
    assert levels["memory.available"] == Level(150 * 1024, 1000 * 1024)
    assert levels["pid.available"] == Level(655, 1000)
    assert levels["imagefs.available"] == Level(400, 1000)
    assert levels["imagefs.inodesFree"] == Level(20, 50)
    assert 0 < levels["nodefs.available"].available <= levels["nodefs.available"].capacity
    runtime.is_away = True
    assert set(await made.levels()) == {"memory.available", "pid.available", "nodefs.available", "nodefs.inodesFree"}


def test_this_machine_is_read(tmp_path: Path) -> None:
    levels = Measures(cast(Runtime, Told()), Counts(), pods_dir=tmp_path, logs_dir=tmp_path)._machine()
    assert 0 < levels["memory.available"].available < levels["memory.available"].capacity
    assert 0 < levels["pid.available"].available < levels["pid.available"].capacity


async def test_what_a_pod_takes(tmp_path: Path) -> None:
    made = measures(tmp_path, Told())
    volumes = tmp_path / "pods/u/volumes/kubernetes.io~empty-dir"
    (volumes / "cache/deep").mkdir(parents=True)
    (volumes / "cache/deep/file").write_bytes(b"x" * 100_000)
    (volumes / "shm").mkdir()
    (volumes / "shm/file").write_bytes(b"x" * 50_000)
    (tmp_path / "logs/default_web_u/c").mkdir(parents=True)
    (tmp_path / "logs/default_web_u/c/0.log").write_bytes(b"x" * 10_000)
    spec = {"volumes": [{"name": "cache", "emptyDir": {}}, {"name": "shm", "emptyDir": {"medium": "Memory"}}]}
    pod = Pod({"metadata": {"name": "web", "uid": "u"}, "spec": spec})
    (use,) = await made.uses([pod], with_disk=True)
    assert use.memory == 7000
    assert use.tasks == 9
    assert use.volumes["cache"] >= 100_000
    assert use.volumes["shm"] >= 50_000
    assert use.volumes["cache"] + 10_100 <= use.disk < use.volumes["cache"] + 40_000, "volumes in memory are no disk"
    assert use.inodes == 3 + 2 + 1
    (part,) = use.containers
    assert part.memory == 5000
    assert part.disk >= 10_100
    (use,) = await made.uses([pod], with_disk=False)
    assert (use.disk, use.volumes, use.containers) == (100, {}, (ContainerUse("c", 5000, 100),))


@pytest.mark.parametrize("file", ["etc-hosts", "etc-hostname", "containers/c/0"])
async def test_a_pod_pays_for_what_it_writes_to_files_that_are_not_its_own(tmp_path: Path, file: str) -> None:
    made = measures(tmp_path, Told())
    path = tmp_path / "pods/u" / file
    path.parent.mkdir(parents=True)
    pod = Pod({"metadata": {"name": "web", "uid": "u"}, "spec": {"containers": [{"name": "c", "resources": {"limits": LIMIT}}]}})
    path.write_bytes(b"127.0.0.1 localhost\n")
    os.truncate(path, 1 << 30)
    (use,) = await made.uses([pod], with_disk=True)
    assert use.disk < 100_000, "holes cost nothing"
    assert not over_limit(use)
    path.write_bytes(b"x" * (2 << 20))
    (use,) = await made.uses([pod], with_disk=True)
    assert use.disk >= 2 << 20
    assert over_limit(use) == "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. "


async def test_a_runtime_that_is_away(tmp_path: Path) -> None:
    runtime = Told()
    runtime.is_away = True
    (use,) = await measures(tmp_path, runtime).uses([Pod({"metadata": {"uid": "u"}})], with_disk=True)
    assert (use.memory, use.disk, use.containers) == (7000, 0, ())
