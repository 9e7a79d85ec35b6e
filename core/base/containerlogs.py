"""A container's log on the disk: the file that is written, and what was rotated away from it, `<name>.<time>` and `<name>.<time>.gz`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

logger = logging.getLogger(__name__)

PACKED: Final = ".gz"
UNFINISHED: Final = ".tmp"
"""What the name ends with of one that is being packed."""


def pieces(log: Path) -> list[Path]:
    """What is there of a log beside the file itself, the oldest first. Blocks."""
    prefix = f"{log.name}."
    try:
        return sorted(each for each in log.parent.iterdir() if each.name.startswith(prefix))
    except FileNotFoundError:
        return []


def rotated(log: Path) -> list[Path]:
    """What was rotated away from a log, the oldest first. Blocks."""
    return [each for each in pieces(log) if not each.name.endswith(UNFINISHED)]


def remove(log: Path) -> None:
    """All of the log of a container that was removed; nothing where the runtime names none (""). Blocks."""
    if not log.name:
        return
    try:
        for each in (*pieces(log), log):
            each.unlink(missing_ok=True)
    except OSError as error:
        logger.warning("pods.log.not-removed path=%s reason=%s", log, error)
