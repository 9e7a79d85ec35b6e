"""What a folder takes on the disk, and how large the disk is."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final, NamedTuple

_BLOCK: Final = 512


class Footprint(NamedTuple):
    """What a folder or a file takes."""

    bytes: int
    inodes: int


def footprint(folder: Path) -> Footprint:
    """Of what is in a folder, on its own file system; what has several names counts once, what goes meanwhile not at all. Blocks."""
    total, count, seen = 0, 0, set()
    try:
        device = folder.lstat().st_dev
    except OSError:
        return Footprint(0, 0)
    waiting = [str(folder)]
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                stat = _stat(entry)
                if stat is None or stat.st_dev != device or (stat.st_nlink > 1 and stat.st_ino in seen):
                    continue
                if stat.st_nlink > 1:
                    seen.add(stat.st_ino)
                total, count = total + footprint_of(stat).bytes, count + 1
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
    return Footprint(total, count)


def footprint_of(stat: os.stat_result) -> Footprint:
    """Of one file: what is allocated, so that holes in it cost nothing."""
    return Footprint(stat.st_blocks * _BLOCK, 1)


def file_system(folder: Path) -> os.statvfs_result:
    """The file system that a folder is on, or will be on once it is made. Raises OSError."""
    for each in (folder, *folder.parents):
        with contextlib.suppress(FileNotFoundError, PermissionError):
            return os.statvfs(each)
    return os.statvfs("/")


def _stat(entry: os.DirEntry[str]) -> os.stat_result | None:
    """None when it is gone by now."""
    try:
        return entry.stat(follow_symlinks=False)
    except OSError:
        return None
