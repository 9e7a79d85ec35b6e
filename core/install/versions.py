"""Versions side by side below /opt/pinnace: laid down beside what runs, then switched to by replacing one symlink.

Interrupted anywhere, `current` is the old or the new version, whole. A version gets its name only when all of it is on the disk; what has
none is thrown away by the next run. The one in use and the one before it are kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pinnace.core.base.bundle import PREFIX
from pinnace.core.base.errors import ConfigError, PinnaceError, RefusedError
from pinnace.core.base.files import sync_folder
from pinnace.core.base.lock import sole
from pinnace.core.install.build import RELEASE, Build, Release
from pinnace.core.install.manifest import NAME, Entry, Manifest

SPARE_BYTES: Final = 16 << 20
"""Left free beyond what the tree takes: the node goes on writing meanwhile."""
_UNNAMED: Final = ".new-"
_CHUNK: Final = 1 << 20


class Versions:
    """Those below `root`, "/" or an image's. Raises ConfigError where it cannot be written, PinnaceError where it does not fit."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / PREFIX.relative_to("/")

    @property
    def current(self) -> str:
        """The name of the version in use; "" when there is none."""
        return self._pointed("current")

    @property
    def previous(self) -> str:
        """That of the one before; "" when there is none, or when it is gone."""
        return self._pointed("previous")

    @property
    def failed(self) -> str:
        """That of the one that did not come up and gave way; "" when there is none, or when it was switched to since."""
        return self._pointed("failed")

    def release(self, name: str) -> Release:
        return Release.read(self.folder / name / RELEASE)

    def names(self) -> list[str]:
        """Versions that are whole or were."""
        if not self.folder.is_dir():
            return []
        return sorted(
            each.name for each in self.folder.iterdir() if each.is_dir() and not each.is_symlink() and not each.name.startswith(".")
        )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One install at a time. Raises RefusedError while there is another."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = contextlib.ExitStack()
            lock.enter_context(sole(self.folder / ".lock", "`pinnace install` or `uninstall`"))
        except OSError as error:
            raise ConfigError(f"{self.folder}: cannot be written: {error.strerror}; run as root, or give --root") from error
        with lock:
            try:
                yield
            except OSError as error:
                raise PinnaceError(f"{error.filename or self.folder}: {error.strerror}; mend that, then do this again") from error

    def lay(self, build: Build) -> str:
        """Put the build's tree down, or repair it where it is not as it should be; the name it has then."""
        self._sweep()
        name = self._name(build)
        tree = self.folder / name
        broken = [each for each in build.manifest if not each.is_intact(tree)]
        if not broken and self._is_listed(tree, build.manifest):
            return name
        self._refuse_without_room(broken)
        if tree.exists():
            for each in broken:  # one by one, each in one step: what runs from here goes on
                _replace(build, each, tree)
            _write(tree / NAME, build.manifest.text())
            os.sync()
            return name
        fresh = self.folder / f"{_UNNAMED}{os.getpid()}"
        for each in build.manifest:
            _place(build, each, fresh / each.path)
        _write(fresh / NAME, build.manifest.text())
        os.sync()
        fresh.rename(tree)
        sync_folder(self.folder)
        return name

    def switch(self, name: str) -> None:
        """Make it the one in use; the one that was is kept for the way back."""
        was = self.current
        if was != name:
            if was:
                self._point("previous", was)
            self._point("current", name)
        if self.failed == name:
            (self.folder / "failed").unlink()
        self._forget()

    def give_way(self, name: str) -> None:
        """The one in use did not come up: `name` is used again, and nobody goes back to what failed without knowing."""
        self._point("failed", self.current)
        self.switch(name)

    def back(self, named: str = "") -> str:
        """The version to go back to: that before, or the one that is `named`. Raises RefusedError when there is none, and for one that did
        not come up unless it is named."""
        name = named or self.previous
        if not name or name == self.current or name not in self.names():
            raise RefusedError(f"there is no version {named or 'to go back to'}; only the one before the one in use is kept")
        if name == self.failed and not named:
            raise RefusedError(
                f"{name}, the version before, did not come up when it was installed; nothing was changed. To try it once more: "
                f"pinnace install --rollback {name}"
            )
        return name

    def remove(self) -> None:
        """All versions; the one in use last."""
        names = sorted(self.names(), key=lambda each: each == self.current)
        for link in ("failed", "previous"):
            (self.folder / link).unlink(missing_ok=True)
        (self.folder / "current").unlink(missing_ok=True)
        for each in names:
            shutil.rmtree(self.folder / each)
        self._sweep()
        (self.folder / ".lock").unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def _pointed(self, link: str) -> str:
        try:
            name = str((self.folder / link).readlink())
        except OSError:
            return ""
        return name if name in self.names() else ""  # a person may have pointed it anywhere

    def _point(self, link: str, name: str) -> None:
        fresh = self.folder / f"{_UNNAMED}{link}"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(name)
        fresh.replace(self.folder / link)
        sync_folder(self.folder)

    def _name(self, build: Build) -> str:
        """The version; with the digest of its manifest behind it when another build of that version is there already."""
        version = build.release.version
        tree = self.folder / version
        return version if not tree.exists() or self._is_listed(tree, build.manifest) else f"{version}+{build.manifest.digest[:8]}"

    @staticmethod
    def _is_listed(tree: Path, manifest: Manifest) -> bool:
        try:
            return Manifest.read(tree / NAME) == manifest
        except (OSError, ValueError, ConfigError):
            return False

    def _refuse_without_room(self, files: list[Entry]) -> None:
        needed = Manifest(tuple(files)).size + SPARE_BYTES
        found = os.statvfs(self.folder)
        free = found.f_bavail * found.f_frsize
        if free < needed:
            raise PinnaceError(
                f"{self.folder} has {free / 1e6:.0f} MB free, {needed / 1e6:.0f} MB are needed; free some. What was in use is still in use"
            )

    def _sweep(self) -> None:
        for each in self.folder.glob(f"{_UNNAMED}*"):
            if each.is_symlink() or not each.is_dir():
                each.unlink()
            else:
                shutil.rmtree(each)

    def _forget(self) -> None:
        for each in self.names():
            if each not in (self.current, self.previous):
                shutil.rmtree(self.folder / each)


def _place(build: Build, entry: Entry, path: Path) -> None:
    """A copy of one file, checked as it is read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if entry.target:
        path.symlink_to(entry.target)
        return
    source = build.file(entry.path)
    found = hashlib.sha256()
    with source.open("rb") as file, path.open("xb") as copy:
        while chunk := file.read(_CHUNK):
            found.update(chunk)
            copy.write(chunk)
    path.chmod(entry.mode)
    if found.hexdigest() != entry.digest:
        raise ConfigError(f"{source}: is not what its manifest says; the download is not whole, fetch it again")


def _replace(build: Build, entry: Entry, tree: Path) -> None:
    fresh, place = tree.with_name(f"{_UNNAMED}{os.getpid()}"), tree / entry.path
    _place(build, entry, fresh)
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    fresh.replace(place)


def _write(path: Path, text: str) -> None:
    fresh = path.with_name(f"{_UNNAMED}{path.name}")
    fresh.write_text(text, encoding="utf-8")
    fresh.chmod(0o644)
    fresh.replace(path)
