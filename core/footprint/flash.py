"""What was written: by a process as the kernel accounts it, and to the block device below a folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

SECTOR_BYTES: Final = 512
"""Of /sys/block/*/stat, whatever the device's own are (Linux, block/stat)."""


def written_by(pid: int, proc: Path = Path("/proc")) -> int:
    """Bytes a process had sent, or will have sent, to storage (proc(5), io: write_bytes). Raises OSError."""
    for line in (proc / str(pid) / "io").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == "write_bytes":
            return int(value)
    return 0


def device_of(path: Path, system: Path = Path("/sys")) -> Path | None:
    """The block device that holds a file, as its folder in /sys; None for a file system without one: tmpfs, overlay, NFS."""
    while not path.exists() and path != path.parent:
        path = path.parent
    number = path.stat().st_dev
    folder = system / "dev/block" / f"{os.major(number)}:{os.minor(number)}"
    return folder.resolve() if (folder / "stat").exists() else None


def written_to(device: Path) -> int:
    """Bytes written to a device of `device_of` since the machine started. Raises OSError."""
    return int((device / "stat").read_text().split()[6]) * SECTOR_BYTES


def cpu_seconds(pid: int, proc: Path = Path("/proc")) -> float:
    """User and system time, of children that ended too. Raises OSError."""
    fields = (proc / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    return sum(int(each) for each in fields[11:15]) / os.sysconf("SC_CLK_TCK")
