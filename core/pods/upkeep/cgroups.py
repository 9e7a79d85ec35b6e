"""The pods' part of the cgroup tree: kubepods, its tiers by quality of service, a cgroup for each pod (Kubernetes, cgroups for pods)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from pinnace.core.base.errors import ConfigError
from pinnace.core.base.pod import Pod
from pinnace.core.base.settings.edged import KubeletSettings
from pinnace.core.pods.ports import SpecRefused
from pinnace.core.pods.rules.qos import QosClass, qos_class
from pinnace.core.pods.rules.resources import PERIOD, PodLimits, pod_limits, shares_of, tier_shares, weight_of
from pinnace.core.pods.rules.slices import slice_properties
from pinnace.core.pods.upkeep.dbuswire import DbusFailed
from pinnace.core.pods.upkeep.hierarchies import Hierarchies
from pinnace.core.pods.upkeep.slices import Slices

logger = logging.getLogger(__name__)

_ALL: Final = "kubepods"
_POD: Final = "pod"
_FAILED: Final = "FailedCreatePodContainer"
_TIERS: Final = {QosClass.GUARANTEED: (), QosClass.BURSTABLE: ("burstable",), QosClass.BEST_EFFORT: ("besteffort",)}


class PodCgroups:
    """Implements ports.Cgroups below the configured cgroupRoot; nothing outside of `kubepods` in it is touched.

    `room` is what all pods together may have (rules/allocatable.unreserved). With the systemd driver cgroups have the names of slices, and
    `slices` makes and limits them: what systemd was not told of is gone when a runtime asks it for the first scope in a slice.
    """

    def __init__(
        self, settings: KubeletSettings, *, room: Mapping[str, int], hierarchies: Hierarchies | None = None, slices: Slices | None = None
    ) -> None:
        is_systemd = settings.cgroup_driver == "systemd"
        self._tree = hierarchies or Hierarchies()
        self._names = _SliceNames(settings.cgroup_root) if is_systemd else _FolderNames(settings.cgroup_root)
        self._systemd = (slices or Slices()) if is_systemd else None
        self._tasks_limit = max(settings.pod_pids_limit, 0)
        self._room = room
        self._pods: dict[str, Pod] = {}
        self._held: dict[str, PodLimits] = {}
        """What a path was limited to."""
        self._lock = asyncio.Lock()
        """For the tiers, which all pods change."""
        self._lacking: set[str] = set()

    @property
    def problem(self) -> str:
        """What the kernel lacks to keep pods to their limits, and what to do; "" when all is there."""
        lacking = [each for each in ("cpu", "memory", "pids") if self._tree.folder(each, "") is None]
        if not lacking:
            return ""
        hint = "; on a Raspberry Pi add cgroup_enable=memory to the kernel's command line" if "memory" in lacking else ""
        return f"the kernel has no cgroup controller for {', '.join(lacking)}: such limits of pods are not kept{hint}"

    def parent(self, pod: Pod) -> str:
        return f"/{self._names.path(*_TIERS[_tier(pod)], _POD + pod.uid)}"

    async def ensure(self, pod: Pod) -> None:
        try:
            limits = pod_limits(pod)._replace(tasks_limit=self._tasks_limit)
            path = self.parent(pod)[1:]
            if not self._is_held(path, limits):
                async with self._lock:
                    await self._hold({**self._tiers({**self._pods, pod.uid: pod}), path: limits})
                    self._pods[pod.uid] = pod
        except DbusFailed as error:
            told = "see that dbus and systemd run (systemctl status dbus), or choose cgroupDriver cgroupfs"
            raise SpecRefused(f"systemd could not be told of the pod's limits: {error}; {told}", reason=_FAILED) from error
        except (OSError, ValueError) as error:
            raise SpecRefused(f"the pod's cgroup cannot be made: {error}", reason=_FAILED) from error

    async def remove(self, pod_uid: str) -> None:
        """What is not gone at once, because a process has not ended yet or systemd does not answer, stays among the leftovers."""
        known = self._pods.pop(pod_uid, None)
        for tier in _TIERS.values():
            await self._remove(self._names.path(*tier, _POD + pod_uid))
        if known is not None:
            async with self._lock:
                try:
                    held = [each for each in self._held if self._exists(each)]
                    await self._hold({path: limits for path, limits in self._tiers(self._pods).items() if path in held})
                except (OSError, DbusFailed) as error:
                    logger.warning("pods.cgroup.not-shared reason=%s; the shares of pods are those of before", error)

    async def dissolve(self) -> None:
        """Remove the tiers too, when no pod is to run here any more."""
        for tier in sorted(_TIERS.values(), key=len, reverse=True):
            await self._remove(self._names.path(*tier))

    def leftovers(self) -> Collection[str]:
        return {uid for tier in _TIERS.values() for uid in self._names.uids(self._tree.children(self._names.path(*tier)), tier)}

    def working_set(self, pod_uid: str) -> int:
        for path in self._paths(pod_uid):
            used = self._tree.read("memory", path, "memory.current" if self._tree.is_unified else "memory.usage_in_bytes")
            if used:
                inactive = _field(self._tree.read("memory", path, "memory.stat"), "inactive_file", "total_inactive_file")
                return max(int(used) - inactive, 0)
        return 0

    def tasks(self, pod_uid: str) -> int:
        """How many processes and threads a pod has; 0 when unknown."""
        for path in self._paths(pod_uid):
            if current := self._tree.read("pids", path, "pids.current"):
                return int(current)
        return 0

    def _paths(self, pod_uid: str) -> Iterator[str]:
        known = self._pods.get(pod_uid)
        for tier in (_TIERS[_tier(known)],) if known else _TIERS.values():
            yield self._names.path(*tier, _POD + pod_uid)

    async def _remove(self, path: str) -> None:
        was_held = self._held.pop(path, None) is not None
        if self._systemd is not None and (was_held or self._tree.folders(path)):
            self._tree.kill(path)  # systemd would give what is in it 90 s
            try:
                await self._systemd.stop(_unit(path))
            except DbusFailed as error:
                logger.warning("pods.cgroup.not-removed slice=%s reason=%s; it is tried again", _unit(path), error)
                return
        self._tree.remove(path)

    def _exists(self, path: str) -> bool:
        folders = [self._tree.folder(each, path) for each in ("memory", "cpu", "pids")]
        return all(each.is_dir() for each in folders if each is not None)

    def _tiers(self, pods: Mapping[str, Pod]) -> dict[str, PodLimits]:
        """The cgroups above those of pods: all have the room there is, Burstable ones count as much as they request together."""
        return {
            self._names.path(): PodLimits(shares_of(self._room.get("cpu", 0)), 0, self._room.get("memory", 0), {}),
            **{
                self._names.path(*_TIERS[each]): PodLimits(tier_shares(pods.values(), each), 0, 0, {})
                for each in (QosClass.BURSTABLE, QosClass.BEST_EFFORT)
            },
        }

    def _is_held(self, path: str, limits: PodLimits) -> bool:
        return self._held.get(path) == limits and self._exists(path)

    async def _hold(self, wanted: Mapping[str, PodLimits]) -> None:
        """Have these cgroups, those above first, with these limits. Raises OSError, DbusFailed."""
        changed = {path: limits for path, limits in wanted.items() if not self._is_held(path, limits)}
        if self._systemd is not None and changed:
            unified = self._tree.is_unified
            await self._systemd.hold({_unit(path): slice_properties(limits, unified=unified) for path, limits in changed.items()})
        for path, limits in changed.items():
            if self._systemd is None:
                self._tree.make(path)
                self._limit(path, limits)
            elif limits.hugepages:
                self._tree.make(path)  # systemd knows nothing of them
            self._limit_huge_pages(path, limits)
            self._held[path] = limits

    def _limit(self, path: str, limits: PodLimits) -> None:
        self._set_shares(path, limits.cpu_shares)
        self._set_quota(path, limits.cpu_quota)
        self._set_memory(path, limits.memory_limit)
        if limits.tasks_limit:
            self._set("pids", path, "pids.max", str(limits.tasks_limit))

    def _limit_huge_pages(self, path: str, limits: PodLimits) -> None:
        for size, most in limits.hugepages.items():
            self._set("hugetlb", path, f"hugetlb.{size}.{'max' if self._tree.is_unified else 'limit_in_bytes'}", str(most))

    def _set_shares(self, path: str, shares: int) -> None:
        if self._tree.is_unified:
            self._set("cpu", path, "cpu.weight", str(weight_of(shares)))
        else:
            self._set("cpu", path, "cpu.shares", str(shares))

    def _set_quota(self, path: str, quota: int) -> None:
        if self._tree.is_unified:
            self._set("cpu", path, "cpu.max", f"{quota or 'max'} {PERIOD}")
        else:
            self._set("cpu", path, "cpu.cfs_period_us", str(PERIOD))
            self._set("cpu", path, "cpu.cfs_quota_us", str(quota or -1))

    def _set_memory(self, path: str, limit: int) -> None:
        if self._tree.is_unified:
            self._set("memory", path, "memory.max", str(limit or "max"))
        else:
            self._set("memory", path, "memory.limit_in_bytes", str(limit or -1))

    def _set(self, controller: str, path: str, file: str, value: str) -> None:
        if not self._tree.write(controller, path, file, value) and file not in self._lacking:
            self._lacking.add(file)
            logger.warning("pods.cgroup.not-limited file=%s: this kernel has none; such limits are not kept", file)


class _FolderNames:
    """Of the cgroupfs driver: kubepods/burstable/pod<uid>."""

    def __init__(self, root: str) -> None:
        self._root = _checked(root)

    def path(self, *parts: str) -> str:
        return "/".join((*self._root, _ALL, *parts))

    @staticmethod
    def uids(names: Collection[str], tier: tuple[str, ...]) -> set[str]:
        return {name.removeprefix(_POD) for name in names if name.startswith(_POD)}


class _SliceNames:
    """Of the systemd driver: kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid with _ for ->.slice."""

    def __init__(self, root: str) -> None:
        if _checked(root):
            raise ConfigError("cgroupRoot: with cgroupDriver systemd expected /, where its slices are; or choose cgroupDriver cgroupfs")

    def path(self, *parts: str) -> str:
        names = [_ALL]
        for part in parts:
            names.append(f"{names[-1]}-{part.replace('-', '_')}")
        return "/".join(f"{name}.slice" for name in names)

    @staticmethod
    def uids(names: Collection[str], tier: tuple[str, ...]) -> set[str]:
        start = "-".join((_ALL, *tier, _POD))
        found = (name.removesuffix(".slice") for name in names if name.startswith(start))
        return {name.removeprefix(start).replace("_", "-") for name in found}


def _unit(path: str) -> str:
    return path.rpartition("/")[2]


def _checked(root: str) -> tuple[str, ...]:
    parts = tuple(part for part in root.split("/") if part)
    if any(part in (".", "..") for part in parts):
        raise ConfigError("cgroupRoot: expected a path below the cgroup hierarchies' roots, such as / or /edge")
    return parts


def _tier(pod: Pod) -> QosClass:
    """A pod whose quantities are wrong is refused by admission and `ensure`; until then it is among the least."""
    try:
        return qos_class(pod)
    except ValueError:
        return QosClass.BEST_EFFORT


def _field(text: str, *names: str) -> int:
    """Of the last of `names` that a flat-keyed file has: v1's total counts, where there is one."""
    found = dict(pair for line in text.splitlines() if len(pair := line.split()) == 2)
    return next((int(found[name]) for name in reversed(names) if name in found), 0)
