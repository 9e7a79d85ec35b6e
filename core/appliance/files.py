"""Files on the card: written only when they change, and on the card when a function returns."""

from __future__ import annotations

from pathlib import Path

from pinnace.core.base.files import sync_folder, write_whole


def text(path: Path) -> str:
    """What a small file says, without blanks and zero bytes around it; "" where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \n")
    except OSError:
        return ""


def keep(path: Path, content: bytes, mode: int = 0o644) -> bool:
    """Write `content` unless it stands there already; whether it was written. Raises OSError."""
    try:
        if path.read_bytes() == content:
            return False
    except FileNotFoundError:
        pass
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content, is_durable=True, mode=mode)
    return True


def drop(path: Path) -> None:
    """Remove, where it is there. Raises OSError."""
    if path.exists():
        path.unlink()
        sync_folder(path.parent)
