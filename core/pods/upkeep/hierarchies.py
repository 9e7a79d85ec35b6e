"""The machine's cgroup hierarchies and files in them: v1 (one a controller), v2 (one for all), hybrids (Linux, cgroup-v1, cgroup-v2)."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from pathlib import Path
from typing import Final

from pinnace.core.base.folders import deepest_first

logger = logging.getLogger(__name__)

CGROUPS: Final = Path("/sys/fs/cgroup")
_LIMITING: Final = ("cpu", "cpuacct", "memory", "pids", "hugetlb")
"""The controllers pods are limited by; runtimes make cgroups of the others themselves."""
_DELEGATED: Final = ("cpuset", "cpu", "io", "memory", "hugetlb", "pids")


class Hierarchies:
    """Paths are below each hierarchy's root and have no leading slash."""

    def __init__(self, mount: Path = CGROUPS) -> None:
        self.is_unified = (mount / "cgroup.controllers").exists()
        self._mount = mount
        roots = [mount] if self.is_unified else sorted({each.resolve() for each in mount.iterdir() if each.is_dir()})
        self.roots: tuple[Path, ...] = tuple(roots)

    def folder(self, controller: str, path: str) -> Path | None:
        """Where the cgroup's files of a controller are; None when the machine has no such controller."""
        if self.is_unified:
            return self._mount / path if controller in self._text(self._mount / "cgroup.controllers").split() else None
        root = self._mount / controller
        return root / path if root.is_dir() else None

    def make(self, path: str) -> None:
        """The cgroup in every hierarchy that limits, and what is above it. Raises OSError."""
        if self.is_unified:
            self._make_unified(path)
            return
        for controller in _LIMITING:
            folder = self.folder(controller, path)
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)

    def write(self, controller: str, path: str, file: str, value: str) -> bool:
        """False when the kernel has no such file. Raises OSError when it refuses the value."""
        folder = self.folder(controller, path)
        if folder is None or not (folder / file).exists():
            return False
        with (folder / file).open("r+b", buffering=0) as target:
            target.write(value.encode())
        return True

    def read(self, controller: str, path: str, file: str) -> str:
        """ "" when there is none."""
        folder = self.folder(controller, path)
        return self._text(folder / file) if folder is not None else ""

    def children(self, path: str) -> set[str]:
        """The names of the cgroups in one, whatever the hierarchy."""
        found = set()
        for root in self.roots:
            with contextlib.suppress(OSError), os.scandir(root / path) as entries:
                found |= {each.name for each in entries if each.is_dir(follow_symlinks=False)}
        return found

    def folders(self, path: str) -> list[Path]:
        """A cgroup's, in the hierarchies that have it."""
        return [root / path for root in self.roots if (root / path).is_dir()]

    def kill(self, path: str) -> None:
        """End what runs in a cgroup and below."""
        for folder in self.folders(path):
            self._kill(folder)

    def remove(self, path: str) -> bool:
        """End what runs in a cgroup and below, and remove it. False when something has not ended yet: to be asked again."""
        self.kill(path)
        return all([self._removed(each) for each in self.folders(path)])  # a list: one that stays does not keep the others

    def _kill(self, folder: Path) -> None:
        kill = folder / "cgroup.kill"
        with contextlib.suppress(OSError):
            if kill.exists():
                kill.write_text("1")
                return
        for each in deepest_first(folder):
            for pid in self._text(each / "cgroup.procs").split():
                if pid != "0" and int(pid) != os.getpid():
                    with contextlib.suppress(OSError):
                        os.kill(int(pid), signal.SIGKILL)
                        logger.info("pods.cgroup.killed pid=%s cgroup=%s", pid, each)

    @staticmethod
    def _removed(folder: Path) -> bool:
        for each in deepest_first(folder):
            try:
                each.rmdir()
            except FileNotFoundError:
                continue
            except OSError:
                return False
        return True

    def _make_unified(self, path: str) -> None:
        wanted = [each for each in _DELEGATED if each in self._text(self._mount / "cgroup.controllers").split()]
        above = self._mount
        for part in path.split("/"):
            enabled = self._text(above / "cgroup.subtree_control").split()
            for controller in wanted:
                if controller not in enabled:
                    self._enable(above, controller)
            above /= part
            above.mkdir(exist_ok=True)

    @staticmethod
    def _enable(folder: Path, controller: str) -> None:
        """Each on its own: one that cannot be had is no reason to go without the others."""
        try:
            (folder / "cgroup.subtree_control").write_text(f"+{controller}")
        except OSError as error:
            logger.debug("pods.cgroup.not-delegated cgroup=%s controller=%s reason=%s", folder, controller, error)

    @staticmethod
    def _text(path: Path) -> str:
        try:
            return path.read_text()
        except OSError:
            return ""
