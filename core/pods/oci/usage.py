"""What containers use. The size of their writable layers is counted apart and seldom: it means reading whole folders."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from pinnace.core.base.diskuse import Footprint, footprint
from pinnace.core.base.runtime import Usage
from pinnace.core.pods.oci import cgroups

_COUNTED_EVERY_SECONDS: Final = 60.0


class _Size(NamedTuple):
    counted_at: float
    taken: Footprint


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
            taken = self._sizes[name].taken if name in self._sizes else Footprint(0, 0)
            if reading is not None:
                found.append(Usage(name, now, reading.cpu_seconds, reading.memory_working_set, reading.memory_rss, *taken))
        return found

    def _is_stale(self, name: str, now: float) -> bool:
        known = self._sizes.get(name)
        return known is None or not 0 <= now - known.counted_at < _COUNTED_EVERY_SECONDS

    async def _count(self, stale: Sequence[tuple[str, Path]]) -> None:
        async with self._counting:
            for name, folder in stale:
                taken = await asyncio.to_thread(footprint, folder)
                self._sizes[name] = _Size(time.time(), taken)

    async def settled(self) -> None:
        """Wait for the counting that is under way."""
        if self._task is not None:
            await asyncio.shield(self._task)

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
