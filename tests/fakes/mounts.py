"""Mounts that only remember (core/pods/material/mounts.Mounts): for tests without root."""

from __future__ import annotations

from pathlib import Path

from pinnace.core.pods.material.mounts import Mounts


class FakeMounts(Mounts):
    """`mounted` holds what is mounted: target to what was asked for."""

    def __init__(self) -> None:
        self.mounted: dict[Path, str] = {}

    def points(self, below: Path) -> list[Path]:
        return [each for each in self.mounted if each == below or below in each.parents]

    def tmpfs(self, target: Path, *, size: int = 0, mode: int = 0o755, is_program: bool = True) -> None:
        self.mounted[target] = f"tmpfs size={size} mode={mode:04o}" + ("" if is_program else " nosuid,nodev")

    def bind(self, source: str | Path, target: Path, *, readonly: bool = False) -> None:
        self.mounted[target] = f"bind {Path(source).resolve()}" + (" ro" if readonly else "")

    def unmount(self, target: Path) -> None:
        self.mounted.pop(target, None)

    def reboot(self) -> None:
        self.mounted.clear()
