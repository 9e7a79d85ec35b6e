"""What runs, on disk: so that another terminal can see it and end it, and never ends a stranger that got the same process id."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from pinnace.core.base.errors import PinnaceError


@dataclass(frozen=True, slots=True)
class Process:
    """A process by id and start time (clock ticks since boot, proc(5): stat, field 22), which no other process shares."""

    name: str
    pid: int
    started: int
    log: str = ""

    @property
    def is_alive(self) -> bool:
        return start_time(self.pid) == self.started

    def signal(self, number: int) -> None:
        if self.is_alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def start_time(pid: int) -> int | None:
    """When a process started, None when there is none (or only its corpse)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


@dataclass(slots=True)
class Record:
    """`owner` is the `pinnace up` itself; `facts` are texts and numbers worth showing: ports, files, the node's name."""

    owner: Process
    children: list[Process] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Replace the file in one step."""
        fresh = path.with_suffix(".new")
        fresh.write_bytes(orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2))
        fresh.replace(path)

    @property
    def alive(self) -> list[Process]:
        return [each for each in (self.owner, *self.children) if each.is_alive]


def read(path: Path) -> Record | None:
    """The record, None where there is none. Raises PinnaceError for a file that is none."""
    try:
        found = orjson.loads(path.read_bytes())
        return Record(Process(**found["owner"]), [Process(**each) for each in found["children"]], dict(found["facts"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PinnaceError(f"{path}: cannot be read: {error}; remove it when nothing of Pinnace runs here") from error


def end(record: Record, *, seconds: float = 20.0) -> list[Process]:
    """Ask the owner to end everything, then end what is left; returns those that are still there."""
    record.owner.signal(signal.SIGTERM)
    _gone([record.owner], seconds)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for each in reversed(record.alive):
            each.signal(number)
        _gone(record.alive, seconds / 2)
    return record.alive


def _gone(processes: list[Process], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(each.is_alive for each in processes) and time.monotonic() < deadline:
        time.sleep(0.02)
