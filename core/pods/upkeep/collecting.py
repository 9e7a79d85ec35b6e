"""Throws away what nobody needs: dead containers, sandboxes of no pod, logs of pods that are gone, images when their disk fills up."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Final

from pinnace.core.base import containerlogs
from pinnace.core.base.aio.clock import Clock, LoopClock
from pinnace.core.base.errors import PinnaceError
from pinnace.core.base.pod import Pod
from pinnace.core.base.runtime import (
    POD_UID_LABEL,
    Container,
    ContainerState,
    DiskUsage,
    Image,
    PullFailed,
    Runtime,
    RuntimeFailed,
    SandboxState,
)
from pinnace.core.base.settings.edged import KubeletSettings, seconds
from pinnace.core.pods.ports import Events, PodControl
from pinnace.core.pods.rules.eviction import EVICTED
from pinnace.core.pods.rules.imagegc import bytes_to_free, to_remove, used_images
from pinnace.core.pods.rules.phase import TERMINAL

logger = logging.getLogger(__name__)

CONTAINERS_SECONDS: Final = 60.0
IMAGES_SECONDS: Final = 300.0


class ContainerCollector:
    """One dead container of each name is kept, for `kubectl logs --previous` and the last state; none of a pod that is gone. Of one that
    was evicted only the logs are: what it wrote was in the way."""

    def __init__(self, runtime: Runtime, control: PodControl, logs_dir: Path, *, clock: Clock | None = None) -> None:
        self._runtime = runtime
        self._control = control
        self._logs_dir = logs_dir
        self._clock = clock or LoopClock()

    async def run(self) -> None:
        """For ever; the first look comes after a minute, when all pods are known."""
        while True:
            await self._clock.sleep(CONTAINERS_SECONDS)
            try:
                await self.collect()
            except (RuntimeFailed, OSError) as error:
                logger.warning("pods.collect.containers-failed reason=%s", error)

    async def collect(self) -> None:
        """Once. Raises RuntimeFailed, OSError."""
        await self._collect(_was_evicted)

    async def free_all(self) -> None:
        """Collect, and for want of disk keep no more of any pod that has ended than of an evicted one. Raises RuntimeFailed, OSError."""
        await self._collect(_has_ended)

    async def _collect(self, is_spent: Callable[[Pod], bool]) -> None:
        """Of pods that are spent only the logs are kept, and the status that was told."""
        containers = await self._runtime.containers()
        here, needed = self._here(), self._needed(is_spent)  # asked after: a pod that came while the runtime listed is here
        logs = {each.id for each in dead(containers, here)}
        for each in dead(containers, needed):
            try:
                await self._runtime.remove_container(each.id)
            except RuntimeFailed as error:
                logger.warning("pods.collect.container-stays container=%s reason=%s", each.name, error)
                continue
            if each.id in logs:
                await asyncio.to_thread(containerlogs.remove, each.log_path)
        await self._collect_sandboxes(is_spent)
        left = {_uid(each) for each in await self._runtime.containers()}
        await asyncio.to_thread(_remove_log_folders, self._logs_dir, self._here() | left)

    def _here(self) -> set[str]:
        return {each.uid for each in self._control.pods()}

    def _needed(self, is_spent: Callable[[Pod], bool]) -> set[str]:
        return {each.uid for each in self._control.pods() if not is_spent(each)}

    async def _collect_sandboxes(self, is_spent: Callable[[Pod], bool]) -> None:
        occupied = {each.sandbox_id for each in await self._runtime.containers()}
        sandboxes = await self._runtime.sandboxes()
        needed = self._needed(is_spent)
        newest = {each.uid: each.id for each in sorted(sandboxes, key=lambda each: (each.attempt, each.created_at))}
        for each in sandboxes:
            is_old = each.uid not in needed or newest[each.uid] != each.id
            if each.state is SandboxState.NOT_READY and each.id not in occupied and is_old:
                try:
                    await self._runtime.remove_sandbox(each.id)
                except RuntimeFailed as error:
                    logger.warning("pods.collect.sandbox-stays pod=%s reason=%s", each.name, error)


def dead(containers: Iterable[Container], needed: Collection[str]) -> list[Container]:
    """Which containers may go: those that ended, but for the newest of each name of a pod that is needed."""
    found = []
    kept: set[tuple[str, str]] = set()
    for each in sorted(containers, key=lambda each: (each.attempt, each.created_at), reverse=True):
        key = (_uid(each), each.name)
        if each.state is ContainerState.EXITED and key[0]:
            if key[0] not in needed or key in kept:
                found.append(each)
            kept.add(key)
    return found


class ImageCollector:
    """Removes images that no container and no pod here uses, oldest use first, when their file system is too full."""

    def __init__(
        self, runtime: Runtime, control: PodControl, events: Events, settings: KubeletSettings, *, clock: Clock | None = None
    ) -> None:
        self._runtime = runtime
        self._control = control
        self._events = events
        self._high = settings.image_gc_high_threshold_percent
        self._low = settings.image_gc_low_threshold_percent
        self._min_age = seconds(settings.image_minimum_gc_age)
        self._clock = clock or LoopClock()
        self._first_seen: dict[str, float] | None = None
        self._last_used: dict[str, float] = {}

    async def run(self) -> None:
        """For ever: see which images are used, and free their disk when it is too full."""
        while True:
            try:
                await self.collect()
            except PinnaceError as error:
                logger.warning("pods.collect.images-failed reason=%s", error)
                self._events.node("Warning", "ImageGCFailed", str(error))
            await self._clock.sleep(IMAGES_SECONDS)

    async def collect(self) -> None:
        """Once, to the thresholds. Raises RuntimeFailed, PullFailed."""
        removable = await self._removable()
        disk = await self._runtime.images.disk()
        due = bytes_to_free(disk, self._high, self._low)
        if due <= 0:
            return
        freed = await self._remove(removable, due)
        logger.info("pods.collect.images freed=%d due=%d path=%s", freed, due, disk.path)
        if freed < due:
            self._events.node("Warning", "FreeDiskSpaceFailed", _too_little(disk, due, freed))

    async def free_all(self) -> int:
        """Remove every image nobody uses; gives the bytes freed. Raises RuntimeFailed, PullFailed."""
        return await self._remove(await self._removable(), None)

    async def _removable(self) -> list[Image]:
        now = self._clock.wall()
        images = list(await self._runtime.images.images())
        known = self._first_seen
        self._first_seen = {each.id: known.get(each.id, now) if known is not None else 0.0 for each in images}
        used = used_images(images, await self._runtime.containers(), await self._wanted())
        present = {each.id for each in images}
        self._last_used = {each: at for each, at in self._last_used.items() if each in present} | dict.fromkeys(used, now)
        return to_remove(images, used, self._last_used, first_seen=self._first_seen, now=now, min_age=self._min_age)

    async def _wanted(self) -> set[str]:
        """The images that the pods here name: they start again without a registry."""
        names = {container.image for pod in self._control.pods() for container in pod.all_containers}
        found = set()
        for name in names:
            try:
                image = await self._runtime.images.image(name)
            except PullFailed:
                continue  # no name of an image: it has none
            if image is not None:
                found.add(image.id)
        return found

    async def _remove(self, images: Iterable[Image], due: int | None) -> int:
        freed = 0
        for each in images:
            if due is not None and freed >= due:
                break
            try:
                await self._runtime.images.remove(each.id)
            except RuntimeFailed as error:
                logger.warning("pods.collect.image-stays image=%s reason=%s", (each.tags or (each.id,))[0], error)
                continue
            freed += each.size
            self._last_used.pop(each.id, None)
        return freed


def _too_little(disk: DiskUsage, due: int, freed: int) -> str:
    return (
        f"Failed to garbage collect required amount of images on {disk.path}. Attempted to free {due} bytes, "
        f"but only found {freed} bytes eligible to free."
    )


def _was_evicted(pod: Pod) -> bool:
    return pod.status.get("phase") in TERMINAL and pod.status.get("reason") == EVICTED


def _has_ended(pod: Pod) -> bool:
    return pod.status.get("phase") in TERMINAL


def _uid(container: Container) -> str:
    return container.labels.get(POD_UID_LABEL, "")


def _remove_log_folders(folder: Path, uids: Collection[str]) -> None:
    """Remove <namespace>_<name>_<uid> of other uids. Blocking. Raises OSError when the folder cannot be read."""
    if not folder.is_dir():
        return
    for each in folder.iterdir():
        if each.name.count("_") == 2 and each.name.rpartition("_")[2] not in uids and each.is_dir() and not each.is_symlink():
            shutil.rmtree(each, ignore_errors=True)
