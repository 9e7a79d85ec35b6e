"""Files of a volume that change all at once: config maps, secrets, projections, the downward API (the kubelet's layout).

A volume holds links `name -> ..data/name`, a link `..data -> ..2024_01_31_12_00_00.123456789` and that folder with the files. New content
is a new folder; renaming a new `..data` over the old one is the moment of the change. All of it blocks.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from pinnace.core.base.folders import remove

_DATA: Final = "..data"
_DATA_NEW: Final = "..data_tmp"
_HIDDEN: Final = ".."
_PATH_BYTES: Final = 4096
_COMPARED: Final = 0o7717


class File(NamedTuple):
    """One file: permission bits, and an owner if it is not root."""

    data: bytes
    mode: int
    owner: int | None = None


def checked(path: str) -> str:
    """A relative path that stays in its volume, in its plain form. Raises ValueError."""
    plain = PurePosixPath(path)
    if not path or plain.is_absolute() or ".." in plain.parts or not plain.parts or "\0" in path:
        raise ValueError(f"{path!r}: expected a path within the volume, without '..'")
    if plain.parts[0].startswith(_HIDDEN) or len(path.encode(errors="surrogatepass")) > _PATH_BYTES:
        raise ValueError(f"{path!r}: expected a path of at most {_PATH_BYTES} bytes that does not begin with '..'")
    return str(plain)


def write(volume: Path, files: Mapping[str, File], finish: Callable[[Path], None] | None = None, *, wall: float | None = None) -> bool:
    """Make `files`, by relative path, the volume's content; True when something changed. `finish` is called with the new folder before
    anybody can see it (to give it to a group). Whatever a crash left half done is put right. Raises ValueError, OSError."""
    files = {checked(path): file for path, file in files.items()}
    _refuse_overlap(files)
    current = _current(volume)
    is_new = current is None or not _holds(volume / current, files)
    if is_new:
        current = _written(volume, files, finish, time.time() if wall is None else wall)
    assert current is not None
    _link_names(volume, files)
    _tidy(volume, current, files)
    return is_new


def _refuse_overlap(files: Mapping[str, File]) -> None:
    for path in files:
        for above in PurePosixPath(path).parents:
            if str(above) in files:
                raise ValueError(f"{str(above)!r} is to be a file and, for {path!r}, a folder")


def _current(volume: Path) -> str | None:
    """The folder `..data` leads to, if it is one of ours."""
    try:
        name = (volume / _DATA).readlink().name
    except OSError:
        return None
    return name if name.startswith(_HIDDEN) and name != _DATA and (volume / name).is_dir() else None


def _holds(folder: Path, files: Mapping[str, File]) -> bool:
    """Whether a folder has these files and no others; what `finish` may have added for a group is passed over."""
    found = {str(Path(above, name).relative_to(folder)) for above, _, names in os.walk(folder) for name in names}
    if found != set(files):
        return False
    for path, file in files.items():
        target = folder / path
        status = target.lstat()
        if not stat.S_ISREG(status.st_mode) or (status.st_mode ^ file.mode) & _COMPARED:
            return False
        if file.owner is not None and status.st_uid != file.owner:
            return False
        if status.st_size != len(file.data) or target.read_bytes() != file.data:
            return False
    return True


def _written(volume: Path, files: Mapping[str, File], finish: Callable[[Path], None] | None, wall: float) -> str:
    seconds, nanos = divmod(int(wall * 1e9), 1_000_000_000)
    stamp = time.strftime("..%Y_%m_%d_%H_%M_%S", time.gmtime(seconds))
    name = next(each for number in range(nanos, nanos + 1000) if not os.path.lexists(volume / (each := f"{stamp}.{number:09d}")))
    folder = volume / name
    folder.mkdir(0o755)
    folder.chmod(0o755)
    for path, file in files.items():
        target = folder / path
        for above in reversed(target.relative_to(folder).parents[:-1]):
            with contextlib.suppress(FileExistsError):
                (folder / above).mkdir(0o755)
                (folder / above).chmod(0o755)
        _create(target, file)
    if finish is not None:
        finish(folder)
    with contextlib.suppress(FileNotFoundError):
        (volume / _DATA_NEW).unlink()
    (volume / _DATA_NEW).symlink_to(name)
    (volume / _DATA_NEW).rename(volume / _DATA)
    return name


def _create(target: Path, file: File) -> None:
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(file.data)
        if file.owner is not None:
            os.fchown(descriptor, file.owner, -1)
        os.fchmod(descriptor, file.mode)


def _link_names(volume: Path, files: Mapping[str, File]) -> None:
    for name in {PurePosixPath(path).parts[0] for path in files}:
        wanted = f"{_DATA}/{name}"
        link = volume / name
        with contextlib.suppress(OSError):
            if str(link.readlink()) == wanted:
                continue
        new = volume / f"{_HIDDEN}link_tmp"
        with contextlib.suppress(FileNotFoundError):
            new.unlink()
        new.symlink_to(wanted)
        new.rename(link)


def _tidy(volume: Path, current: str, files: Mapping[str, File]) -> None:
    """Remove links to what is no more, older folders, and what a crash left."""
    kept = {PurePosixPath(path).parts[0] for path in files} | {_DATA, current}
    for entry in os.scandir(volume):
        if entry.name in kept:
            continue
        if entry.is_dir(follow_symlinks=False):
            if entry.name.startswith(_HIDDEN):
                remove(Path(entry.path))
        elif entry.is_symlink():
            Path(entry.path).unlink()
