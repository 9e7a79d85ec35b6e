"""How much there is left of memory, disks and process ids, and what each pod takes of them (the kubelet's eviction signals)."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

from pinnace.core.base.diskuse import Footprint, file_system, footprint, footprint_of
from pinnace.core.base.errors import PinnaceError
from pinnace.core.base.pod import Pod
from pinnace.core.base.runtime import POD_UID_LABEL, Container, DiskUsage, Runtime, Usage
from pinnace.core.pods.rules import eviction
from pinnace.core.pods.rules.eviction import ContainerUse, Level, PodUse

_EMPTY_DIRS: Final = "volumes/kubernetes.io~empty-dir"
_TERMINATION_LOGS: Final = "containers"


class PodCounts(Protocol):
    """The part of the pods' cgroups that measuring needs."""

    def working_set(self, pod_uid: str) -> int: ...

    def tasks(self, pod_uid: str) -> int: ...


class Measures:
    """Reads the machine below `proc`, the pods' folders below `pods_dir`/<uid>, their logs below `logs_dir`."""

    def __init__(self, runtime: Runtime, counts: PodCounts, *, pods_dir: Path, logs_dir: Path, proc: Path = Path("/proc")) -> None:
        self._runtime = runtime
        self._counts = counts
        self._pods_dir = pods_dir
        self._logs_dir = logs_dir
        self._proc = proc

    async def levels(self) -> dict[str, Level]:
        """By signal; what cannot be read is left out."""
        found = await asyncio.to_thread(self._machine)
        try:
            images = await self._runtime.images.disk()
        except PinnaceError:
            return found
        return found | _disk_levels(images)

    async def uses(self, pods: Sequence[Pod], *, with_disk: bool) -> list[PodUse]:
        """What each pod takes. `with_disk` walks its folders, which costs. What the runtime does not tell counts as nothing."""
        try:
            usage = {each.id: each for each in await self._runtime.usage()}
            containers = await self._runtime.containers()
        except PinnaceError:
            usage, containers = {}, ()
        by_pod: dict[str, list[Container]] = defaultdict(list)
        for each in containers:
            by_pod[_uid(each)].append(each)
        return [await self._use(pod, by_pod[pod.uid], usage, with_disk=with_disk) for pod in pods]

    async def _use(self, pod: Pod, containers: Sequence[Container], usage: Mapping[str, Usage], *, with_disk: bool) -> PodUse:
        volumes: dict[str, Footprint] = {}
        logs: dict[str, Footprint] = {}
        files: Sequence[Footprint] = ()
        if with_disk:
            volumes, logs, files = await asyncio.to_thread(self._folders, pod)
        parts = []
        for each in containers:
            own = usage.get(each.id)
            if own is not None:
                disk = own.disk_bytes + logs.get(each.name, Footprint(0, 0)).bytes
                parts.append(ContainerUse(each.name, own.memory_working_set, disk))
        on_disk = {name: size for name, size in volumes.items() if name not in _in_memory(pod)}
        writable = sum(usage[each.id].disk_bytes for each in containers if each.id in usage)
        inodes = sum(usage[each.id].disk_inodes for each in containers if each.id in usage)
        return PodUse(
            pod,
            memory=self._counts.working_set(pod.uid),
            disk=writable + sum(each.bytes for each in (*on_disk.values(), *logs.values(), *files)),
            inodes=inodes + sum(each.inodes for each in (*on_disk.values(), *logs.values(), *files)),
            tasks=self._counts.tasks(pod.uid),
            containers=tuple(parts),
            volumes={name: size.bytes for name, size in volumes.items()},
        )

    def _folders(self, pod: Pod) -> tuple[dict[str, Footprint], dict[str, Footprint], list[Footprint]]:
        """(emptyDirs by volume, logs by container, other files that containers can write). Blocking."""
        folder = self._pods_dir / pod.uid
        files = [footprint(folder / _TERMINATION_LOGS), *_files(folder)]
        return _each(folder / _EMPTY_DIRS), _each(self._logs_dir / pod.log_folder), files

    def _machine(self) -> dict[str, Level]:
        """Blocking."""
        memory = _numbers(self._text("meminfo"))
        found = {}
        if "MemTotal" in memory:
            # usage is what is not free, the working set usage without the file pages that can be dropped first
            free = memory.get("MemFree", 0) + memory.get("Inactive(file)", 0)
            found[eviction.MEMORY] = Level(free * 1024, memory["MemTotal"] * 1024)
        tasks, limits = self._text("loadavg").split(), [self._text(f"sys/kernel/{name}").strip() for name in ("pid_max", "threads-max")]
        running = tasks[3].partition("/")[2] if len(tasks) > 3 else ""
        most = min((int(each) for each in limits if each.isdigit()), default=0)
        if most and running.isdigit():
            found[eviction.TASKS] = Level(max(most - int(running), 0), most)
        try:
            disk = file_system(self._pods_dir)
        except OSError:
            return found
        found[eviction.NODE_DISK] = Level(disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize)
        if disk.f_files:
            found[eviction.NODE_INODES] = Level(disk.f_favail, disk.f_files)
        return found

    def _text(self, path: str) -> str:
        try:
            return (self._proc / path).read_text()
        except OSError:
            return ""


def _each(folder: Path) -> dict[str, Footprint]:
    try:
        return {each.name: footprint(each) for each in folder.iterdir() if each.is_dir()}
    except OSError:
        return {}


def _files(folder: Path) -> list[Footprint]:
    """/etc/hosts and /etc/hostname of a pod."""
    try:
        return [footprint_of(each.lstat()) for each in folder.iterdir() if each.is_file()]
    except OSError:
        return []


def _disk_levels(disk: DiskUsage) -> dict[str, Level]:
    found = {}
    if disk.capacity:
        found[eviction.IMAGE_DISK] = Level(disk.available, disk.capacity)
    if disk.inodes:
        found[eviction.IMAGE_INODES] = Level(disk.inodes_free, disk.inodes)
    return found


def _in_memory(pod: Pod) -> set[str]:
    volumes = pod.spec.get("volumes") or ()
    return {each.get("name", "") for each in volumes if (each.get("emptyDir") or {}).get("medium") == "Memory"}


def _numbers(text: str) -> dict[str, int]:
    found = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if words and words[0].isdigit():
            found[name] = int(words[0])
    return found


def _uid(container: Container) -> str:
    return container.labels.get(POD_UID_LABEL, "")
