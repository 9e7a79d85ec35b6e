"""The pods' part of the cgroup tree: kubepods, its tiers by quality of service, a cgroup for each pod (Kubernetes, cgroups for pods)."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from pinnace.core.base.errors import ConfigError
from pinnace.core.base.pod import Pod
from pinnace.core.base.settings.edged import KubeletSettings
from pinnace.core.pods.ports import SpecRefused
from pinnace.core.pods.rules.qos import QosClass, qos_class
from pinnace.core.pods.rules.resources import LEAST_SHARES, PERIOD, PodLimits, pod_limits, shares_of, tier_shares, weight_of
from pinnace.core.pods.upkeep.hierarchies import Hierarchies

logger = logging.getLogger(__name__)

_ALL: Final = "kubepods"
_POD: Final = "pod"
_TIERS: Final = {QosClass.GUARANTEED: (), QosClass.BURSTABLE: ("burstable",), QosClass.BEST_EFFORT: ("besteffort",)}


class PodCgroups:
    """Implements ports.Cgroups below the configured cgroupRoot; nothing outside of `kubepods` in it is touched.

    `room` is what all pods together may have (rules/allocatable.unreserved). With the systemd driver cgroups have the names of slices,
    which systemd takes over when the runtime asks for a scope in one.
    """

    def __init__(self, settings: KubeletSettings, *, room: Mapping[str, int], hierarchies: Hierarchies | None = None) -> None:
        self._tree = hierarchies or Hierarchies()
        self._names = _Slices(settings.cgroup_root) if settings.cgroup_driver == "systemd" else _Paths(settings.cgroup_root)
        self._pids_limit = settings.pod_pids_limit
        self._room = room
        self._pods: dict[str, tuple[Pod, PodLimits]] = {}
        self._is_ready = False
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

    def ensure(self, pod: Pod) -> None:
        try:
            limits = pod_limits(pod)
            known = self._pods.get(pod.uid)
            path = self._names.path(*_TIERS[_tier(pod)], _POD + pod.uid)
            if known is not None and known[1] == limits and self._exists(path):
                return
            self._ensure_tiers()
            self._tree.make(path)
            self._limit(path, limits, self._pids_limit)
        except (OSError, ValueError) as error:
            raise SpecRefused(f"the pod's cgroup cannot be made: {error}", reason="FailedCreatePodContainer") from error
        self._pods[pod.uid] = (pod, limits)
        self._share()

    def remove(self, pod_uid: str) -> None:
        """What is not gone at once, because a process has not ended yet, stays among the leftovers."""
        self._pods.pop(pod_uid, None)
        for tier in _TIERS.values():
            self._tree.remove(self._names.path(*tier, _POD + pod_uid))
        self._share()

    def dissolve(self) -> None:
        """Remove the tiers too, when no pod is to run here any more."""
        for tier in sorted(_TIERS.values(), key=len, reverse=True):
            self._tree.remove(self._names.path(*tier))

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
        for tier in (_TIERS[_tier(known[0])],) if known else _TIERS.values():
            yield self._names.path(*tier, _POD + pod_uid)

    def _exists(self, path: str) -> bool:
        folders = [self._tree.folder(each, path) for each in ("memory", "cpu", "pids")]
        return all(each.is_dir() for each in folders if each is not None)

    def _ensure_tiers(self) -> None:
        if self._is_ready and self._exists(self._names.path()):
            return
        for tier in _TIERS.values():
            self._tree.make(self._names.path(*tier))
        self._set_shares(self._names.path(), shares_of(self._room.get("cpu", 0)))
        self._set_memory(self._names.path(), self._room.get("memory", 0))
        self._set_shares(self._names.path("besteffort"), LEAST_SHARES)
        self._is_ready = True

    def _share(self) -> None:
        """The tier of Burstable pods counts as much as they request together."""
        shares = tier_shares([pod for pod, _ in self._pods.values()], QosClass.BURSTABLE)
        with contextlib.suppress(OSError):
            self._set_shares(self._names.path("burstable"), shares)

    def _limit(self, path: str, limits: PodLimits, pids: int) -> None:
        self._set_shares(path, limits.cpu_shares)
        self._set_quota(path, limits.cpu_quota)
        self._set_memory(path, limits.memory_limit)
        if pids > 0:
            self._set("pids", path, "pids.max", str(pids))
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


class _Paths:
    """Names of the cgroupfs driver: kubepods/burstable/pod<uid>."""

    def __init__(self, root: str) -> None:
        self._root = _checked(root)

    def path(self, *parts: str) -> str:
        return "/".join((*self._root, _ALL, *parts))

    @staticmethod
    def uids(names: Collection[str], tier: tuple[str, ...]) -> set[str]:
        return {name.removeprefix(_POD) for name in names if name.startswith(_POD)}


class _Slices:
    """Names of the systemd driver: kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid with _ for ->.slice."""

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
