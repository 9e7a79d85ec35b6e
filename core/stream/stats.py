"""What node and pods use, as the kubelet tells it: /stats/summary and /metrics/resource (kubelet API, stats/v1alpha1)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pinnace.core.base.contract.keys import NodeName
from pinnace.core.base.contract.moments import moment
from pinnace.core.base.diskuse import file_system
from pinnace.core.base.pod import Object
from pinnace.core.base.runtime import (
    CONTAINER_NAME_LABEL,
    POD_NAME_LABEL,
    POD_NAMESPACE_LABEL,
    POD_UID_LABEL,
    Container,
    ContainerState,
    Runtime,
    Usage,
)

WINDOW_SECONDS: Final = 10.0
"""The least time over which a rate is told; what was seen nearer than this is kept back as the next one's beginning."""
_NODE: Final = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """Processor time at a moment, both in seconds."""

    at: float
    cpu: float


class Rates:
    """Processor use between a look and the one before it. Nothing is looked at without being asked."""

    def __init__(self) -> None:
        self._before: dict[str, Sample] = {}
        self._latest: dict[str, Sample] = {}

    def cores(self, name: str, now: Sample, began: Sample) -> float:
        """Since the newest look that is long enough ago, else since `began`."""
        latest = self._latest.get(name)
        if latest is None or latest.cpu > now.cpu or latest.at > now.at:  # unknown, counted anew, or the clock was set back
            self._before[name] = began if began.at < now.at else now
            self._latest[name] = now
        elif now.at - latest.at >= WINDOW_SECONDS:
            self._before[name] = latest
            self._latest[name] = now
        before = self._before[name]
        return max(now.cpu - before.cpu, 0.0) / max(now.at - before.at, 0.001)

    def keep(self, names: Iterable[str]) -> None:
        """Forget everything else."""
        kept = set(names)
        for samples in (self._before, self._latest):
            for name in samples.keys() - kept:
                del samples[name]


