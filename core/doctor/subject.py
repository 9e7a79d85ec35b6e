"""The machine that is looked at, and reading its files."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pinnace.core.base import bundle
from pinnace.core.settings import EdgeCoreSettings

_SECONDS: Final = 10.0
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Subject:
    """`root` is where /proc, /sys, /etc and the rest are; programs are run only when it is the real one."""

    settings: EdgeCoreSettings = field(default_factory=EdgeCoreSettings)
    root: Path = Path("/")
    config: Path | None = None
    """edgecore.yaml; None when there is none, so that the machine has not joined."""

    @property
    def is_real(self) -> bool:
        return self.root == Path("/")

    def path(self, path: Path | str) -> Path:
        return self.root / str(path).lstrip("/")

    def text(self, path: Path | str) -> str:
        """ "" when it cannot be read."""
        try:
            return self.path(path).read_text(errors="replace").strip("\0 \n")
        except OSError:
            return ""

    def which(self, name: str) -> str:
        """Where a program is, in the folders that root's PATH has too; "" when nowhere."""
        if not self.is_real:
            folders = (self.path(each) / name for each in _PATH.split(":"))
            return next((str(each) for each in folders if each.exists()), "")
        return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{_PATH}") or ""

    def said(self, *command: str) -> str | None:
        """What a program prints; None when it is not there, fails or does not end."""
        program = self.which(command[0]) if self.is_real else ""
        if not program:
            return None
        try:
            done = subprocess.run([program, *command[1:]], capture_output=True, timeout=_SECONDS, env=bundle.environment(), check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else None

    @property
    def model(self) -> str:
        """The board's name, as `Raspberry Pi 4 Model B Rev 1.5`; "" where there is no device tree."""
        return self.text("/proc/device-tree/model") or self.text("/sys/firmware/devicetree/base/model")
