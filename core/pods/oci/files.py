"""Folders that go at once, and processes by when they began."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from pinnace.core.base import folders
from pinnace.core.base.files import set_mode

GONE = ".gone-"
"""What a folder's name begins with once it is being removed: the next start removes what is left of it."""


def make_private(folder: Path) -> None:
    """Make a folder, and those above it, that only root may enter, also where one is there already: a container leaves what it likes in it,
    programs that run as root (set-user-ID) too. Blocks. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    set_mode(folder, 0o700)


def remove_folder(folder: Path) -> None:
    """Remove a folder with all in it; it is gone under its name at once, and half-removed folders are found by `sweep`."""
    gone = folder.with_name(f"{GONE}{folder.name}")
    try:
        folder.rename(gone)
    except FileNotFoundError:
        return
    except OSError:
        gone = folder
    _remove(gone)


def sweep(folder: Path) -> None:
    for each in folder.glob(f"{GONE}*"):
        _remove(each)


def _remove(folder: Path) -> None:
    """All of it, or as much as can be: a container makes folders as deep as it likes."""
    try:
        folders.remove(folder)
    except OSError:
        with contextlib.suppress(RecursionError):
            shutil.rmtree(folder, ignore_errors=True)


def start_time(pid: int) -> int:
    """When a process started, in clock ticks after boot (proc(5), stat, field 22); 0 when there is none, or one that has ended and whose
    parent has not asked for its end yet."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    fields = text.rpartition(b")")[2].split()
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])
