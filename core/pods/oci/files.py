"""Small files that must be whole, or there for good."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

GONE = ".gone-"
"""What a folder's name begins with once it is being removed: the next start removes what is left of it."""


def write(path: Path, content: bytes, *, is_durable: bool = False, mode: int = 0o600) -> None:
    """Replace a file in one step; `is_durable`: it survives a power cut from here on."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            if is_durable:
                file.flush()
                os.fsync(fd)
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if is_durable:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def remove_folder(folder: Path) -> None:
    """Remove a folder with all in it; it is gone under its name at once, and half-removed folders are found by `sweep`."""
    gone = folder.with_name(f"{GONE}{folder.name}")
    try:
        folder.rename(gone)
    except FileNotFoundError:
        return
    except OSError:
        gone = folder
    shutil.rmtree(gone, ignore_errors=True)


def sweep(folder: Path) -> None:
    for each in folder.glob(f"{GONE}*"):
        shutil.rmtree(each, ignore_errors=True)


def start_time(pid: int) -> int:
    """When a process started, in clock ticks after boot (proc(5), stat, field 22); 0 when there is none, or one that has ended and whose
    parent has not asked for its end yet."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    fields = text.rpartition(b")")[2].split()
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])
