"""Termination messages: what a container left in its file, or the end of its log (Kubernetes API, terminationMessagePath and -Policy)."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pinnace.core.base.runtime import TERMINATION_POLICY
from pinnace.core.base.runtime import Container as Instance

MESSAGE_BYTES: Final = 4096
LOG_BYTES: Final = 2048
LOG_LINES: Final = 80
_FALLBACK: Final = "FallbackToLogsOnError"


def termination_message(instance: Instance, file: Path | None, policy: str) -> str:
    """Of one that has ended. Reads files: for a thread. `policy` "" takes the one that the container carries."""
    text = _head(file) if file is not None else ""
    if not text and instance.exit_code and (policy or instance.annotations.get(TERMINATION_POLICY)) == _FALLBACK:
        text = _log_end(instance.log_path)
    if text and instance.message:
        return f"{instance.message}: {text}"
    return text or instance.message


def _head(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return stream.read(MESSAGE_BYTES).decode(errors="replace")
    except OSError:
        return ""


def _log_end(file: Path) -> str:
    """The last lines of a log in CRI format (time, stream, F or P, text), without their heads."""
    try:
        with file.open("rb") as stream:
            size = stream.seek(0, 2)
            start = max(size - LOG_BYTES - LOG_LINES * 64, 0)
            stream.seek(start)
            lines = stream.read().split(b"\n")
    except OSError:
        return ""
    if start:
        del lines[0]  # begins somewhere in a line
    text = b""
    for line in lines[-LOG_LINES - 1 :]:
        parts = line.split(b" ", 3)
        if len(parts) == 4:
            text += parts[3] + (b"" if parts[2] == b"P" else b"\n")
    return text[-LOG_BYTES:].decode(errors="replace")
