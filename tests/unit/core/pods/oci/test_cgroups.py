"""Cgroups of either version, read from files as the kernel writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pinnace.core.pods.oci import cgroups
from pinnace.core.pods.oci.cgroups import Reading


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cgroups, "CGROUPS", tmp_path)
    return tmp_path


def test_reading_of_version_2(tree: Path) -> None:
    folder = tree / "kubepods/c"
    folder.mkdir(parents=True)
    (tree / "cgroup.controllers").write_text("cpu memory\n")
    (folder / "cpu.stat").write_text("usage_usec 1500000\nuser_usec 1\n")
    (folder / "memory.current").write_text("1000\n")
    (folder / "memory.stat").write_text("anon 400\nfile 600\ninactive_file 300\n")
    assert cgroups.read("/kubepods/c") == Reading(1.5, 700, 400)
    (folder / "memory.stat").write_text("inactive_file 3000\n")
    assert cgroups.read("/kubepods/c") == Reading(1.5, 0, 0)
    assert cgroups.read("/kubepods/gone") is None


def test_reading_of_version_1(tree: Path) -> None:
    for name in ("cpuacct", "memory"):
        (tree / name / "kubepods/c").mkdir(parents=True)
    (tree / "cpuacct/kubepods/c/cpuacct.usage").write_text("2500000000\n")
    (tree / "memory/kubepods/c/memory.usage_in_bytes").write_text("1000\n")
    (tree / "memory/kubepods/c/memory.stat").write_text("cache 1\ntotal_rss 200\ntotal_inactive_file 100\n")
    assert cgroups.read("/kubepods/c") == Reading(2.5, 900, 200)
    assert [each.parent.parent.name for each in sorted(cgroups.folders("/kubepods/c"))] == ["cpuacct", "memory"]


@pytest.mark.parametrize(
    ("parent", "is_systemd", "found"),
    [
        ("/kubepods/podx", False, ("/kubepods/podx/id", "/kubepods/podx/id")),
        ("", False, ("/pinnace/id", "/pinnace/id")),
        ("/kubepods.slice/a.slice", True, ("a.slice:pinnace:id", "/kubepods.slice/a.slice/pinnace-id.scope")),
        ("", True, ("system.slice:pinnace:id", "/system.slice/pinnace-id.scope")),
    ],
)
def test_paths_by_driver(parent: str, is_systemd: bool, found: tuple[str, str]) -> None:
    assert cgroups.driver_path(parent, "id", is_systemd=is_systemd) == found


@pytest.mark.parametrize("path", ["", "/", "//"])
def test_the_root_is_nobodys_cgroup(tree: Path, path: str) -> None:
    (tree / "cgroup.controllers").touch()
    (tree / "cgroup.kill").touch()
    cgroups.kill(path)
    assert (tree / "cgroup.kill").read_text() == ""
