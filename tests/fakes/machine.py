"""A machine that is not there: files of /proc, /sys and /etc below a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pinnace.core.doctor.subject import Subject
from pinnace.core.settings import EdgeCoreSettings


def machine(folder: Path, files: Mapping[str, str], settings: EdgeCoreSettings | None = None) -> Subject:
    """A value that ends with `/` is no text but a folder's name."""
    for name, text in files.items():
        path = folder / name.lstrip("/")
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "proc").mkdir(exist_ok=True)
    return Subject(settings or EdgeCoreSettings(), folder, folder / "edgecore.yaml")
