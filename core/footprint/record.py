"""A recording: what each process and part used over time, what was written and sent, as JSON that can be compared later."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pinnace.core.footprint.live import Look
from pinnace.core.footprint.mappings import Part, Sizes
from pinnace.core.footprint.processes import OWN, Group

VERSION: Final = 1
DAY_SECONDS: Final = 86_400


def spread(values: Iterable[float]) -> dict[str, float]:
    """Median, p95 (nearest rank) and max."""
    ordered = sorted(values)
    if not ordered:
        return {"median": 0, "p95": 0, "max": 0}
    return {"median": statistics.median(ordered), "p95": ordered[math.ceil(0.95 * len(ordered)) - 1], "max": ordered[-1]}


@dataclass(frozen=True, slots=True)
class Counters:
    """Sums since the first look of a run. `device` is None where the file system has no block device."""

    written: int
    device: int | None
    sent: int
    received: int
    wire: int
    cpu_seconds: float


class Run:
    """Looks of one run, in order; what a process did that was not there at the first look counts from zero."""

    def __init__(self) -> None:
        self._looks: list[Look] = []
        self._devices: list[int | None] = []
        self._written: dict[int, int] = defaultdict(int)
        self._cpu: dict[int, float] = defaultdict(float)
        self._last_written: dict[int, int] = {}
        self._last_cpu: dict[int, float] = {}
        self._last_wire: dict[int, tuple[int, int, int]] = {}
        self._wire = [0, 0, 0]

    def add(self, look: Look, device: int | None) -> None:
        is_first = not self._looks
        for use in look.uses:
            if use.process.group not in OWN:
                continue
            pid = use.process.pid
            before, cpu = (use.written, use.cpu_seconds) if is_first else (self._last_written.get(pid, 0), self._last_cpu.get(pid, 0.0))
            self._written[pid] += max(use.written - before, 0)
            self._cpu[pid] += max(use.cpu_seconds - cpu, 0.0)
            self._last_written[pid], self._last_cpu[pid] = use.written, use.cpu_seconds
        for inode, each in look.wire.items():
            now = each.sent, each.received, each.wire
            last = now if is_first else self._last_wire.get(inode, (0, 0, 0))
            for place in range(3):
                self._wire[place] += max(now[place] - last[place], 0)
            self._last_wire[inode] = now
        self._looks.append(look)
        self._devices.append(device)

    @property
    def seconds(self) -> float:
        return self._looks[-1].at - self._looks[0].at if self._looks else 0.0

    @property
    def counters(self) -> Counters:
        first, last = (self._devices[0], self._devices[-1]) if self._devices else (None, None)
        device = last - first if first is not None and last is not None else None
        return Counters(sum(self._written.values()), device, self._wire[0], self._wire[1], self._wire[2], sum(self._cpu.values()))

    def as_json(self) -> dict[str, Any]:
        counters, seconds = self.counters, self.seconds
        per_day = DAY_SECONDS / seconds if seconds else 0.0
        began = self._looks[0].at if self._looks else 0.0
        return {
            "began": round(began, 3),
            "seconds": round(seconds, 3),
            "samples": len(self._looks),
            "node": {"pss_bytes": spread(each.pss() for each in self._looks)},
            "processes": self._processes(),
            "written_bytes": counters.written,
            "written_by": self._written_by(),
            "device_written_bytes": counters.device,
            "sent_bytes": counters.sent,
            "received_bytes": counters.received,
            "wire_bytes": counters.wire,
            "cpu_percent": round(100 * counters.cpu_seconds / seconds, 3) if seconds else 0.0,
            "per_idle_day": {
                "written_bytes": round(counters.written * per_day),
                "device_written_bytes": round(counters.device * per_day) if counters.device is not None else None,
                "wire_bytes": round(counters.wire * per_day),
            },
            "series": {
                "seconds": [round(each.at - began, 1) for each in self._looks],
                "pss_bytes": {
                    str(group): [each.pss({group}) for each in self._looks]
                    for group in Group
                    if group in OWN and any(each.pss({group}) for each in self._looks)
                },
            },
        }

    def _written_by(self) -> dict[str, int]:
        """By `group/name`, the largest first; those that wrote nothing are left out."""
        names = {use.process.pid: f"{use.process.group}/{use.process.name}" for look in self._looks for use in look.uses}
        found: dict[str, int] = defaultdict(int)
        for pid, size in self._written.items():
            found[names[pid]] += size
        return {name: size for name, size in sorted(found.items(), key=lambda pair: -pair[1]) if size}

    def _processes(self) -> dict[str, Any]:
        """By `group/name`; processes of one name count together."""
        sums: dict[str, list[tuple[Sizes, int, dict[Part, Sizes]]]] = defaultdict(list)
        for look in self._looks:
            now: dict[str, tuple[Sizes, int, dict[Part, Sizes]]] = {}
            for use in look.uses:
                key = f"{use.process.group}/{use.process.name}" if not use.process.pod else f"{use.process.group}/{use.process.pod}"
                sizes, count, parts = now.get(key, (Sizes(), 0, {}))
                merged = {part: parts.get(part, Sizes()) + use.parts.get(part, Sizes()) for part in {*parts, *use.parts}}
                now[key] = sizes + use.sizes, count + 1, merged
            for key, found in now.items():
                sums[key].append(found)
        return {
            key: {
                "count": spread(count for _, count, _ in found),
                "pss_bytes": spread(sizes.pss for sizes, *_ in found),
                "rss_bytes": spread(sizes.rss for sizes, *_ in found),
                "uss_bytes": spread(sizes.uss for sizes, *_ in found),
                "parts": {
                    str(part): spread(parts.get(part, Sizes()).pss for *_, parts in found)
                    for part in Part
                    if any(parts.get(part, Sizes()).rss for *_, parts in found)
                },
            }
            for key, found in sums.items()
        }


def summary(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Over the runs: the median of medians, the largest p95 and max; of what accrues, the median and the largest run."""

    def over(values: Sequence[Mapping[str, float]]) -> dict[str, float]:
        return {
            "median": statistics.median(each["median"] for each in values),
            "p95": max(each["p95"] for each in values),
            "max": max(each["max"] for each in values),
        }

    keys = list(dict.fromkeys(key for run in runs for key in run["processes"]))
    processes = {}
    for key in keys:
        found = [run["processes"][key] for run in runs if key in run["processes"]]
        parts = list(dict.fromkeys(part for each in found for part in each["parts"]))
        processes[key] = {
            **{name: over([each[name] for each in found]) for name in ("count", "pss_bytes", "rss_bytes", "uss_bytes")},
            "parts": {part: over([each["parts"][part] for each in found if part in each["parts"]]) for part in parts},
        }
    days = {}
    for name in ("written_bytes", "device_written_bytes", "wire_bytes"):
        values = [run["per_idle_day"][name] for run in runs if run["per_idle_day"][name] is not None]
        days[name] = {"median": statistics.median(values), "max": max(values)} if values else None
    return {
        "node": {"pss_bytes": over([run["node"]["pss_bytes"] for run in runs])},
        "processes": processes,
        "per_idle_day": days,
        "cpu_percent": {"median": statistics.median(run["cpu_percent"] for run in runs), "max": max(run["cpu_percent"] for run in runs)},
    }
