"""Folders that go at once, and processes by when they began."""

from __future__ import annotations

import shutil
from pathlib import Path

GONE = ".gone-"
"""What a folder's name begins with once it is being removed: the next start removes what is left of it."""


def remove_folder(folder: Path) -> None:
    """Remove a folder with all in it; it is gone under its name at once, and half-removed folders are found by `sweep`."""
    gone = folder.with_name(f"{GONE}{folder.name}")
    try:
        folder.rename(gone)
    except FileNotFoundError:
        return
    except OSError:
        gone = folder
    shutil.rmtree(gone, ignore_errors=True)


def sweep(folder: Path) -> None:
    for each in folder.glob(f"{GONE}*"):
        shutil.rmtree(each, ignore_errors=True)


def start_time(pid: int) -> int:
    """When a process started, in clock ticks after boot (proc(5), stat, field 22); 0 when there is none, or one that has ended and whose
    parent has not asked for its end yet."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    fields = text.rpartition(b")")[2].split()
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])
