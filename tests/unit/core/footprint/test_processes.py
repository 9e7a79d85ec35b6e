"""Whose processes are a node's, and what each is there for."""

from __future__ import annotations

from pathlib import Path

import pytest

from pinnace.core.footprint import live
from pinnace.core.footprint.processes import Group, name_of, pod_of, running

UID = "20d7c717-9038-41da-a828-70bc45b1f35b"


@pytest.mark.parametrize(
    ("cgroups", "uid"),
    [
        (f"0::/kubepods/burstable/pod{UID}/abc\n", UID),
        (f"0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{UID.replace('-', '_')}.slice/pinnace-abc.scope\n", UID),
        (f"4:memory:/pinnace-edge-1/kubepods/pod{UID}/abc\n0::/\n", UID),
        ("0::/kubepods/besteffort/pod0123456789abcdef0123456789abcdef/x\n", "0123456789abcdef0123456789abcdef"),
        ("0::/system.slice/ssh.service\n", ""),
        (f"0::/elsewhere/pod{UID}/\n", ""),
    ],
)
def test_a_pod_is_known_by_its_cgroup(cgroups: str, uid: str) -> None:
    assert pod_of(cgroups) == uid


@pytest.mark.parametrize(
    ("words", "name", "group"),
    [
        (["/opt/pinnace/current/pinnace", "edgecore", "--config", "x"], "pinnace edgecore", Group.AGENT),
        (["./pinnace-0.1.0-arm64", "edgecore", "--config", "x"], "pinnace edgecore", Group.AGENT),
        (["sh", "pinnace-0.1.0rc1.dev2+b1-amd64", "mapper", "gpio"], "pinnace mapper gpio", Group.MAPPERS),
        (["python", "-m", "pinnace.core.base.cli", "mapper", "gpio"], "pinnace mapper gpio", Group.MAPPERS),
        (["/x/pinnace-shim", "supervise"], "pinnace-shim", Group.SUPERVISION),
        (["pinnace-pause"], "pinnace-pause", Group.SUPERVISION),
        (["/usr/bin/containerd-shim-runc-v2", "-id"], "containerd-shim-runc-v2", Group.RUNTIME),
        (["sudo", "pinnace", "edgecore"], "", None),
        (["somebody", "else"], "", None),
    ],
)
def test_a_command_line_has_a_name(words: list[str], name: str, group: Group | None) -> None:
    assert name_of(words) == (name, group)


def test_a_tree_of_processes(tmp_path: Path) -> None:
    def process(pid: int, parent: int, words: str, cgroup: str = "0::/") -> None:
        folder = tmp_path / str(pid)
        folder.mkdir()
        (folder / "cmdline").write_text(words.replace(" ", "\0") + "\0")
        (folder / "stat").write_text(f"{pid} (a) b) S {parent} 0 0")
        (folder / "cgroup").write_text(cgroup)

    process(1, 0, "/sbin/init")
    process(10, 1, "pinnace edgecore")
    process(11, 10, "mosquitto -c x")
    process(12, 10, "/bin/sh -c probe")
    process(13, 12, "openssl req")
    process(14, 1, "pinnace-shim supervise")
    process(15, 14, "sleep 100", f"0::/kubepods/pod{UID}/c")
    process(16, 15, "pinnace mapper gpio", f"0::/kubepods/pod{UID}/c")
    process(17, 1, "pinnace get pods")
    process(18, 1, "bash")
    process(19, 10, "pinnace image-child")
    (tmp_path / "self").mkdir()
    found = [(each.pid, each.group, each.pod) for each in running(tmp_path, without=[17])]
    assert found == [
        (10, Group.AGENT, ""),
        (12, Group.CHILDREN, ""),
        (13, Group.CHILDREN, ""),
        (19, Group.CHILDREN, ""),
        (14, Group.SUPERVISION, ""),
        (11, Group.BROKER, ""),
        (15, Group.PODS, UID),
        (16, Group.PODS, UID),
    ]


def test_what_ends_while_it_is_looked_at_is_no_problem_unless_asked_for(tmp_path: Path) -> None:
    folder = tmp_path / "10"
    folder.mkdir()
    (folder / "cmdline").write_text("pinnace\0edgecore\0")
    (folder / "stat").write_text("10 (pinnace) S 1 0 0")
    (folder / "cgroup").write_text("0::/")
    found = live.look(proc=tmp_path)  # its smaps are gone
    assert (found.uses, found.problems) == ([], {})
    assert list(live.look([10], proc=tmp_path).problems) == [10]
