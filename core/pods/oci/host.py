"""What this machine is like, as far as a container's configuration depends on it."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CGROUPS: Final = Path("/sys/fs/cgroup")
_NAMES: Final = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
    "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN "
    "SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE "
    "MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE "
)
CAPABILITIES: Final = tuple(_NAMES.split())
"""In the order of their numbers (capabilities(7))."""
_NOT_DEVICES: Final = frozenset({"pts", "shm", "fd", "mqueue", "console", ".udev", "ptmx", "hugepages"})


@dataclass(frozen=True, slots=True)
class DeviceNode:
    """A device file: `kind` is c or b."""

    path: str
    kind: str
    major: int
    minor: int
    mode: int = 0o666
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class Host:
    """`capabilities` are those the agent may give away; `least_oom_score` is what it cannot go below."""

    is_cgroup_v2: bool
    capabilities: frozenset[str]
    least_oom_score: int = -1000
    limits_swap: bool = False
    has_hugetlb: bool = False
    has_apparmor: bool = False


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def survey() -> Host:
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    mask = int(status["CapBnd"], 16) & int(status["CapPrm"], 16)
    held = frozenset(name for number, name in enumerate(CAPABILITIES) if mask >> number & 1)
    is_v2 = (CGROUPS / "cgroup.controllers").exists()
    has_swap = len(Path("/proc/swaps").read_text().splitlines()) > 1
    apparmor = Path("/sys/module/apparmor/parameters/enabled")
    return Host(
        is_cgroup_v2=is_v2,
        capabilities=held,
        least_oom_score=-1000 if "SYS_RESOURCE" in held else int(Path("/proc/self/oom_score_adj").read_text()),
        limits_swap=has_swap and (is_v2 or (CGROUPS / "memory/memory.memsw.limit_in_bytes").exists()),
        has_hugetlb="hugetlb" in (CGROUPS / "cgroup.controllers").read_text() if is_v2 else (CGROUPS / "hugetlb").is_dir(),
        has_apparmor=apparmor.exists() and apparmor.read_text().startswith("Y"),
    )


def device(path: Path, shown_as: str = "") -> DeviceNode | None:
    """The device file at `path` (links are followed), or None when it is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    kind = "c" if stat.S_ISCHR(found.st_mode) else "b" if stat.S_ISBLK(found.st_mode) else ""
    if not kind:
        return None
    number = found.st_rdev
    return DeviceNode(
        shown_as or str(path), kind, os.major(number), os.minor(number), stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid
    )


def devices(folder: Path = Path("/dev"), shown_as: str = "") -> Iterator[DeviceNode]:
    """Every device file below a folder, but for what a container gets of its own."""
    with contextlib.suppress(OSError):
        for entry in sorted(os.scandir(folder), key=lambda each: each.name):
            if folder == Path("/dev") and entry.name in _NOT_DEVICES:
                continue
            path, shown = folder / entry.name, f"{shown_as or folder}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                yield from devices(path, shown)
            elif not entry.is_symlink() and (found := device(path, shown)) is not None:
                yield found
