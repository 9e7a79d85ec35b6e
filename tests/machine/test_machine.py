"""The emulated machine is what these tests take it for."""

from __future__ import annotations

import subprocess
from pathlib import Path


def test_cgroups_are_pure_v2() -> None:
    assert {"cpu", "memory", "pids"} <= set(Path("/sys/fs/cgroup/cgroup.controllers").read_text().split())


def test_the_first_process_is_systemd_and_logind_answers() -> None:
    assert Path("/proc/1/comm").read_text().strip() == "systemd"
    login = "org.freedesktop.login1"
    answer = subprocess.run(
        ["busctl", "call", login, "/org/freedesktop/login1", f"{login}.Manager", "ListInhibitors"], check=True, capture_output=True
    )
    assert answer.stdout.startswith(b"a(ssssuu)")


def test_the_kernel_serves_and_mounts_nfs() -> None:
    for module in ("nfsd", "nfs", "veth", "bridge", "overlay"):
        subprocess.run(["modprobe", module], check=True)
