"""Taking away what is left of a pod: mounts first, then folders, never what is somebody else's. All of it blocks."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from pinnace.core.base.folders import remove
from pinnace.core.pods.material.folders import PodFolders
from pinnace.core.pods.material.mounts import Mounts


class Busy(OSError):
    """Something is still in use or mounted."""


def clean(folders: PodFolders, mounts: Mounts, uid: str) -> None:
    """Unmount and remove all of a pod; done again after a crash it goes on where it was. Raises OSError, also Busy."""
    folder = folders.pod(uid)
    if not os.path.lexists(folder):
        return
    for point in reversed(mounts.points(folder)):
        mounts.unmount(point)
    if left := mounts.points(folder):
        raise Busy(errno.EBUSY, "still mounted", str(left[0]))
    for foreign in folders.foreign(uid):
        _remove_empty(foreign)
    _remove_places(folder / "volume-subpaths")
    remove(folder)


def _remove_places(subpaths: Path) -> None:
    """Where sub-paths were bound: empty folders and files, which nothing but an empty folder or file may be."""
    for above, names, files in os.walk(subpaths, topdown=False):
        for name in files:
            place = Path(above, name)
            if place.lstat().st_size:
                raise Busy(errno.EBUSY, "expected an empty file where a sub-path was mounted", str(place))
            place.unlink()
        for name in names:
            _remove_empty(Path(above, name))


def _remove_empty(place: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        place.rmdir()
