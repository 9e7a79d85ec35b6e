"""Quality of service: a pod's class and what the kernel's OOM killer is told (Kubernetes API, core/v1 PodStatus.qosClass)."""

from __future__ import annotations

from enum import Enum
from typing import Final

from pinnace.core.base.contract.quantities import nanos, whole
from pinnace.core.base.pod import Container, Object, Pod

NODE_CRITICAL_PRIORITY: Final = 2_000_001_000
"""The priority of class system-node-critical."""
_PROTECTED: Final = -997
_COUNTED: Final = ("cpu", "memory")


class QosClass(Enum):
    GUARANTEED = "Guaranteed"
    BURSTABLE = "Burstable"
    BEST_EFFORT = "BestEffort"


def qos_class(pod: Pod) -> QosClass:
    """Guaranteed: every container has limits of cpu and memory, and requests equal to them where given. BestEffort: no container has any
    of the four. Burstable: everything else. Init containers count; resources of the pod itself count instead where given. Raises
    ValueError for a text that is no quantity.
    """
    own = _counted(pod.spec.get("resources") or {})
    each_asked = [own] if any(own) else [_counted(each.spec.get("resources") or {}) for each in pod.all_containers]
    if not any(requests or limits for requests, limits in each_asked):
        return QosClass.BEST_EFFORT
    is_fixed = all(set(limits) == set(_COUNTED) and {**limits, **requests} == limits for requests, limits in each_asked)
    return QosClass.GUARANTEED if is_fixed else QosClass.BURSTABLE


def _counted(resources: Object) -> tuple[dict[str, int], dict[str, int]]:
    """Requests and limits of cpu and memory above 0, in billionths."""
    requests, limits = (
        {name: value for name in _COUNTED if (value := nanos(str((resources.get(part) or {}).get(name, "0")))) > 0}
        for part in ("requests", "limits")
    )
    return requests, limits


def oom_score_adj(pod: Pod, container: Container, memory_capacity: int) -> int:
    """-997 for Guaranteed and node-critical pods, 1000 for BestEffort, in between by the share of the machine's memory (bytes) requested.

    A sidecar is spared at least as long as the ordinary container that is spared the least.
    """
    if int(pod.spec.get("priority") or 0) >= NODE_CRITICAL_PRIORITY:
        return _PROTECTED
    match qos_class(pod):
        case QosClass.GUARANTEED:
            return _PROTECTED
        case QosClass.BEST_EFFORT:
            return 1000
        case QosClass.BURSTABLE:
            score = _by_share(_memory_request(container), memory_capacity)
            if container.is_sidecar and pod.containers:
                least = min(_memory_request(each) for each in pod.containers)
                score = min(score, _by_share(least, memory_capacity))
            return score


def _by_share(requested: int, capacity: int) -> int:
    score = 1000 - (1000 * requested) // capacity if capacity > 0 else 999
    return min(max(score, 3), 999)


def _memory_request(container: Container) -> int:
    resources = container.spec.get("resources") or {}
    asked = (resources.get("requests") or {}).get("memory")
    return whole(asked if asked is not None else (resources.get("limits") or {}).get("memory"))
