"""What the shim of an exec leaves when it is killed: processes of crun, stopped perhaps, that nobody else would end."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from pathlib import Path

logger = logging.getLogger(__name__)


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
