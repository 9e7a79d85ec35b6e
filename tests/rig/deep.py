"""Folders in folders, deeper than anything that calls itself for each can go."""

from __future__ import annotations

import os
from pathlib import Path


def deepen(top: Path, levels: int = 1500) -> None:
    """Make `top` with so many folders in each other, a file in each."""
    top.mkdir(parents=True)
    folder = os.open(top, os.O_RDONLY)
    for number in range(levels):
        os.mkdir("d", dir_fd=folder)
        inner = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(os.open(f"f{number}", os.O_CREAT | os.O_WRONLY, dir_fd=inner))
        os.close(folder)
        folder = inner
    os.close(folder)
