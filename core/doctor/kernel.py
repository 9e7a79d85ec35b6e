"""The kernel: its age, control groups with the controllers that keep pods to their limits, overlayfs."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pinnace.core.doctor.finding import Finding, Level
from pinnace.core.doctor.subject import Subject

OLDEST: Final = (5, 4)
"""pidfd_open and what crun needs."""
_NEEDED: Final = ("cpu", "memory", "pids")
_COMMAND_LINES: Final = ("/boot/firmware/cmdline.txt", "/boot/cmdline.txt")


@dataclass(frozen=True, slots=True)
class KernelFacts:
    """`hierarchy` is v1, v2, hybrid or "" for none; `command_line_file` is where a Raspberry Pi keeps the kernel's command line."""

    release: str
    hierarchy: str
    controllers: frozenset[str]
    command_line: str = ""
    command_line_file: str = ""
    has_overlay: bool = True
    runs_pods: bool = True


def read(subject: Subject) -> KernelFacts:
    mount = subject.path("/sys/fs/cgroup")
    unified = subject.text("/sys/fs/cgroup/cgroup.controllers")
    if (mount / "cgroup.controllers").exists():
        hierarchy, controllers = "v2", frozenset(unified.split())
    else:
        folders = frozenset(each.name for each in mount.iterdir() if each.is_dir()) if mount.is_dir() else frozenset()
        controllers = frozenset(name for each in folders for name in each.split(",")) & _known(subject)
        hierarchy = ("hybrid" if "unified" in folders else "v1") if controllers else ""
    overlay = "overlay" in subject.text("/proc/filesystems").split() or subject.path("/sys/module/overlay").exists()
    release = platform.release() if subject.is_real else subject.text("/proc/sys/kernel/osrelease")
    return KernelFacts(
        release,
        hierarchy,
        controllers,
        subject.text("/proc/cmdline"),
        next((each for each in _COMMAND_LINES if subject.path(each).exists()), ""),
        overlay or _has_module(subject, release, "overlay"),
        subject.settings.modules.edged.enable,
    )


def _known(subject: Subject) -> frozenset[str]:
    """The controllers that the kernel has switched on (cgroups(7), /proc/cgroups)."""
    rows = [line.split() for line in subject.text("/proc/cgroups").splitlines() if not line.startswith("#")]
    return frozenset(row[0] for row in rows if len(row) == 4 and row[3] == "1")


def _has_module(subject: Subject, release: str, name: str) -> bool:
    """Whether it could be loaded."""
    folder = f"/lib/modules/{release}"
    listed = subject.text(f"{folder}/modules.dep") + subject.text(f"{folder}/modules.builtin")
    return bool(re.search(rf"/{name}\.ko", listed))


def check(facts: KernelFacts) -> Iterator[Finding]:
    version = tuple(int(each) for each in re.findall(r"\d+", facts.release)[:2])
    if version < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        text = f"{facts.release} is too old: containers need {wanted} or newer"
        yield Finding("kernel", Level.ERROR, text, "apt-get update && apt-get dist-upgrade")
    else:
        yield Finding("kernel", Level.OK, facts.release)
    if not facts.runs_pods:
        yield Finding("cgroups", Level.OK, "not needed: this node runs no pods")
        return
    yield _cgroups(facts)
    if not facts.has_overlay:
        text = "overlayfs is missing, on which containers' file systems are built: no pod can start"
        yield Finding("overlayfs", Level.ERROR, text, "modprobe overlay && echo overlay >/etc/modules-load.d/overlay.conf")


def _cgroups(facts: KernelFacts) -> Finding:
    if not facts.hierarchy:
        text = "there are no control groups at /sys/fs/cgroup: no pod can start"
        return Finding("cgroups", Level.ERROR, text, "mount -t cgroup2 cgroup2 /sys/fs/cgroup")
    missing = [each for each in _NEEDED if each not in facts.controllers]
    if not missing:
        return Finding("cgroups", Level.OK, f"{facts.hierarchy}, with {', '.join(_NEEDED)}")
    text = f"{facts.hierarchy}, without {', '.join(missing)}: such limits of pods are not kept"
    if "memory" not in missing:
        return Finding("cgroups", Level.WARNING, text, "zgrep -E 'CGROUP_(PIDS|SCHED)' /proc/config.gz  # this kernel was built without it")
    return Finding("cgroups", Level.WARNING, text + _why(facts.command_line), _with_memory(facts.command_line_file))


def _why(command_line: str) -> str:
    words = command_line.split()
    if "cgroup_disable=memory" in words and "cgroup_enable=memory" not in words:
        return "; the kernel's command line switches it off, as a Raspberry Pi's firmware does"
    return ""


def _with_memory(file: str) -> str:
    """Appending to the one line of cmdline.txt, or to GRUB's."""
    if file:
        return f"sed -i '1s/$/ cgroup_enable=memory/' {file} && reboot"
    line = 'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX cgroup_enable=memory"'
    return f"echo '{line}' >>/etc/default/grub && update-grub && reboot"
