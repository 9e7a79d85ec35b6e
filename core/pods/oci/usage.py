"""What containers use. The size of their writable layers is counted apart and seldom: it means reading whole folders."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pinnace.core.base.runtime import Usage
from pinnace.core.pods.oci import cgroups

_COUNTED_EVERY_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class _Size:
    counted_at: float
    disk_bytes: int
    inodes: int


def folder_size(folder: Path) -> tuple[int, int]:
    """(bytes on the disk, inodes); a file of many names counts once. Blocks."""
    seen: set[int] = set()
    size = 0
    for root, names, entries in os.walk(folder):
        for name in (*names, *entries):
            try:
                found = os.lstat(os.path.join(root, name))  # noqa: PTH118  hot
            except OSError:
                continue
            if found.st_ino not in seen:
                seen.add(found.st_ino)
                size += found.st_blocks * 512
    return size, len(seen)


class Meter:
    """Reads cgroups at every call, and counts a layer when what it knows of it is older than a minute: one layer after the other, so that
    the disk is not swamped."""

    def __init__(self) -> None:
        self._sizes: dict[str, _Size] = {}
        self._counting = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def usage(self, containers: Sequence[tuple[str, str, Path]]) -> list[Usage]:
        """`containers` are (id, cgroup, folder of the writable layer)."""
        readings = await asyncio.to_thread(lambda: [(name, cgroups.read(path)) for name, path, _ in containers])
        now = time.time()
        self._sizes = {name: size for name, size in self._sizes.items() if any(name == each for each, _, _ in containers)}
        if self._task is None or self._task.done():
            stale = [(name, folder) for name, _, folder in containers if self._is_stale(name, now)]
            self._task = asyncio.create_task(self._count(stale), name="sizes of writable layers") if stale else None
        found = []
        for name, reading in readings:
            size = self._sizes.get(name, _Size(0.0, 0, 0))
            if reading is not None:
                found.append(
                    Usage(name, now, reading.cpu_seconds, reading.memory_working_set, reading.memory_rss, size.disk_bytes, size.inodes)
                )
        return found

    def _is_stale(self, name: str, now: float) -> bool:
        known = self._sizes.get(name)
        return known is None or not 0 <= now - known.counted_at < _COUNTED_EVERY_SECONDS

    async def _count(self, stale: Sequence[tuple[str, Path]]) -> None:
        async with self._counting:
            for name, folder in stale:
                size, inodes = await asyncio.to_thread(folder_size, folder)
                self._sizes[name] = _Size(time.time(), size, inodes)

    async def settled(self) -> None:
        """Wait for the counting that is under way."""
        if self._task is not None:
            await asyncio.shield(self._task)

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
