"""Mounting through the C library: Linux, root. Every call blocks for as long as the kernel takes."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import Final, NamedTuple

_NOSUID: Final = 0x2
_NODEV: Final = 0x4
_READONLY: Final = 0x1
_REMOUNT: Final = 0x20
_BIND: Final = 0x1000
_FORCE: Final = 0x1
_DETACH: Final = 0x2
_UNMOUNT_NOFOLLOW: Final = 0x8
_REMOTE: Final = frozenset({"nfs", "nfs4"})
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")


class Mounted(NamedTuple):
    """`device` is the same for all mounts of one file system."""

    point: Path
    device: str
    kind: str

    @property
    def is_remote(self) -> bool:
        """Whether who touches it may wait for a server."""
        return self.kind in _REMOTE


class Mounts:
    """This process's mount namespace."""

    def all(self) -> list[Mounted]:
        """What is mounted, the first mounted first. Does not touch the mounted file systems."""
        found = []
        with Path("/proc/self/mountinfo").open(encoding="utf-8", errors="surrogateescape") as lines:
            for line in lines:
                _, _, device, _, point, *rest = line.split(" ")
                place = Path(_ESCAPED.sub(lambda match: chr(int(match[1], 8)), point))
                found.append(Mounted(place, device, rest[rest.index("-") + 1]))
        return found

    def points(self, below: Path) -> list[Path]:
        """What is mounted at or below a folder, the first mounted first. Does not touch the mounted file systems."""
        top = Path(os.path.realpath(below))
        return [each.point for each in self.all() if each.point.is_relative_to(top)]

    def is_point(self, path: Path) -> bool:
        return Path(os.path.realpath(path.parent), path.name) in self.points(path.parent)

    def tmpfs(self, target: Path, *, size: int = 0, mode: int = 0o755, is_program: bool = True) -> None:
        """A file system in memory, of `size` bytes (0: half of the machine's memory), never swapped out where the kernel can do that.
        `is_program` False takes set-user-ID and device files out of use. Raises OSError."""
        options = f"mode={mode:04o}" + (f",size={size}" if size else "")
        flags = 0 if is_program else _NOSUID | _NODEV
        try:
            _mount("tmpfs", target, "tmpfs", flags, options + ",noswap")
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            _mount("tmpfs", target, "tmpfs", flags, options)

    def bind(self, source: str | Path, target: Path, *, readonly: bool = False) -> None:
        """Make `source`, also /proc/self/fd/N, appear at `target`; what is mounted below it does not. Raises OSError."""
        _mount(os.fspath(source), target, "", _BIND, "")
        if readonly:
            _mount("", target, "", _BIND | _REMOUNT | _READONLY, "")

    def fail(self, target: Path) -> None:
        """Let all that waits for the server of a remote file system fail, wherever that is mounted; it stays mounted. Raises OSError."""
        held = os.open(target, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)  # in use: the kernel would unmount it, too
        try:
            _unmount(target, _UNMOUNT_NOFOLLOW | _FORCE)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
        finally:
            os.close(held)

    def unmount(self, target: Path) -> None:
        """Undo one mount: it is out of sight at once, and ends when nobody uses it any more. Whoever undoes the last one of a server that
        is away waits for it. Nothing happens when there is none. Raises OSError."""
        try:
            _unmount(target, _UNMOUNT_NOFOLLOW | _DETACH)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOENT):
                raise


def _mount(source: str, target: Path, kind: str, flags: int, options: str) -> None:
    import ctypes  # only a node with volumes to mount pays for it

    call = ctypes.CDLL(None, use_errno=True).mount
    call.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
    if call(os.fsencode(source), os.fsencode(target), kind.encode() or None, flags, options.encode() or None):
        number = ctypes.get_errno()
        raise OSError(number, f"mount failed: {os.strerror(number)}", str(target))


def _unmount(target: Path, flags: int) -> None:
    import ctypes

    call = ctypes.CDLL(None, use_errno=True).umount2
    call.argtypes = (ctypes.c_char_p, ctypes.c_int)
    if call(os.fsencode(target), flags):
        number = ctypes.get_errno()
        raise OSError(number, f"unmount failed: {os.strerror(number)}", str(target))
