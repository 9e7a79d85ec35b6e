"""What pods have mounted from servers, when such a server is away: nobody waits for it but who writes there."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from pinnace.core.base.aio.aside import Aside
from pinnace.core.pods.material.folders import PodFolders
from pinnace.core.pods.material.mounts import Mounts
from pinnace.core.pods.material.persistent import answers, run_unmount

logger = logging.getLogger(__name__)
FAILURES: Final = 10
PAUSE_SECONDS: Final = 0.5


class RemoteVolumes:
    """The NFS mounts of the pods. A server is asked in child processes, since only those can be ended while they wait for it."""

    def __init__(self, folders: PodFolders, mounts: Mounts, aside: Aside) -> None:
        self._folders = folders
        self._mounts = mounts
        self._aside = aside
        self._given_up: set[str] = set()

    async def unmount(self, pod_uid: str) -> None:
        """Take a pod's out of sight, whether their servers answer or not."""
        for point in await asyncio.to_thread(points, self._mounts, self._folders.pod(pod_uid)):
            try:
                await run_unmount(point)
            except OSError as error:
                logger.warning("pods.volumes.server_away uid=%s path=%s reason=%s; it is unmounted all the same", pod_uid, point, error)
        self._given_up.discard(pod_uid)

    async def abandon(self, pod_uid: str) -> None:
        """As ports.Materials has it."""
        self._given_up.add(pod_uid)
        for point in await asyncio.to_thread(own_points, self._mounts, [self._folders.pod(each) for each in self._given_up]):
            try:
                await answers(point)
            except OSError as error:
                logger.warning(
                    "pods.volumes.abandoned uid=%s path=%s reason=%s; what the server does not have yet is lost", pod_uid, point, error
                )
                await self._fail(point)

    async def _fail(self, point: Path) -> None:
        """Again and again: who writes, and is told that it failed, has more to write before it ends."""
        for _ in range(FAILURES):
            with contextlib.suppress(OSError):  # it is gone by now, or tried again
                await self._aside.call(point, str(point), self._mounts.fail, point)
            await asyncio.sleep(PAUSE_SECONDS)


def points(mounts: Mounts, folder: Path) -> list[Path]:
    """Where remote file systems are mounted below a folder, the last mounted first. Blocks."""
    top = os.path.realpath(folder)
    return [each.point for each in reversed(mounts.all()) if each.is_remote and each.point.is_relative_to(top)]


def own_points(mounts: Mounts, folders: Iterable[Path]) -> list[Path]:
    """For each remote file system that is mounted below these folders and nowhere else, one place where it is. Blocks."""
    tops = [os.path.realpath(each) for each in folders]
    own: dict[str, Path] = {}
    others = set()
    for each in mounts.all():
        if not each.is_remote:
            continue
        if any(each.point.is_relative_to(top) for top in tops):
            own.setdefault(each.device, each.point)
        else:
            others.add(each.device)
    return [point for device, point in own.items() if device not in others]
