"""The limits of a pod, or of many, as systemd's properties of a slice (systemd, resource control; its D-Bus interface of units)."""

from __future__ import annotations

from typing import Final

from pinnace.core.pods.rules.resources import PERIOD, PodLimits, weight_of

Property = tuple[str, tuple[str, int]]
"""Name and variant: type and value."""
UNLIMITED: Final = 2**64 - 1
_STEP: Final = 10_000
"""systemd writes a quota down in whole percents of a CPU: this many microseconds in each second."""


def quota_per_second(quota: int) -> int:
    """Microseconds of CPU in each second for those in each PERIOD, rounded up to what systemd can keep; UNLIMITED for 0."""
    return -(-quota * (1_000_000 // PERIOD) // _STEP) * _STEP or UNLIMITED


def slice_properties(limits: PodLimits, *, unified: bool) -> list[Property]:
    """All that systemd can keep to; huge pages are none of it. `unified`: the machine has cgroup v2 alone."""
    weight = ("CPUWeight", weight_of(limits.cpu_shares)) if unified else ("CPUShares", limits.cpu_shares)
    accounted = ("CPU", "Memory", "IO" if unified else "BlockIO", "Tasks")
    numbers = (
        weight,
        ("CPUQuotaPerSecUSec", quota_per_second(limits.cpu_quota)),
        ("MemoryMax" if unified else "MemoryLimit", limits.memory_limit or UNLIMITED),
        ("TasksMax", limits.tasks_limit or UNLIMITED),
    )
    return [*((f"{each}Accounting", ("b", True)) for each in accounted), *((name, ("t", number)) for name, number in numbers)]
