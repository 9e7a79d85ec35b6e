"""A container's cgroup: what it uses, and ending what is in it. Paths are below each hierarchy's root, as in `ContainerRecord.cgroup`."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pinnace.core.base.folders import deepest_first
from pinnace.core.pods.oci.host import CGROUPS


@dataclass(frozen=True, slots=True)
class Reading:
    """CPU seconds since the start; bytes."""

    cpu_seconds: float
    memory_working_set: int
    memory_rss: int


def driver_path(parent: str, container_id: str, *, is_systemd: bool) -> tuple[str, str]:
    """(cgroupsPath of config.json, path below the root) of a container. `parent` is /kubepods/... , with systemd /kubepods.slice/... ."""
    if not is_systemd:
        path = f"{parent.rstrip('/')}/{container_id}" if parent else f"/pinnace/{container_id}"
        return path, path
    base = parent.rstrip("/") or "/system.slice"
    return f"{base.rpartition('/')[2]}:pinnace:{container_id}", f"{base}/pinnace-{container_id}.scope"


def folders(path: str) -> Iterator[Path]:
    """The cgroup's folder in every hierarchy it is in; none for the root, where the whole machine is."""
    if not path.strip("/"):
        return
    is_v2 = (CGROUPS / "cgroup.controllers").exists()
    roots = [CGROUPS] if is_v2 else [each for each in CGROUPS.iterdir() if not each.is_symlink()]
    for root in roots:
        folder = root / path.lstrip("/")
        if folder.is_dir():
            yield folder


def _numbers(path: Path) -> dict[str, int]:
    """A file of `name number` lines."""
    pairs = (line.split() for line in path.read_text().splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}


def read(path: str) -> Reading | None:
    """None when there is no such cgroup (any more)."""
    try:
        if (CGROUPS / "cgroup.controllers").exists():
            folder = CGROUPS / path.lstrip("/")
            cpu = _numbers(folder / "cpu.stat").get("usage_usec", 0) / 1e6
            stat, current = _numbers(folder / "memory.stat"), int((folder / "memory.current").read_text())
            return Reading(cpu, max(0, current - stat.get("inactive_file", 0)), stat.get("anon", 0))
        name = path.lstrip("/")
        cpu = int((CGROUPS / "cpuacct" / name / "cpuacct.usage").read_text()) / 1e9
        memory = CGROUPS / "memory" / name
        stat, current = _numbers(memory / "memory.stat"), int((memory / "memory.usage_in_bytes").read_text())
        return Reading(cpu, max(0, current - stat.get("total_inactive_file", 0)), stat.get("total_rss", 0))
    except (OSError, ValueError):
        return None


def kill(path: str, *, tries: int = 200) -> None:
    """End every process in the cgroup and remove it; blocks for at most some seconds. For containers whose shim is gone."""
    for _ in range(tries):
        living = False
        for folder in folders(path):
            with contextlib.suppress(OSError):
                (folder / "cgroup.kill").write_text("1")
            for each in deepest_first(folder):
                living = _end(each) or living
        if not living and not any(True for _ in folders(path)):
            return
        time.sleep(0.01)


def _end(folder: Path) -> bool:
    """Kill what is in one folder, or remove it; says whether something lives there."""
    with contextlib.suppress(OSError):
        pids = [int(line) for line in (folder / "cgroup.procs").read_text().split()]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                if pid > 0:
                    os.kill(pid, signal.SIGKILL)
        if pids:
            return True
        folder.rmdir()
    return False
