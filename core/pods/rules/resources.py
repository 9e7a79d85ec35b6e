"""Requests and limits as the kernel's cgroups want them, for containers, pods and the tiers above (Kubernetes API, ResourceRequirements).

cgroup v1 counts shares and quota, v2 weight and quota; runtimes take v1's words and convert.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from pinnace.core.base.contract.quantities import millis, whole
from pinnace.core.base.contract.scheduling import amount, amounts, requests
from pinnace.core.base.pod import Container, Object, Pod
from pinnace.core.base.runtime import Resources
from pinnace.core.pods.rules.qos import QosClass, oom_score_adj, qos_class

PERIOD: Final = 100_000
"""Of the CPU quota, in microseconds."""
LEAST_SHARES: Final = 2
MOST_SHARES: Final = 262_144
_LEAST_QUOTA: Final = 1_000
_HUGE_PAGES: Final = "hugepages-"


def shares_of(cpu_millis: int) -> int:
    """cgroup v1's cpu.shares for thousandths of a CPU."""
    return min(max(cpu_millis * 1024 // 1000, LEAST_SHARES), MOST_SHARES)


def weight_of(shares: int) -> int:
    """cgroup v2's cpu.weight (1 to 10,000) for v1's shares."""
    return 1 + (min(max(shares, LEAST_SHARES), MOST_SHARES) - 2) * 9999 // 262_142


def quota_of(cpu_millis: int, period: int = PERIOD) -> int:
    """Microseconds of CPU in each `period`; 0, which is no bound, for 0."""
    return max(cpu_millis * period // 1000, _LEAST_QUOTA) if cpu_millis > 0 else 0


class PodLimits(NamedTuple):
    """What the cgroup of a pod, or of many, is set to; 0 means no limit. `hugepages` are bytes by the size's name in cgroup files (2MB,
    1GB); `tasks_limit` is of processes and threads."""

    cpu_shares: int
    cpu_quota: int
    memory_limit: int
    hugepages: Mapping[str, int]
    tasks_limit: int = 0


def container_resources(pod: Pod, container: Container, *, memory_capacity: int, unified: bool) -> Resources:
    """One container's settings. `memory_capacity` is the machine's, in bytes; `unified` says that the machine has cgroup v2 alone, where
    the OOM killer then ends the container as a whole. Raises ValueError for a text that is no quantity."""
    resources: Object = container.spec.get("resources") or {}
    asked, limits = resources.get("requests") or {}, resources.get("limits") or {}
    cpu_limit = millis(limits.get("cpu"))
    cpu_asked = millis(asked["cpu"]) if asked.get("cpu") is not None else cpu_limit
    return Resources(
        cpu_period=PERIOD,
        cpu_quota=quota_of(cpu_limit),
        cpu_shares=shares_of(cpu_asked),
        memory_limit=whole(limits.get("memory")),
        oom_score_adj=oom_score_adj(pod, container, memory_capacity),
        hugepages=_huge_pages(amounts(limits)),
        unified={"memory.oom.group": "1"} if unified else {},
    )


def pod_limits(pod: Pod) -> PodLimits:
    """Shares of what the pod requests; quota and memory where every container has that limit, the most the pod may need at any moment:
    its containers and sidecars together, or one init container beside the sidecars before it. Raises ValueError."""
    limits = _limits(pod)
    best_effort = qos_class(pod) is QosClass.BEST_EFFORT
    return PodLimits(
        cpu_shares=LEAST_SHARES if best_effort else shares_of(requests(pod.spec).get("cpu", 0)),
        cpu_quota=quota_of(limits.get("cpu", 0)),
        memory_limit=limits.get("memory", 0),
        hugepages=_huge_pages(limits),
    )


def tier_shares(pods: Iterable[Pod], tier: QosClass) -> int:
    """cpu.shares of the cgroup above all pods of a class: Burstable's is the sum of what they request, BestEffort's the least."""
    if tier is not QosClass.BURSTABLE:
        return LEAST_SHARES
    return shares_of(sum(requests(each.spec).get("cpu", 0) for each in pods if qos_class(each) is QosClass.BURSTABLE))


def _limits(pod: Pod) -> dict[str, int]:
    """cpu in thousandths, the others in units; cpu and memory only where nothing in the pod goes without."""
    own = amounts((pod.spec.get("resources") or {}).get("limits") or {})
    stated = {**_alike(pod, "cpu"), **_alike(pod, "memory"), **_huge_limits(pod)}
    stated.update({name: value for name, value in own.items() if value > 0})
    return stated


def _alike(pod: Pod, name: str) -> dict[str, int]:
    each_limit = [amount(name, limit) if (limit := _limit(each, name)) else 0 for each in pod.all_containers]
    if not each_limit or not all(each_limit):
        return {}
    spec = {
        "initContainers": [_only_limit(each, name) for each in pod.init_containers],
        "containers": [_only_limit(each, name) for each in pod.containers],
        "overhead": {name: extra} if (extra := (pod.spec.get("overhead") or {}).get(name)) else {},
    }
    return requests(spec)


def _huge_limits(pod: Pod) -> dict[str, int]:
    names = {name for each in pod.all_containers for name in ((each.spec.get("resources") or {}).get("limits") or {})}
    found: dict[str, int] = {}
    for name in names:
        if name.startswith(_HUGE_PAGES):
            found.update(requests({"containers": [_only_limit(each, name) for each in pod.containers]}))
    return found


def _limit(container: Container, name: str) -> str | None:
    limit = ((container.spec.get("resources") or {}).get("limits") or {}).get(name)
    return None if limit is None else str(limit)


def _only_limit(container: Container, name: str) -> Object:
    limit = _limit(container, name)
    only: Object = {"resources": {"requests": {name: limit}} if limit is not None else {}}
    return only | ({"restartPolicy": "Always"} if container.is_sidecar else {})


def _huge_pages(limits: Mapping[str, int]) -> dict[str, int]:
    found = {}
    for name, value in limits.items():
        if name.startswith(_HUGE_PAGES):
            size = whole(name.removeprefix(_HUGE_PAGES))
            unit = next((unit for unit, bits in (("GB", 30), ("MB", 20), ("KB", 10)) if size >> bits), "B")
            bits = {"GB": 30, "MB": 20, "KB": 10, "B": 0}[unit]
            found[f"{size >> bits}{unit}"] = value
    return found
