"""Limits as systemd's properties."""

from __future__ import annotations

import pytest

from pinnace.core.pods.rules.resources import PodLimits
from pinnace.core.pods.rules.slices import UNLIMITED, quota_per_second, slice_properties


@pytest.mark.parametrize(
    ("quota", "found"),
    [
        (0, UNLIMITED),
        (50_000, 500_000),
        (100_000, 1_000_000),
        (250_000, 2_500_000),
        (1_000, 10_000),
        (50_500, 510_000),  # systemd writes down whole percents, and rounds to zero
        (33_333, 340_000),
    ],
)
def test_quota_of_a_second(quota: int, found: int) -> None:
    assert quota_per_second(quota) == found


def test_properties_on_cgroup_v2() -> None:
    limits = PodLimits(512, 50_000, 64 << 20, {"2MB": 4 << 20}, tasks_limit=100)
    assert dict(slice_properties(limits, unified=True)) == {
        "CPUAccounting": ("b", True),
        "MemoryAccounting": ("b", True),
        "IOAccounting": ("b", True),
        "TasksAccounting": ("b", True),
        "CPUWeight": ("t", 20),
        "CPUQuotaPerSecUSec": ("t", 500_000),
        "MemoryMax": ("t", 64 << 20),
        "TasksMax": ("t", 100),
    }


def test_properties_on_cgroup_v1() -> None:
    assert dict(slice_properties(PodLimits(2, 0, 0, {}), unified=False)) == {
        "CPUAccounting": ("b", True),
        "MemoryAccounting": ("b", True),
        "BlockIOAccounting": ("b", True),
        "TasksAccounting": ("b", True),
        "CPUShares": ("t", 2),
        "CPUQuotaPerSecUSec": ("t", UNLIMITED),
        "MemoryLimit": ("t", UNLIMITED),
        "TasksMax": ("t", UNLIMITED),
    }
