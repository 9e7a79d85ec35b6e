"""Watches a folder for archives of images and has each new or changed one imported, once it lies there whole."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import stat
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from pinnace.core.base.aio.clock import Clock
from pinnace.core.base.files import write_whole
from pinnace.core.base.runtime import Progress, PullFailed
from pinnace.core.pods.images.index import StoredImage
from pinnace.core.pods.images.layout import Layout

logger = logging.getLogger(__name__)

SETTLED_SECONDS: Final = 2.0
"""A file that was written to so short ago may still be growing."""
ENDINGS: Final = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst", ".tar.zstd")
Mark = tuple[int, int, int]
"""Size, time of change in nanoseconds, inode: whether a file is the one it was."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of an archive; `problem` "" means that it was imported."""

    path: Path
    names: tuple[str, ...] = ()
    problem: str = ""


class Imports:
    """`look` finds what is new. What was imported is remembered on the disk; what failed is tried again when the file changes or the agent
    starts anew."""

    def __init__(
        self, folder: Path, layout: Layout, load: Callable[[Path, Progress], Awaitable[Sequence[StoredImage]]], clock: Clock
    ) -> None:
        self._folder = folder
        self._layout = layout
        self._load = load
        self._clock = clock
        self._done: dict[str, tuple[Mark, tuple[str, ...]]] | None = None
        self._failed: dict[str, Mark] = {}
        self._seen: dict[str, Mark] = {}
        self._listeners: list[Callable[[Imported], None]] = []

    def on_import(self, listener: Callable[[Imported], None]) -> None:
        self._listeners.append(listener)

    def is_waiting(self) -> bool:
        """Whether archives lie in the folder; blocks. For before the first look."""
        try:
            return any(path.name.endswith(ENDINGS) for path in self._folder.iterdir())
        except OSError:
            return False

    async def look(self) -> bool:
        """Import what is new, one after the other; whether something new is there that may still be written to. Does not raise for a bad
        archive or folder."""
        try:
            found = await asyncio.to_thread(self._scan)
        except OSError as error:
            logger.warning("images.import.folder folder=%s reason=%s", self._folder, error)
            return False
        for path, mark in found:
            await self._one(path, mark)
        return len(self._seen) > len(found)

    def _scan(self) -> list[tuple[Path, Mark]]:
        """New or changed archives that nobody writes to any more: old enough, or the same as when last looked at."""
        if self._done is None:
            self._done = self._remembered()
            with contextlib.suppress(OSError):  # so that people find where to put them
                self._folder.mkdir(parents=True, exist_ok=True)
        if not self._folder.is_dir():
            return []
        found = []
        seen: dict[str, Mark] = {}
        for path in sorted(self._folder.iterdir()):
            if path.name.startswith(".") or not path.name.endswith(ENDINGS):
                continue
            try:
                status = path.stat()
            except OSError:  # gone meanwhile, or a link to nothing
                continue
            mark = (status.st_size, status.st_mtime_ns, status.st_ino)
            if not stat.S_ISREG(status.st_mode) or self._failed.get(path.name) == mark:
                continue
            if self._done.get(path.name, (None,))[0] == mark:
                continue
            seen[path.name] = mark
            age = self._clock.wall() - max(status.st_mtime, status.st_ctime)
            if age >= SETTLED_SECONDS or self._seen.get(path.name) == mark:
                found.append((path, mark))
        self._seen = seen
        return found

    async def _one(self, path: Path, mark: Mark) -> None:
        logger.info("images.import.begun file=%s bytes=%d", path, mark[0])
        try:
            images = await self._load(
                path, lambda done, total: logger.info("images.import.progress file=%s layers=%d/%d", path, done, total)
            )
            after = await asyncio.to_thread(_mark, path)
        except PullFailed as error:
            self._failed[path.name] = mark
            problem = f"the archive {path} was not imported: {error}"
            logger.warning("images.import.failed file=%s reason=%s", path, error)
            self._tell(Imported(path, problem=problem))
            return
        names = tuple(name for each in images for name in (*each.tags, *each.digests))
        if after != mark:  # written to meanwhile: the next look takes it anew
            return
        if not names:
            logger.warning("images.import.nameless file=%s: its images have no name, so no pod can ask for them", path)
        assert self._done is not None
        self._done[path.name] = (mark, tuple(each.id for each in images))
        await asyncio.to_thread(self._remember)
        logger.info("images.imported file=%s names=%s", path, ",".join(names))
        self._tell(Imported(path, names))

    def _tell(self, what: Imported) -> None:
        for each in self._listeners:
            each(what)

    def _remembered(self) -> dict[str, tuple[Mark, tuple[str, ...]]]:
        """Of what was imported, what is still in the store."""
        try:
            document = orjson.loads(self._layout.imports.read_bytes())
            done = {str(name): ((*map(int, mark),), tuple(map(str, images))) for name, (mark, images) in document.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            logger.warning("images.import.forgotten file=%s reason=%r: every archive is imported anew", self._layout.imports, error)
            return {}
        there = {path.stem for path in self._layout.index.glob("*.json")}
        return {
            name: ((mark[0], mark[1], mark[2]), images)
            for name, (mark, images) in done.items()
            if len(mark) == 3 and all(each.partition(":")[2] in there for each in images)
        }

    def _remember(self) -> None:
        assert self._done is not None
        try:
            write_whole(self._layout.imports, orjson.dumps(self._done), is_durable=True)
        except OSError as error:
            logger.warning("images.import.unwritten file=%s reason=%s", self._layout.imports, error)


def _mark(path: Path) -> Mark | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ino
