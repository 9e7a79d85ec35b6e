"""When the node runs low: which thresholds are met, what conditions hold, which pod goes first and in which words.

The kubelet's rules, pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from pinnace.core.base.contract import scheduling
from pinnace.core.base.contract.quantities import whole
from pinnace.core.base.pod import Pod
from pinnace.core.pods.rules.admission import DISK_PRESSURE, MEMORY_PRESSURE, PID_PRESSURE
from pinnace.core.pods.rules.phase import TERMINAL

MEMORY: Final = "memory.available"
NODE_DISK: Final = "nodefs.available"
NODE_INODES: Final = "nodefs.inodesFree"
IMAGE_DISK: Final = "imagefs.available"
IMAGE_INODES: Final = "imagefs.inodesFree"
TASKS: Final = "pid.available"

EVICTED: Final = "Evicted"
"""The status's reason of a pod that was ended because the node ran low, or it took more disk than it may."""

_CONDITIONS: Final = {
    MEMORY: MEMORY_PRESSURE,
    TASKS: PID_PRESSURE,
    NODE_DISK: DISK_PRESSURE,
    NODE_INODES: DISK_PRESSURE,
    IMAGE_DISK: DISK_PRESSURE,
    IMAGE_INODES: DISK_PRESSURE,
}
_RESOURCES: Final = {
    MEMORY: "memory",
    TASKS: "pids",
    NODE_DISK: "ephemeral-storage",
    NODE_INODES: "inodes",
    IMAGE_DISK: "ephemeral-storage",
    IMAGE_INODES: "inodes",
}
DISK_SIGNALS: Final = frozenset({NODE_DISK, NODE_INODES, IMAGE_DISK, IMAGE_INODES})
_SUFFIXES: Final = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")


class Level(NamedTuple):
    """What there is of something: bytes, inodes or process ids."""

    available: int
    capacity: int


class Shortfall(NamedTuple):
    """A threshold that is met."""

    signal: str
    threshold: int
    available: int


class ContainerUse(NamedTuple):
    """A container's memory and disk in bytes."""

    name: str
    memory: int
    disk: int


class PodUse(NamedTuple):
    """What a pod takes: bytes of memory it cannot give back, bytes and inodes of disk (layers, logs, emptyDirs, /etc/hosts), processes.
    `volumes` is each emptyDir's bytes."""

    pod: Pod
    memory: int = 0
    disk: int = 0
    inodes: int = 0
    tasks: int = 0
    containers: tuple[ContainerUse, ...] = ()
    volumes: Mapping[str, int] = {}


def shortfalls(thresholds: Mapping[str, str], levels: Mapping[str, Level]) -> list[Shortfall]:
    """Which of evictionHard's thresholds (`100Mi`, `10%`) are met; memory first, then process ids, then disks. What could not be measured
    is not looked at."""
    found = []
    for signal in _CONDITIONS:
        if signal in thresholds and signal in levels:
            level = levels[signal]
            least = bound(thresholds[signal], level.capacity)
            if level.available < least:
                found.append(Shortfall(signal, least, level.available))
    return found


def bound(threshold: str, capacity: int) -> int:
    """A threshold in units. Raises ValueError."""
    if threshold.endswith("%"):
        return int(capacity * float(threshold[:-1]) / 100)
    return whole(threshold)


def held(before: Mapping[str, float], short: Iterable[Shortfall], now: float, hold_seconds: float) -> dict[str, float]:
    """The pressure conditions and when each was last observed; one holds for `hold_seconds` after that."""
    observed = {condition: now for condition in (_CONDITIONS[each.signal] for each in short)}
    return {condition: at for condition, at in {**before, **observed}.items() if now - at < hold_seconds or condition in observed}


def ranked(uses: Iterable[PodUse], signal: str) -> list[PodUse]:
    """Those that may be evicted for this signal, first to go first: who uses more than asked for, then lower priority, then the larger
    excess. Critical pods, and those on their way out or ended, are spared."""
    candidates = [each for each in uses if is_evictable(each.pod)]
    return sorted(candidates, key=lambda each: _order(each, signal))


