"""Paths of the node given to pods, and what they must be (Kubernetes API, core/v1 HostPathVolumeSource.type). All of it blocks."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Final

_KINDS: Final[dict[str, tuple[Callable[[int], bool], str]]] = {
    "DirectoryOrCreate": (stat.S_ISDIR, "a directory"),
    "Directory": (stat.S_ISDIR, "a directory"),
    "FileOrCreate": (stat.S_ISREG, "a file"),
    "File": (stat.S_ISREG, "a file"),
    "Socket": (stat.S_ISSOCK, "a socket"),
    "CharDevice": (stat.S_ISCHR, "a character device"),
    "BlockDevice": (stat.S_ISBLK, "a block device"),
}


def host_path(path: str, kind: str) -> Path:
    """The path, after it was made (folders 0755, files 0644) or found to be what `kind` says; "" takes what there is, and makes a folder
    where there is nothing. Raises ValueError with what is wrong, OSError."""
    if not PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise ValueError(f"hostPath {path!r}: expected an absolute path without '..'")
    if kind and kind not in _KINDS:
        raise ValueError(f"hostPath {path}: type is one of {', '.join(_KINDS)}, not {kind!r}")
    place = Path(path)
    try:
        mode = place.stat().st_mode
    except FileNotFoundError:
        return _made(place, kind)
    if kind:
        is_so, what = _KINDS[kind]
        if not is_so(mode):
            raise ValueError(f"hostPath type check failed: {path} is not {what}")
    return place


def _made(place: Path, kind: str) -> Path:
    if kind in ("", "DirectoryOrCreate"):
        place.mkdir(0o755, parents=True, exist_ok=True)
        place.chmod(0o755)
    elif kind == "FileOrCreate":
        os.close(os.open(place, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
        place.chmod(0o644)
    else:
        raise ValueError(f"hostPath type check failed: {place} is not {_KINDS[kind][1]}: there is nothing")
    return place
