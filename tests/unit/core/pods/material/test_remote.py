"""Whose volumes may be made to fail when their server is away: nobody else's data is at stake."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from pinnace.core.base.aio.aside import Aside
from pinnace.core.pods.material import remote
from pinnace.core.pods.material.folders import PodFolders
from pinnace.core.pods.material.mounts import Mounted, Mounts
from pinnace.core.pods.material.remote import RemoteVolumes, own_points, points

ROOT = Path("/var/lib/kubelet")
FOLDERS = PodFolders(ROOT, Path("/var/log/pods"))


class Table(Mounts):
    """A machine's mounts, of which those that are failed and unmounted are noted."""

    def __init__(self, *mounted: Mounted) -> None:
        self.mounted = mounted
        self.failed: list[Path] = []

    def all(self) -> list[Mounted]:
        return list(self.mounted)

    def fail(self, target: Path) -> None:
        self.failed.append(target)


def nfs(uid: str, name: str, device: str) -> Mounted:
    return Mounted(FOLDERS.volume(uid, "nfs", name), device, "nfs4")


A, A_TOO, B, C = nfs("a", "one", "0:40"), nfs("a", "two", "0:41"), nfs("b", "one", "0:40"), nfs("c", "far", "0:42")
SUBPATH = Mounted(FOLDERS.subpath("a", "one", "main", 0), "0:40", "nfs4")
LOCAL = Mounted(FOLDERS.volume("a", "empty-dir", "memory"), "0:50", "tmpfs")


def test_remote_points_of_a_pod_come_last_mounted_first() -> None:
    table = Table(LOCAL, A, B, SUBPATH, C)
    assert points(table, FOLDERS.pod("a")) == [SUBPATH.point, A.point]
    assert points(table, FOLDERS.pod("x")) == []


def test_what_others_have_mounted_too_is_left_alone() -> None:
    table = Table(LOCAL, A, A_TOO, SUBPATH, B, C)
    assert own_points(table, [FOLDERS.pod("a")]) == [A_TOO.point]
    assert own_points(table, [FOLDERS.pod("a"), FOLDERS.pod("b")]) == [A.point, A_TOO.point]
    assert own_points(Table(A, Mounted(Path("/mnt/nas"), "0:40", "nfs")), [FOLDERS.pod("a")]) == []
    assert own_points(table, [FOLDERS.pod("ab")]) == []


async def test_only_a_server_that_is_away_is_given_up(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    away: set[Path] = set()

    async def answers(point: Path) -> None:
        if point in away:
            raise OSError(f"{point}: no answer")

    async def run_unmount(point: Path) -> None:
        table.mounted = tuple(each for each in table.mounted if each.point != point)
        await answers(point)

    monkeypatch.setattr(remote, "answers", answers)
    monkeypatch.setattr(remote, "run_unmount", run_unmount)
    monkeypatch.setattr(remote, "FAILURES", 1)
    monkeypatch.setattr(remote, "PAUSE_SECONDS", 0)
    table = Table(LOCAL, A, A_TOO, B)
    volumes = RemoteVolumes(FOLDERS, table, Aside())
    await volumes.abandon("a")
    assert table.failed == [], "the server answers: what is slow may take its time"
    away |= {A.point, A_TOO.point, B.point}
    await volumes.abandon("a")
    assert table.failed == [A_TOO.point], "the pod b has the other one too"
    await volumes.abandon("b")
    assert table.failed[1:] == [A.point, A_TOO.point], "both pods are to end"
    with caplog.at_level(logging.WARNING):
        await volumes.unmount("a")
    assert f"path={A.point} reason={A.point}: no answer; it is unmounted all the same" in caplog.text
    await volumes.abandon("b")
    assert table.failed[3:] == [B.point]
    away.clear()
    table.mounted = (A, B)
    away.add(B.point)
    await volumes.abandon("b")
    assert table.failed[4:] == [], "a new pod of that uid is not given up"


def test_the_kernels_own_table_is_read() -> None:
    found = Mounts().all()
    assert Path("/proc") in [each.point for each in found if each.kind == "proc"]
    assert not any(each.is_remote for each in found if each.kind in ("proc", "tmpfs", "overlay"))