class Stats:
    """Looks when it is asked. `root` is another folder in tests. `pods_root` is where pods' folders are; the node's `fs` is that file
    system."""

    def __init__(
        self,
        node: NodeName,
        runtime: Runtime | None,
        *,
        root: Path = Path("/"),
        pods_root: Path | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._node = node
        self._runtime = runtime
        self._root = root
        self._pods_root = pods_root or root
        self._wall = wall
        self._rates = Rates()
        self._began = self._node_sample()

    async def summary(self) -> Object:
        """/stats/summary. Raises RuntimeFailed."""
        containers, usages = await self._look()
        node = self._node_sample()
        pods: dict[str, Object] = {}
        for container in containers:
            usage = usages.get(container.id)
            if usage is None:
                continue
            entry = self._container(container, usage)
            pod = pods.setdefault(container.labels[POD_UID_LABEL], _pod(container))
            pod["containers"].append(entry)
            _add(pod, entry)
        self._rates.keep([_NODE, *usages])
        memory = self._memory()
        return {
            "node": {
                "nodeName": self._node,
                "startTime": moment(self._boot_time()),
                "cpu": _cpu(node, self._rates.cores(_NODE, node, self._began)),
                "memory": {"time": moment(node.at), **memory},
                "fs": self._disk(node.at),
            },
            "pods": list(pods.values()),
        }

    async def resource_metrics(self) -> str:
        """/metrics/resource: Prometheus' text format, as metrics-server reads it. Raises RuntimeFailed."""
        containers, usages = await self._look()
        node, memory = self._node_sample(), self._memory()
        rows: dict[str, list[str]] = {}

        def add(name: str, labels: str, value: float, at: float) -> None:
            rows.setdefault(name, []).append(f"{name}{labels} {value:.10g} {int(at * 1000)}")

        add("node_cpu_usage_seconds_total", "", node.cpu, node.at)
        add("node_memory_working_set_bytes", "", memory["workingSetBytes"], node.at)
        sums: dict[str, list[float]] = {}
        for each in containers:
            usage = usages.get(each.id)
            if usage is None:
                continue
            name, pod, namespace = (each.labels.get(key, "") for key in (CONTAINER_NAME_LABEL, POD_NAME_LABEL, POD_NAMESPACE_LABEL))
            labels = f'{{container="{name}",namespace="{namespace}",pod="{pod}"}}'
            add("container_cpu_usage_seconds_total", labels, usage.cpu_seconds, usage.at)
            add("container_memory_working_set_bytes", labels, usage.memory_working_set, usage.at)
            add("container_start_time_seconds", labels, each.started_at, usage.at)
            total = sums.setdefault(f'{{namespace="{namespace}",pod="{pod}"}}', [0.0, 0.0, 0.0])
            total[:] = [total[0] + usage.cpu_seconds, total[1] + usage.memory_working_set, max(total[2], usage.at)]
        for labels, (cpu, working_set, at) in sums.items():
            add("pod_cpu_usage_seconds_total", labels, cpu, at)
            add("pod_memory_working_set_bytes", labels, working_set, at)
        lines = []
        for name, listed in rows.items():
            lines += [f"# TYPE {name} {'counter' if name.endswith('_total') else 'gauge'}", *listed]
        return "\n".join([*lines, "# TYPE resource_scrape_error gauge", "resource_scrape_error 0", ""])

    async def _look(self) -> tuple[list[Container], dict[str, Usage]]:
        if self._runtime is None:
            return [], {}
        usages = {each.id: each for each in await self._runtime.usage()}
        containers = await self._runtime.containers()
        running = [each for each in containers if each.state is ContainerState.RUNNING and POD_UID_LABEL in each.labels]
        return running, usages

    def _container(self, container: Container, usage: Usage) -> Object:
        now = Sample(usage.at, usage.cpu_seconds)
        cores = self._rates.cores(container.id, now, Sample(container.started_at, 0.0))
        memory = {"time": moment(usage.at), "workingSetBytes": usage.memory_working_set, "rssBytes": usage.memory_rss}
        return {
            "name": container.labels.get(CONTAINER_NAME_LABEL, container.name),
            "startTime": moment(container.started_at),
            "cpu": _cpu(now, cores),
            "memory": memory,
            "rootfs": {"time": moment(usage.at), "usedBytes": usage.disk_bytes, "inodesUsed": usage.disk_inodes},
        }

    def _node_sample(self) -> Sample:
        """The machine's processor time since it started, without waiting (proc(5))."""
        words = self._text("proc/stat").split("\n", 1)[0].split()[1:]
        ticks = [int(each) for each in words[:8]] if len(words) >= 8 else [0] * 8
        return Sample(self._wall(), (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK"))

    def _memory(self) -> dict[str, int]:
        found = {}
        for line in self._text("proc/meminfo").splitlines():
            name, _, rest = line.partition(":")
            found[name] = int(rest.split()[0]) << 10 if rest.split() else 0
        available = found.get("MemAvailable", 0)
        used = found.get("MemTotal", 0) - available
        return {"availableBytes": available, "workingSetBytes": used, "rssBytes": found.get("AnonPages", 0)}

    def _boot_time(self) -> float:
        for line in self._text("proc/stat").splitlines():
            if line.startswith("btime "):
                return float(line.split()[1])
        return 0.0

    def _disk(self, at: float) -> Object:
        disk = file_system(self._pods_root)
        size = disk.f_frsize
        return {
            "time": moment(at),
            "availableBytes": disk.f_bavail * size,
            "capacityBytes": disk.f_blocks * size,
            "usedBytes": (disk.f_blocks - disk.f_bfree) * size,
            "inodesFree": disk.f_ffree,
            "inodes": disk.f_files,
            "inodesUsed": disk.f_files - disk.f_ffree,
        }

    def _text(self, path: str) -> str:
        try:
            return (self._root / path).read_text(errors="replace")
        except OSError:
            return ""


def _cpu(now: Sample, cores: float) -> Object:
    return {"time": moment(now.at), "usageNanoCores": int(cores * 1e9), "usageCoreNanoSeconds": int(now.cpu * 1e9)}


def _pod(container: Container) -> Object:
    labels = container.labels
    return {
        "podRef": {"name": labels.get(POD_NAME_LABEL, ""), "namespace": labels.get(POD_NAMESPACE_LABEL, ""), "uid": labels[POD_UID_LABEL]},
        "startTime": moment(container.created_at),
        "containers": [],
        "cpu": {"time": "", "usageNanoCores": 0, "usageCoreNanoSeconds": 0},
        "memory": {"time": "", "workingSetBytes": 0, "rssBytes": 0},
    }


def _add(pod: Object, entry: Object) -> None:
    for part in ("cpu", "memory"):
        for key, value in entry[part].items():
            pod[part][key] = max(pod[part][key], value) if key == "time" else pod[part][key] + value
