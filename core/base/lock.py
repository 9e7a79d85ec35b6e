"""One process at a time: a file that is locked while somebody works, and says who."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from pinnace.core.base.errors import RefusedError


@contextlib.contextmanager
def sole(path: Path, work: str) -> Iterator[None]:
    """Hold the lock; the kernel lets it go however this process ends. Raises RefusedError while another has it, OSError."""
    fd = _locked(path, work)
    try:
        with contextlib.suppress(OSError):  # on a full disk nobody knows who, that is all
            os.truncate(fd, 0)
            os.write(fd, str(os.getpid()).encode())
        yield
    finally:
        os.close(fd)


def _locked(path: Path, work: str) -> int:
    while True:
        fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(fd), path.stat()):
                return fd
        except BlockingIOError as error:
            holder = os.read(fd, 20).decode(errors="replace") or "unknown"
            os.close(fd)
            raise RefusedError(f"{work} is at work already (process {holder}); wait until it has ended, then do this again") from error
        except FileNotFoundError:
            pass
        os.close(fd)  # who had it took the file away: the next one has a lock of its own
