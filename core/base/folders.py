"""Folders that somebody else writes in, as deep as that makes them: no step follows a link out, no level takes stack. All of it blocks."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DEEPEST: Final = 48


def deepest_first(folder: Path) -> Iterable[Path]:
    """A folder and those below it. What goes meanwhile is left out."""
    found = [folder]
    for each in found:  # it grows
        with contextlib.suppress(OSError), os.scandir(each) as entries:
            found += [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    return reversed(found)


def remove(path: Path) -> None:
    """Remove a folder and all in it. Nothing happens when there is none. Raises OSError (EBUSY) without touching what is mounted
    somewhere in it."""
    try:
        top = os.open(path, _FOLDER)
    except FileNotFoundError:
        return
    try:
        _empty(top, top, _mount_id(top), 0)
    finally:
        os.close(top)
    path.rmdir()


def _empty(folder: int, top: int, mount: str, depth: int) -> None:
    """Folders that lie too deep are brought to the top first: a tree of any depth takes a few descriptors."""
    while names := os.listdir(folder):
        for name in names:
            _remove_entry(name, folder, top, mount, depth)


def _remove_entry(name: str, folder: int, top: int, mount: str, depth: int) -> None:
    if not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        os.unlink(name, dir_fd=folder)
        return
    if depth >= _DEEPEST:
        os.rename(name, f".removed-{os.urandom(8).hex()}", src_dir_fd=folder, dst_dir_fd=top)
        return
    inner = os.open(name, _FOLDER, dir_fd=folder)
    try:
        if _mount_id(inner) != mount:
            raise OSError(errno.EBUSY, "something is mounted there", name)
        _empty(inner, top, mount, depth + 1)
    finally:
        os.close(inner)
    os.rmdir(name, dir_fd=folder)


def _mount_id(descriptor: int) -> str:
    for line in Path(f"/proc/self/fdinfo/{descriptor}").read_text(encoding="ascii").splitlines():
        if line.startswith("mnt_id:"):
            return line
    raise OSError(errno.ENOSYS, "the kernel does not say what is mounted where")
