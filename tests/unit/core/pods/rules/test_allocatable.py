"""What pods may have of a node."""

from __future__ import annotations

import pytest

from pinnace.core.base.settings.edged import KubeletSettings
from pinnace.core.pods.rules.allocatable import allocatable, quantities, unreserved

CAPACITY = {"cpu": 4000, "memory": 1 << 30, "ephemeral-storage": 10 << 30}


def test_without_reservations_only_the_thresholds_are_kept_free() -> None:
    found = allocatable(CAPACITY, KubeletSettings(max_pods=7))
    assert found == {"cpu": 4000, "memory": (1 << 30) - (100 << 20), "ephemeral-storage": 9 << 30, "pods": 7}
    assert quantities(found) == {"cpu": "4", "memory": "946176Ki", "ephemeral-storage": "9437184Ki", "pods": "7"}


def test_reservations() -> None:
    settings = KubeletSettings(system_reserved={"cpu": "100m", "memory": "128Mi"}, kube_reserved={"cpu": "150m"}, eviction_hard={})
    assert unreserved(CAPACITY, settings) == {"cpu": 3750, "memory": (1 << 30) - (128 << 20), "ephemeral-storage": 10 << 30}
    assert quantities(allocatable(CAPACITY, settings))["cpu"] == "3750m"
    assert unreserved(CAPACITY, KubeletSettings(kube_reserved={"memory": "9Gi"}))["memory"] == 0
    with pytest.raises(ValueError, match="quantity"):
        unreserved(CAPACITY, KubeletSettings(kube_reserved={"memory": "lots"}))
