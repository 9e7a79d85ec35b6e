"""Kernel and cgroups: each hierarchy is told apart, and what a Raspberry Pi lacks has its line."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from fakes.machine import machine

from pinnace.core.doctor import kernel
from pinnace.core.doctor.finding import Finding, Level

WELL = kernel.KernelFacts("6.1.0-rpi4", "v2", frozenset({"cpu", "memory", "pids", "io"}))


def about(facts: kernel.KernelFacts, matter: str) -> Finding:
    (found,) = [each for each in kernel.check(facts) if each.matter == matter]
    return found


def test_a_machine_that_has_all() -> None:
    assert [each.level for each in kernel.check(WELL)] == [Level.OK, Level.OK]


def test_a_raspberry_pi_without_the_memory_controller(tmp_path: Path) -> None:
    subject = machine(
        tmp_path,
        {
            "/proc/sys/kernel/osrelease": "6.6.20+rpt-rpi-v8",
            "/proc/cmdline": "coherent_pool=1M cgroup_disable=memory root=/dev/mmcblk0p2",
            "/proc/filesystems": "nodev\toverlay\n",
            "/sys/fs/cgroup/cgroup.controllers": "cpuset cpu io pids\n",
            "/boot/firmware/cmdline.txt": "root=/dev/mmcblk0p2\n",
        },
    )
    found = about(kernel.read(subject), "cgroups")
    assert found.level is Level.WARNING
    assert "memory" in found.text
    assert "switches it off" in found.text
    assert found.remedy == "sed -i '1s/$/ cgroup_enable=memory/' /boot/firmware/cmdline.txt && reboot"


def test_the_older_hierarchies_are_known(tmp_path: Path) -> None:
    table = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t3\t1\t1\ncpuacct\t3\t1\t1\nmemory\t0\t1\t0\npids\t5\t1\t1\n"
    files = {"/proc/cgroups": table, "/sys/fs/cgroup/cpu,cpuacct/": "", "/sys/fs/cgroup/memory/": "", "/sys/fs/cgroup/pids/": ""}
    facts = kernel.read(machine(tmp_path, files))
    assert (facts.hierarchy, facts.controllers) == ("v1", frozenset({"cpu", "cpuacct", "pids"}))
    facts = kernel.read(machine(tmp_path, {"/sys/fs/cgroup/unified/": ""}))
    assert facts.hierarchy == "hybrid"


def test_elsewhere_the_line_is_grubs() -> None:
    facts = dataclasses.replace(WELL, controllers=frozenset({"cpu", "pids"}))
    assert "update-grub" in about(facts, "cgroups").remedy


@pytest.mark.parametrize(
    ("change", "matter", "word"),
    [
        ({"release": "4.19.0-26-amd64"}, "kernel", "too old"),
        ({"hierarchy": "", "controllers": frozenset()}, "cgroups", "no control groups"),
        ({"has_overlay": False}, "overlayfs", "overlayfs"),
    ],
)
def test_what_no_pod_can_run_without_is_an_error(change: dict[str, object], matter: str, word: str) -> None:
    found = about(dataclasses.replace(WELL, **change), matter)  # type: ignore[arg-type]
    assert found.level is Level.ERROR
    assert word in found.text
    assert found.remedy


def test_a_node_of_devices_needs_no_cgroups() -> None:
    facts = dataclasses.replace(WELL, hierarchy="", controllers=frozenset(), has_overlay=False, runs_pods=False)
    assert {each.level for each in kernel.check(facts)} == {Level.OK}


def test_overlayfs_that_can_be_loaded_is_there(tmp_path: Path) -> None:
    files = {"/proc/sys/kernel/osrelease": "6.1.0", "/lib/modules/6.1.0/modules.dep": "kernel/fs/overlayfs/overlay.ko.xz:\n"}
    assert kernel.read(machine(tmp_path, files)).has_overlay
