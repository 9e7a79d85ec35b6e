"""Keeps containers' logs small: a file that has grown is renamed with the time, older ones are packed, the oldest removed.

The names are the kubelet's: `0.log`, `0.log.20260131-120000`, `0.log.20260131-110000.gz`.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

from pinnace.core.base.aio.clock import Clock, LoopClock
from pinnace.core.base.containerlogs import PACKED, UNFINISHED, pieces
from pinnace.core.base.contract.quantities import whole
from pinnace.core.base.runtime import Container, ContainerState, RuntimeFailed

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 10.0


class LogWriters(Protocol):
    """The part of a Runtime that rotation needs."""

    async def containers(self, pod_uid: str = "") -> Sequence[Container]: ...

    async def reopen_log(self, container_id: str) -> None: ...


class LogRotation:
    """Looks at the logs of running containers each ten seconds. `max_size` is a quantity, `max_files` counts the one that is written."""

    def __init__(self, runtime: LogWriters, *, max_size: str, max_files: int, clock: Clock | None = None) -> None:
        self._runtime = runtime
        self._max_bytes = whole(max_size)
        self._max_files = max_files
        self._clock = clock or LoopClock()
        self._failed: set[str] = set()

    async def run(self) -> None:
        """For ever."""
        while True:
            try:
                await self.look()
            except RuntimeFailed as error:
                logger.warning("pods.log.not-looked-at reason=%s", error)
            await self._clock.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Once. Raises RuntimeFailed when the runtime does not tell its containers."""
        if self._max_bytes <= 0:
            return
        found = await self._runtime.containers()
        self._failed &= {each.id for each in found}
        for container in found:
            if container.state is ContainerState.RUNNING and container.log_path.name:
                try:
                    await self._look_at(container.id, container.log_path)
                    self._failed.discard(container.id)
                except (OSError, RuntimeFailed) as error:
                    if container.id not in self._failed:
                        logger.warning("pods.log.not-rotated container=%s file=%s reason=%s", container.name, container.log_path, error)
                    self._failed.add(container.id)

    async def _look_at(self, container_id: str, path: Path) -> None:
        size = _size(path)
        if size is None:  # removed, or the agent ended while it rotated: what is written now has another name or none
            await self._runtime.reopen_log(container_id)
        elif size >= self._max_bytes:
            await self._rotate(container_id, path)

    async def _rotate(self, container_id: str, path: Path) -> None:
        await asyncio.to_thread(tidy, path, self._max_files - 2)
        stamp = datetime.datetime.fromtimestamp(self._clock.wall(), datetime.UTC).strftime("%Y%m%d-%H%M%S")
        rotated = path.with_name(f"{path.name}.{stamp}")
        if not _moved(path, rotated):
            return
        try:
            await self._runtime.reopen_log(container_id)
        except BaseException:
            with contextlib.suppress(OSError):
                _moved(rotated, path)  # it goes on where it was
            raise


def tidy(path: Path, keep: int) -> None:
    """Pack what was rotated of the log `path`, after removing all but the newest `keep`. Blocking. Raises OSError."""
    old = pieces(path)
    for each in [name for name in old if name.name.endswith(UNFINISHED)]:
        each.unlink(missing_ok=True)
        old.remove(each)
    names = {each.name for each in old}
    for each in list(old):
        if f"{each.name}{PACKED}" in names:  # packing had ended, removing had not
            each.unlink(missing_ok=True)
            old.remove(each)
    for each in old[: max(len(old) - keep, 0)]:
        each.unlink(missing_ok=True)
    for each in old[max(len(old) - keep, 0) :]:
        if not each.name.endswith(PACKED):
            _pack(each)


def _pack(path: Path) -> None:
    import gzip

    unfinished = path.with_name(f"{path.name}{UNFINISHED}")
    with path.open("rb") as source, gzip.open(unfinished, "wb", compresslevel=6) as target:
        shutil.copyfileobj(source, target, 1 << 18)
    unfinished.chmod(path.stat().st_mode & 0o777)
    unfinished.rename(path.with_name(f"{path.name}{PACKED}"))
    path.unlink()


def _moved(path: Path, to: Path) -> bool:
    """False when something is there already. Raises OSError."""
    if to.exists() or to.with_name(f"{to.name}{PACKED}").exists():
        return False
    path.rename(to)
    return True


def _size(path: Path) -> int | None:
    """None when there is no such file. Raises OSError."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None
