"""What of a node pods may have (Kubernetes, node allocatable): its capacity without what is reserved. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pinnace.core.base.contract.scheduling import amount
from pinnace.core.base.settings.edged import KubeletSettings
from pinnace.core.pods.rules.eviction import MEMORY, NODE_DISK, bound

_KEPT_BY: Final = {"memory": MEMORY, "ephemeral-storage": NODE_DISK}


def unreserved(capacity: Mapping[str, int], settings: KubeletSettings) -> dict[str, int]:
    """Capacity without systemReserved and kubeReserved: what all pods together are held to. Whole numbers as in
    base/contract/scheduling.py. Raises ValueError for a reservation that is no quantity."""
    left = dict(capacity)
    for reserved in (settings.system_reserved, settings.kube_reserved):
        for name, quantity in reserved.items():
            if name in left:
                left[name] = max(left[name] - amount(name, quantity), 0)
    return left


def allocatable(capacity: Mapping[str, int], settings: KubeletSettings) -> dict[str, int]:
    """What a scheduler and admission count with: `unreserved` without what evictionHard keeps free, and maxPods. Raises ValueError."""
    left = unreserved(capacity, settings)
    for name, signal in _KEPT_BY.items():
        if name in left and signal in settings.eviction_hard:
            left[name] = max(left[name] - bound(settings.eviction_hard[signal], capacity[name]), 0)
    return {**left, "pods": settings.max_pods}


def quantities(amounts: Mapping[str, int]) -> dict[str, str]:
    """As the Node object writes them."""
    return {name: _quantity(name, value) for name, value in amounts.items()}


def _quantity(name: str, value: int) -> str:
    if name == "cpu":
        return f"{value}m" if value % 1000 else str(value // 1000)
    return f"{value >> 10}Ki" if name in _KEPT_BY and value % 1024 == 0 else str(value)
