"""Files that are whole under their name, and there for good: what a power cut leaves is the old one or the new one."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path


def write_whole(path: Path, content: bytes, *, is_durable: bool = False, mode: int = 0o600) -> None:
    """Replace a file in one step; `is_durable`: it survives a power cut from here on. Blocks. Raises OSError."""
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


def set_mode(path: Path, mode: int) -> None:
    """Give it that mode if it has another: the same one once more is a write to the disk all the same. Blocks. Raises OSError."""
    if stat.S_IMODE(path.stat().st_mode) != mode:
        path.chmod(mode)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable. Blocks. Raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
