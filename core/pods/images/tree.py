"""Writes an unpacked layer below one folder and nowhere else: every step goes through directory descriptors and follows no link by itself.

The folder becomes an overlay's lower directory above `lowers`. Whiteouts become the kernel's (a character device 0:0, an opaque xattr), and
a folder that a layer only implies takes owner and mode from the layers below, since in an overlay the topmost folder's count.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pinnace.core.base.errors import PinnaceError

MAX_FILES: Final = 1_000_000
"""Of one image."""
CAPABILITY: Final = "security.capability"
_OPAQUE: Final = "trusted.overlay.opaque"
_HOPS: Final = 40
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
Parts = tuple[str, ...]


class LayerRefused(PinnaceError):
    """The layer is damaged or does what no layer may; the message says what."""


@dataclass(slots=True)
class Quota:
    """What an image may still take."""

    limit: int
    bytes_left: int
    files_left: int = MAX_FILES

    def take(self, size: int, files: int = 0) -> None:
        """Raises LayerRefused."""
        self.bytes_left -= size
        self.files_left -= files
        if size < 0 or self.bytes_left < 0:
            raise LayerRefused(f"the image unpacks to more than the {self.limit} bytes that maxImageBytes of builtinRuntime allows")
        if self.files_left < 0:
            raise LayerRefused(f"the image unpacks to more than {MAX_FILES} files")


@dataclass(frozen=True, slots=True)
class Attributes:
    """What a file has besides its content; `mtime` in nanoseconds."""

    mode: int
    uid: int
    gid: int
    mtime: int
    xattrs: Mapping[str, bytes] = field(default_factory=dict)


_PLAIN: Final = Attributes(0o755, 0, 0, 0)
"""Of a folder that nothing is said about."""


def parts_of(name: str) -> Parts:
    """The parts of a name in a layer; the layer's root is (). An absolute name is one from the root. Raises LayerRefused."""
    parts = tuple(each for each in name.split("/") if each not in ("", "."))
    if ".." in parts:
        raise LayerRefused(f"the layer climbs out of its root with '{name}'")
    if "\0" in name:
        raise LayerRefused(f"the layer has a name with a zero byte: {name!r}")
    return parts