def _order(use: PodUse, signal: str) -> tuple[bool, int, int]:
    priority = int(use.pod.spec.get("priority") or 0)
    what = _RESOURCES[signal]
    if what in ("pids", "inodes"):
        return False, priority, -(use.tasks if what == "pids" else use.inodes)
    excess = (use.memory if what == "memory" else use.disk) - requested(use.pod, what)
    return excess <= 0, priority, -excess


def requested(pod: Pod, resource: str) -> int:
    """0 when the pod's quantities are wrong."""
    try:
        return scheduling.requests(pod.spec).get(resource, 0)
    except ValueError:
        return 0


def message(short: Shortfall, use: PodUse) -> str:
    """The status's message of a pod that is evicted for `short`."""
    what = _RESOURCES[short.signal]
    say = str if what in ("pids", "inodes") else binary
    told = f"The node was low on resource: {what}. Threshold quantity: {say(short.threshold)}, available: {say(short.available)}. "
    for each in use.containers if what in ("memory", "ephemeral-storage") else ():
        container = use.pod.container(each.name)
        used = each.memory if what == "memory" else each.disk
        asked = _quantity(((container.spec if container else {}).get("resources") or {}).get("requests"), what)
        if used > asked:
            told += f"Container {each.name} was using {binary(used)}, request is {binary(asked)}, has larger consumption of {what}. "
    return told


def over_limit(use: PodUse) -> str:
    """Why a pod is evicted for its own disk limits (an emptyDir's sizeLimit, limits of ephemeral-storage), "" when it keeps them."""
    pod = use.pod
    for volume in pod.spec.get("volumes") or ():
        limit = (volume.get("emptyDir") or {}).get("sizeLimit")
        name = str(volume.get("name", ""))
        if limit and 0 < _whole(limit) < use.volumes.get(name, 0):
            return f'Usage of EmptyDir volume "{name}" exceeds the limit "{limit}". '
    limits = [_quantity((each.spec.get("resources") or {}).get("limits"), "ephemeral-storage") for each in pod.containers]
    if limits and all(limits) and use.disk > sum(limits):
        return f"Pod ephemeral local storage usage exceeds the total limit of containers {binary(sum(limits))}. "
    for each in use.containers:
        container = pod.container(each.name)
        written = ((container.spec if container else {}).get("resources") or {}).get("limits")
        limit = _quantity(written, "ephemeral-storage")
        if 0 < limit < each.disk:
            return f'Container {each.name} exceeded its local ephemeral storage limit "{binary(limit)}". '
    return ""


def has_disk_limits(pod: Pod) -> bool:
    """Whether there is anything `over_limit` could find; measuring a pod's disk costs."""
    return any((each.get("emptyDir") or {}).get("sizeLimit") for each in pod.spec.get("volumes") or ()) or any(
        _quantity((each.spec.get("resources") or {}).get("limits"), "ephemeral-storage") for each in pod.all_containers
    )


def binary(number: int) -> str:
    """A quantity in the largest binary unit that is exact: 100Mi."""
    step = 0
    while number and number % 1024 == 0 and step < len(_SUFFIXES) - 1:
        number, step = number // 1024, step + 1
    return f"{number}{_SUFFIXES[step]}"


def resource(short: Shortfall) -> str:
    """What runs low: memory, ephemeral-storage, inodes or pids."""
    return _RESOURCES[short.signal]


def is_evictable(pod: Pod) -> bool:
    """Not critical, not on its way out, not ended."""
    return not pod.is_critical and not pod.is_deleting and pod.status.get("phase") not in TERMINAL


def _quantity(resources: Mapping[str, str] | None, name: str) -> int:
    return _whole((resources or {}).get(name))


def _whole(quantity: str | int | None) -> int:
    try:
        return whole(quantity)
    except ValueError:
        return 0
