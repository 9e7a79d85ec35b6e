"""Which processes belong to a node, and what each is there for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")


class Group(StrEnum):
    """In the order of a table. `PODS` and `CLOUD` are shown, and are not of the node's own."""

    AGENT = "agent"
    CHILDREN = "children"
    SUPERVISION = "supervision"
    RUNTIME = "runtime"
    BROKER = "broker"
    MAPPERS = "mappers"
    COMMANDS = "commands"
    PODS = "pods"
    CLOUD = "cloud"


OWN: Final = frozenset(Group) - {Group.PODS, Group.CLOUD, Group.COMMANDS}
_PROGRAMS: Final = {
    "pinnace-shim": Group.SUPERVISION,
    "pinnace-pause": Group.SUPERVISION,
    "mosquitto": Group.BROKER,
    "containerd": Group.RUNTIME,
    "containerd-shim": Group.RUNTIME,
    "containerd-shim-runc-v2": Group.RUNTIME,
    "crio": Group.RUNTIME,
    "conmon": Group.RUNTIME,
}
_COMMANDS: Final = {
    "edgecore": Group.AGENT,
    "mapper": Group.MAPPERS,
    "cloudcore": Group.CLOUD,
    "apiserver": Group.CLOUD,
    "up": Group.CLOUD,
    "image-child": Group.CHILDREN,
}
_ONE_FILE: Final = re.compile(r"pinnace-[0-9][0-9a-z.+]*-[a-z0-9]+")
"""The program as it is published, `pinnace-VERSION-ARCHITECTURE`. It runs twice: what unpacked it waits for what it unpacked."""
_WAITING: Final = frozenset({"sudo", "doas", "timeout"})
"""Programs that stay beside the one they start, which is told by itself."""
_POD: Final = re.compile(r"(?:^|[/-])pod([0-9a-f]{8}[0-9a-f_-]{24,28})(?:\.slice)?(?:/|$)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Process:
    """`pod` is the uid of the pod it runs in, "" outside of pods."""

    pid: int
    parent: int
    name: str
    group: Group
    pod: str = ""


def name_of(words: list[str]) -> tuple[str, Group | None]:
    """What a command line is called: the sub-command for ours, the program for what stands beside it; ("", None) for everything else."""
    programs = [Path(each).name for each in words[:4]]
    if programs and programs[0] in _WAITING:
        return "", None
    for position, word in enumerate(words[:4]):
        is_ours = programs[position] == "pinnace" or word == "pinnace.core.base.cli" or _ONE_FILE.fullmatch(programs[position])
        if is_ours and position + 1 < len(words) and not words[position + 1].startswith("-"):
            name = " ".join(["pinnace", *(each for each in words[position + 1 : position + 3] if not each.startswith("-"))])
            return name, _COMMANDS.get(words[position + 1], Group.COMMANDS)
    if programs and programs[0] in _PROGRAMS:
        return programs[0], _PROGRAMS[programs[0]]
    return "", None


def pod_of(cgroups: str) -> str:
    """The uid of a pod, from /proc/PID/cgroup: below kubepods with either driver, in any hierarchy."""
    if "kubepods" not in cgroups:
        return ""
    match = _POD.search(cgroups)
    return match[1].replace("_", "-") if match is not None else ""


def running(proc: Path = PROC, *, without: Iterable[int] = ()) -> list[Process]:
    """Everything of a node that runs, the agent first."""
    seen: dict[int, tuple[int, list[str], str]] = {}
    for entry in proc.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = [each.decode(errors="replace") for each in (entry / "cmdline").read_bytes().split(b"\0") if each]
            parent = int((entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
            cgroups = (entry / "cgroup").read_text(errors="replace")
        except (OSError, IndexError, ValueError):
            continue  # it ended meanwhile
        if words:  # a thread of the kernel has none, nor has what has ended
            seen[int(entry.name)] = parent, words, cgroups
    left_out = set(without)
    found = [each for each in _judge(seen) if each.pid not in left_out]
    order = list(Group)
    return sorted(found, key=lambda each: (order.index(each.group), each.pod, each.pid))


def _judge(seen: Mapping[int, tuple[int, list[str], str]]) -> list[Process]:
    agents = {pid for pid, (_, words, _) in seen.items() if name_of(words)[1] is Group.AGENT}
    found = []
    for pid, (parent, words, cgroups) in seen.items():
        pod = pod_of(cgroups)
        name, group = name_of(words)
        if pod:
            found.append(Process(pid, parent, name or Path(words[0]).name, Group.PODS, pod))
        elif group is not None and (group is not Group.COMMANDS or not _is_below(pid, agents, seen)):
            found.append(Process(pid, parent, name, group))
        elif _is_below(pid, agents, seen):
            found.append(Process(pid, parent, name or Path(words[0]).name, Group.CHILDREN))
    return found


def _is_below(pid: int, above: set[int], seen: Mapping[int, tuple[int, list[str], str]]) -> bool:
    for _ in range(16):  # ancestors may change while they are read: no endless round
        if pid not in seen:
            return False
        pid = seen[pid][0]
        if pid in above:
            return True
    return False


def describe(pid: int, proc: Path = PROC) -> Process:
    """One process, whatever it is. Raises OSError when it is gone."""
    words = [each.decode(errors="replace") for each in (proc / str(pid) / "cmdline").read_bytes().split(b"\0") if each]
    parent = int((proc / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
    pod = pod_of((proc / str(pid) / "cgroup").read_text(errors="replace"))
    name, group = name_of(words)
    return Process(pid, parent, name or Path(words[0] if words else str(pid)).name, Group.PODS if pod else group or Group.CHILDREN, pod)
