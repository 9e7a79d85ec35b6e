"""One look at a node: each process by part, what the agent says of itself, what its connections carried, what was written."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pinnace.core.footprint import flash, traffic
from pinnace.core.footprint.mappings import Mapped, Part, Sizes, by_part, read, rollup
from pinnace.core.footprint.processes import OWN, PROC, Group, Process, describe, running


@dataclass(frozen=True, slots=True)
class Use:
    """What one process uses; `mapped` is empty after a look that was not thorough."""

    process: Process
    sizes: Sizes
    mapped: list[Mapped] = field(default_factory=list)
    written: int = 0
    cpu_seconds: float = 0.0

    @property
    def parts(self) -> dict[Part, Sizes]:
        return by_part(self.mapped)


@dataclass(frozen=True, slots=True)
class Look:
    """A node at one moment: `at` in Unix seconds; `wire` is what left and entered the node, by the peer."""

    at: float
    uses: list[Use]
    wire: dict[int, traffic.Connection] = field(default_factory=dict)
    problems: dict[int, str] = field(default_factory=dict)
    """Processes that could not be read, and why."""

    def pss(self, groups: Collection[Group] = OWN) -> int:
        return sum(each.sizes.pss for each in self.uses if each.process.group in groups)

    def groups(self) -> dict[Group, Sizes]:
        found: dict[Group, Sizes] = {}
        for each in self.uses:
            found[each.process.group] = found.get(each.process.group, Sizes()) + each.sizes
        return {group: found[group] for group in Group if group in found}

    def pods(self) -> dict[str, Sizes]:
        found: dict[str, Sizes] = {}
        for each in self.uses:
            if each.process.pod:
                found[each.process.pod] = found.get(each.process.pod, Sizes()) + each.sizes
        return found


def look(pids: Iterable[int] = (), *, thorough: bool = True, proc: Path = PROC) -> Look:
    """All of the node, or only the processes given."""
    problems: dict[int, str] = {}
    wanted = list(pids)
    processes: list[Process] = []
    for pid in wanted:
        try:
            processes.append(describe(pid, proc))
        except OSError as error:
            problems[pid] = error.strerror or str(error)
    if not wanted:
        processes = running(proc, without=[os.getpid()])
    at = time.time()
    uses, sockets = [], {}
    for process in processes:
        try:
            uses.append(use_of(process, thorough=thorough, proc=proc))
            sockets[process.pid] = traffic.inodes(process.pid, proc)
        except OSError as error:
            if wanted or not isinstance(error, ProcessLookupError | FileNotFoundError):  # what has ended since is asked for by nobody
                problems[process.pid] = error.strerror or str(error)
    return Look(at, uses, _wire(processes, sockets), problems)


def use_of(process: Process, *, thorough: bool, proc: Path = PROC) -> Use:
    """Raises OSError when the process is gone or not ours to read."""
    mapped = read(process.pid, proc) if thorough else []
    if thorough and not mapped:
        raise ProcessLookupError(errno.ESRCH, "it has ended")
    sizes = sum((each.sizes for each in mapped), Sizes()) if thorough else rollup((proc / str(process.pid) / "smaps_rollup").read_text())
    return Use(process, sizes, mapped, flash.written_by(process.pid, proc), flash.cpu_seconds(process.pid, proc))


def _wire(processes: Iterable[Process], sockets: Mapping[int, set[int]]) -> dict[int, traffic.Connection]:
    """By inode: the agents' connections that leave the node."""
    agents: set[int] = set()
    others: set[int] = set()
    for each in processes:
        if each.group is Group.AGENT:
            agents |= sockets.get(each.pid, set())
        elif each.group in OWN:
            others |= sockets.get(each.pid, set())
    return traffic.outward(agents, others, traffic.connections()) if agents else {}


def as_json(found: Look, agent: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """`agent` is what it says of itself (usage.py)."""
    return {
        "taken": round(found.at, 3),
        "pss_bytes": sum(each.sizes.pss for each in found.uses),
        "node_pss_bytes": found.pss(),
        "groups": {str(group): _sizes(sizes) for group, sizes in found.groups().items()},
        "processes": [_process(each) for each in found.uses],
        "pods": {pod: _sizes(sizes) for pod, sizes in found.pods().items()},
        "wire": [
            {"peer": f"{each.peer[0]}:{each.peer[1]}", "sent_bytes": each.sent, "received_bytes": each.received, "wire_bytes": each.wire}
            for each in found.wire.values()
        ],
        "agent": agent,
    }


def _process(use: Use) -> dict[str, Any]:
    return {
        "pid": use.process.pid,
        "name": use.process.name,
        "group": str(use.process.group),
        **({"pod": use.process.pod} if use.process.pod else {}),
        **_sizes(use.sizes),
        "written_bytes": use.written,
        "cpu_seconds": round(use.cpu_seconds, 2),
        "parts": {str(part): _sizes(sizes) for part, sizes in use.parts.items()},
        "mappings": [{"name": each.name, "part": str(each.part), **_sizes(each.sizes)} for each in use.mapped if each.sizes.pss],
    }


def _sizes(sizes: Sizes) -> dict[str, int]:
    return {"pss_bytes": sizes.pss, "rss_bytes": sizes.rss, "uss_bytes": sizes.uss, "file_bytes": sizes.file}