class Tree:
    """One layer being written. `lowers` are the layers below it, the topmost first. Every call may raise LayerRefused or OSError."""

    def __init__(self, root: Path, lowers: Sequence[Path], quota: Quota) -> None:
        self._root = os.open(root, _FOLDER)
        self._lowers = lowers
        self._quota = quota
        self._held: tuple[Parts, int] | None = None
        self._times: dict[Parts, int] = {}
        self._fresh: set[Parts] = set()
        """Folders under which nothing of the lower layers is seen."""
        self._dress(self._root, _attributes(lowers[0]) if lowers else _PLAIN)

    def close(self) -> None:
        self._let_go()
        os.close(self._root)

    def folder(self, parts: Parts, attributes: Attributes) -> None:
        if not parts:
            self._dress(self._root, attributes)
            self._times[()] = attributes.mtime
            return
        with self._inside(parts) as (parent, name, real):
            found = _lstat(name, parent)
            if found is None or not stat.S_ISDIR(found.st_mode):
                self._quota.take(0, 1)
                is_fresh = found is not None
                if found is not None:
                    self._remove(name, parent)
                os.mkdir(name, 0o700, dir_fd=parent)
                if is_fresh and self._lowers:
                    self._hide(name, parent, real)
            descriptor = os.open(name, _FOLDER, dir_fd=parent)
            try:
                self._dress(descriptor, attributes)
            finally:
                os.close(descriptor)
            self._times[real] = attributes.mtime

    def file(self, parts: Parts, size: int, content: Iterable[bytes], attributes: Attributes) -> None:
        self._quota.take(size, 1)
        with self._made(parts) as (parent, name):
            descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent)
            try:
                written = 0
                for piece in content:
                    written += len(piece)
                    view = memoryview(piece)
                    while view:
                        view = view[os.write(descriptor, view) :]
                if written != size:
                    raise LayerRefused(f"the layer ends within '{'/'.join(parts)}'")
                self._dress(descriptor, attributes)
                os.utime(descriptor, ns=(attributes.mtime, attributes.mtime))
            finally:
                os.close(descriptor)

    def symlink(self, parts: Parts, target: str, attributes: Attributes) -> None:
        self._quota.take(0, 1)
        if not target or "\0" in target:
            raise LayerRefused(f"the link '{'/'.join(parts)}' points nowhere")
        with self._made(parts) as (parent, name):
            os.symlink(target, name, dir_fd=parent)
            os.chown(name, attributes.uid, attributes.gid, dir_fd=parent, follow_symlinks=False)
            os.utime(name, ns=(attributes.mtime, attributes.mtime), dir_fd=parent, follow_symlinks=False)

    def fifo(self, parts: Parts, attributes: Attributes) -> None:
        self._quota.take(0, 1)
        with self._made(parts) as (parent, name):
            os.mkfifo(name, 0o600, dir_fd=parent)
            os.chown(name, attributes.uid, attributes.gid, dir_fd=parent, follow_symlinks=False)
            os.chmod(name, attributes.mode, dir_fd=parent)
            os.utime(name, ns=(attributes.mtime, attributes.mtime), dir_fd=parent, follow_symlinks=False)

    def hard_link(self, parts: Parts, target: Parts) -> None:
        """To a file of this layer, or of one below, which is copied up for it."""
        self._quota.take(0, 1)
        if parts == target or not target:
            raise LayerRefused(f"'{'/'.join(parts)}' is a hard link to itself or to the root")
        with self._inside(target) as (source, old, real):
            found = _lstat(old, source)
            if found is None:
                self._copy_up(real, source, old)
                found = _lstat(old, source)
            if found is None or _is_whiteout(found):
                raise LayerRefused(f"'{'/'.join(parts)}' is a hard link to '{'/'.join(target)}', which is not in the image")
            if stat.S_ISDIR(found.st_mode):
                raise LayerRefused(f"'{'/'.join(parts)}' is a hard link to a folder")
            source = os.dup(source)
        try:
            with self._made(parts) as (parent, name):
                os.link(old, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError as error:  # the link took the place of what it points into
            raise LayerRefused(f"'{'/'.join(parts)}' is a hard link to what it replaces") from error
        finally:
            os.close(source)

    def whiteout(self, parts: Parts) -> None:
        """Nothing of this name in the layers below is seen; what this layer itself has of it stays."""
        if not parts or parts[-1] in ("", ".", ".."):
            raise LayerRefused("the layer hides no file but a folder of its own name")
        if not self._lowers:
            return
        with self._inside(parts) as (parent, name, real):
            found = _lstat(name, parent)
            if found is None:
                self._quota.take(0, 1)
                os.mknod(name, stat.S_IFCHR, 0, dir_fd=parent)
            elif stat.S_ISDIR(found.st_mode):
                self._hide(name, parent, real)

    def opaque(self, parts: Parts) -> None:
        """Nothing that the layers below have in this folder is seen."""
        if not self._lowers:
            return
        if not parts:
            os.setxattr(self._root, _OPAQUE, b"y")
            self._fresh.add(())
            return
        with self._inside(parts) as (parent, name, real):
            if not _is_folder(name, parent):
                self._enter(parent, name, real)
            self._hide(name, parent, real)

    def finish(self) -> None:
        """Give folders their times, which writing into them has changed."""
        for parts, mtime in sorted(self._times.items(), reverse=True):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # replaced by a later entry
                descriptor = self._reopen(parts)
                try:
                    os.utime(descriptor, ns=(mtime, mtime))
                finally:
                    os.close(descriptor)

    # ------------------------------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _made(self, parts: Parts) -> Iterator[tuple[int, str]]:
        """The folder and the name of a new entry, with nothing of that name there."""
        if not parts:
            raise LayerRefused("the layer's root is no folder")
        with self._inside(parts) as (parent, name, _):
            if _lstat(name, parent) is not None:
                self._remove(name, parent)
            yield parent, name

    @contextlib.contextmanager
    def _inside(self, parts: Parts) -> Iterator[tuple[int, str, Parts]]:
        """The folder that an entry is in, its name there, and its path without links."""
        above = parts[:-1]
        if self._held is None or self._held[0] != above:
            self._let_go()
            real, descriptor = self._walk(above)
            if real == above:
                self._held = (above, descriptor)
            else:
                try:
                    yield descriptor, parts[-1], (*real, parts[-1])
                finally:
                    os.close(descriptor)
                return
        yield self._held[1], parts[-1], parts

    def _let_go(self) -> None:
        if self._held is not None:
            os.close(self._held[1])
            self._held = None

    def _walk(self, parts: Parts) -> tuple[Parts, int]:
        """Go down to a folder, making what is missing. Links on the way lead within this layer, as they would in the container."""
        todo, real, hops = deque(parts), list[str](), 0
        here = os.dup(self._root)
        try:
            while todo:
                name = todo.popleft()
                if name == "..":
                    if not real:
                        raise LayerRefused(f"the layer climbs out of its root through a link in '{'/'.join(parts)}'")
                    real.pop()
                    here = _instead(here, self._reopen(tuple(real)))
                    continue
                target = self._enter(here, name, (*real, name))
                if target is None:
                    real.append(name)
                    here = _instead(here, os.open(name, _FOLDER, dir_fd=here))
                    continue
                hops += 1
                if hops > _HOPS:
                    raise LayerRefused(f"the links in '{'/'.join(parts)}' lead in a circle")
                todo.extendleft(each for each in reversed(target.split("/")) if each not in ("", "."))
                if target.startswith("/"):
                    real.clear()
                    here = _instead(here, os.dup(self._root))
        except BaseException:
            os.close(here)
            raise
        return tuple(real), here

    def _enter(self, here: int, name: str, real: Parts) -> str | None:
        """Make sure that a folder of this name is there; gives a link's target instead when one is."""
        found = _lstat(name, here)
        if found is not None and stat.S_ISLNK(found.st_mode):
            return os.readlink(name, dir_fd=here)
        if found is not None and stat.S_ISDIR(found.st_mode):
            return None
        if found is not None and not _is_whiteout(found):
            raise LayerRefused(f"the layer has something below '{'/'.join(real)}', which is no folder")
        below = self._below(real) if found is None else None
        if below is not None and below.is_symlink():
            return str(below.readlink())
        self._quota.take(0, 1)
        if found is not None:
            os.unlink(name, dir_fd=here)
        os.mkdir(name, 0o700, dir_fd=here)
        is_lower = below is not None and below.is_dir()
        attributes = _attributes(below) if below is not None and is_lower else _PLAIN
        descriptor = os.open(name, _FOLDER, dir_fd=here)
        try:
            self._dress(descriptor, attributes)
        finally:
            os.close(descriptor)
        if found is not None:
            self._hide(name, here, real)
        if is_lower:
            self._times[real] = attributes.mtime
        return None

    def _reopen(self, parts: Parts) -> int:
        here = os.dup(self._root)
        try:
            for name in parts:
                here = _instead(here, os.open(name, _FOLDER, dir_fd=here))
        except OSError as error:
            os.close(here)
            if error.errno == errno.ELOOP:
                raise NotADirectoryError(error.errno, "is a link") from error
            raise
        return here

    def _remove(self, name: str, parent: int) -> None:
        """What an earlier entry of this layer made."""
        if _is_folder(name, parent):
            shutil.rmtree(name, dir_fd=parent)
        else:
            os.unlink(name, dir_fd=parent)

    def _hide(self, name: str, parent: int, real: Parts) -> None:
        descriptor = os.open(name, _FOLDER, dir_fd=parent)
        try:
            os.setxattr(descriptor, _OPAQUE, b"y")
        finally:
            os.close(descriptor)
        self._fresh.add(real)

    def _below(self, real: Parts) -> Path | None:
        """What a container would see of this path with the lower layers alone."""
        if any(real[:end] in self._fresh for end in range(len(real))):
            return None
        for lower in self._lowers:
            here, is_opaque = lower, False
            for position, name in enumerate(real):
                here /= name
                try:
                    found = here.lstat()
                except FileNotFoundError:
                    break
                if _is_whiteout(found):
                    return None
                if position == len(real) - 1:
                    return here
                if not stat.S_ISDIR(found.st_mode):
                    return None
                is_opaque = is_opaque or _is_opaque(here)
            if is_opaque:
                return None
        return None

    def _copy_up(self, real: Parts, parent: int, name: str) -> None:
        below = self._below(real)
        if below is None:
            return
        if below.is_symlink():
            os.symlink(below.readlink(), name, dir_fd=parent)
        elif below.is_file():
            size = below.stat().st_size
            attributes = _attributes(below)
            self.file(real, size, _pieces(below), attributes)

    def _dress(self, descriptor: int, attributes: Attributes) -> None:
        os.fchown(descriptor, attributes.uid, attributes.gid)
        os.fchmod(descriptor, attributes.mode)  # behind the owner, whose change takes set-uid away
        for name, value in attributes.xattrs.items():
            try:
                os.setxattr(descriptor, name, value)
            except OSError as error:
                if name == CAPABILITY or error.errno != errno.ENOTSUP:
                    raise


def _instead(old: int, new: int) -> int:
    os.close(old)
    return new


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while piece := stream.read(1 << 18):
            yield piece


def _lstat(name: str, parent: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _is_folder(name: str, parent: int) -> bool:
    found = _lstat(name, parent)
    return found is not None and stat.S_ISDIR(found.st_mode)


def _is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _is_opaque(folder: Path) -> bool:
    try:
        return os.getxattr(folder, _OPAQUE, follow_symlinks=False) == b"y"
    except OSError:
        return False


def _attributes(path: Path) -> Attributes:
    status = path.lstat()
    kept = [name for name in os.listxattr(path, follow_symlinks=False) if is_kept(name)]
    xattrs = {name: os.getxattr(path, name, follow_symlinks=False) for name in kept}
    return Attributes(stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns, xattrs)


def is_kept(xattr: str) -> bool:
    """trusted.* would steer the overlay; labels of another machine's security module mean nothing here."""
    return xattr == CAPABILITY or (xattr.startswith("user.") and not xattr.startswith("user.overlay."))
