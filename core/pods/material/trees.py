"""Trees that somebody else writes in: opening a path in them, giving them to a group. No step follows a link out.

Everything works from descriptor to descriptor, so that renaming things meanwhile gains nothing. All of it blocks.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_PLACE: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_LINKS: Final = 40


class Escape(PermissionError):
    """A path leads out of its volume."""


@contextlib.contextmanager
def opened(root: Path, inside: str, *, create_mode: int | None = None) -> Iterator[int]:
    """A descriptor (O_PATH) of what is at `inside` below `root`, links within it followed. With `create_mode`, folders that are missing
    are made with that mode. Raises Escape when the way leads out, OSError when there is none."""
    if inside.startswith("/") or ".." in inside.split("/"):
        raise Escape(errno.EACCES, "expected a path within the volume, without '..'", inside)
    way = [os.open(root, os.O_PATH | os.O_CLOEXEC)]
    try:
        _walk(way, deque(inside.split("/")), inside, create_mode)
        yield way[-1]
    finally:
        for each in way:
            os.close(each)


def _walk(way: list[int], ahead: deque[str], inside: str, create_mode: int | None) -> None:
    links = 0
    while ahead:
        step = ahead.popleft()
        if step in ("", "."):
            continue
        if step == "..":
            if len(way) == 1:
                raise Escape(errno.EACCES, "a link leads out of the volume", inside)
            os.close(way.pop())
            continue
        place = _step(way[-1], step, create_mode)
        mode = os.fstat(place).st_mode
        if not stat.S_ISLNK(mode):
            way.append(place)
            continue
        try:
            target = os.readlink("", dir_fd=place)
        finally:
            os.close(place)
        links += 1
        if target.startswith("/"):
            raise Escape(errno.EACCES, "a link leads out of the volume", inside)
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, "too many links", inside)
        ahead.extendleft(reversed(target.split("/")))


def _step(folder: int, name: str, create_mode: int | None) -> int:
    try:
        return os.open(name, _PLACE, dir_fd=folder)
    except FileNotFoundError:
        if create_mode is None:
            raise
    try:
        os.mkdir(name, create_mode, dir_fd=folder)
    except FileExistsError:  # somebody else was faster
        return os.open(name, _PLACE, dir_fd=folder)
    place = os.open(name, _PLACE, dir_fd=folder)
    if stat.S_ISDIR(os.fstat(place).st_mode):
        os.chmod(_path(place), create_mode)  # noqa: PTH101 - a descriptor's path, whatever the umask
    return place


def give(root: Path, group: int, *, readonly: bool = False, only_if_root_differs: bool = False) -> None:
    """Let a group own a tree: every entry's group is set; files become readable and writable for it, folders also set-group-ID. With
    `only_if_root_differs` a tree whose top is so already is left alone. Raises OSError."""
    bits = 0o440 if readonly else 0o660
    if only_if_root_differs:
        top = root.stat()
        wanted = bits | 0o110 | stat.S_ISGID
        if top.st_gid == group and stat.S_IMODE(top.st_mode) & wanted == wanted:
            return
    try:
        for _, folders, files, folder in os.fwalk(root, follow_symlinks=False):
            for name in (*folders, *files):
                with contextlib.suppress(FileNotFoundError):  # somebody works in it
                    os.chown(name, -1, group, dir_fd=folder, follow_symlinks=False)
                    _allow(os.open(name, _PLACE, dir_fd=folder), bits)
    except RecursionError as error:
        raise OSError(errno.ELOOP, "its folders lie too deep in each other for fsGroup; remove those", str(root)) from error
    os.chown(root, -1, group)
    _allow(os.open(root, os.O_PATH | os.O_CLOEXEC), bits)


def _allow(place: int, bits: int) -> None:
    """Add permission bits to what a descriptor is, and close it."""
    try:
        mode = os.fstat(place).st_mode
        if stat.S_ISLNK(mode):
            return
        wanted = stat.S_IMODE(mode) | bits | (0o110 | stat.S_ISGID if stat.S_ISDIR(mode) else 0)
        if wanted != stat.S_IMODE(mode):
            os.chmod(_path(place), wanted)  # noqa: PTH101 - a descriptor's path
    finally:
        os.close(place)


def _path(place: int) -> str:
    """A path that is exactly what the descriptor is, whatever its name is by now."""
    return f"/proc/self/fd/{place}"
