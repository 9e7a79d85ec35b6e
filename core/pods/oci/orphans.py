"""Processes that nobody else would end: those below a shim that obeys no more, and what the shim of an exec leaves when it is killed."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

logger = logging.getLogger(__name__)


def end_tree(root: int) -> None:
    """End a process and all it has started: they are stopped first, since stopped ones start no more. Blocks."""
    tree, found = set[int](), {root}
    while found:
        _send(found, signal.SIGSTOP)
        tree |= found
        found = {pid for pid, parent in _parents() if parent in tree} - tree
    _send(tree, signal.SIGKILL)


def _send(pids: set[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _parents() -> Iterator[tuple[int, int]]:
    """Every process, and whose child it is (proc(5), stat, field 4)."""
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                yield int(entry.name), int(Path(entry.path, "stat").read_bytes().rpartition(b")")[2].split()[1])


def end(crun: str, root: Path, execs: Path) -> None:
    """End every crun that was called as shims do (shim/common.c, spawn_crun), with a log in `execs` or below. Blocks."""
    before = [os.fsencode(each) for each in (crun, "--root", root, "--log")]
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                _end(int(entry.name), before, os.fsencode(execs) + b"/")


def _end(pid: int, before: list[bytes], log: bytes) -> None:
    process = os.pidfd_open(pid)  # of whoever has the number now: it cannot become another's in between
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if words[:4] == before and words[4].startswith(log):
            signal.pidfd_send_signal(process, signal.SIGKILL)
            logger.warning("pods.exec.orphan pid=%d: its supervisor was killed; it is ended", pid)
    finally:
        os.close(process)
