"""The card and the machine of an appliance, as its own programs see them: the adapter around files, mounts, the clock and systemd."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Final

from pinnace.core.appliance.files import drop, keep, text
from pinnace.core.appliance.settling import Kept
from pinnace.core.base import bundle

logger = logging.getLogger(__name__)

YAML: Final = "pinnace.yaml"
REPORT: Final = "pinnace-report.txt"
_FLOOR: Final = "var/lib/systemd/timesync/clock"
_SYNCHRONISED: Final = "run/systemd/timesync/synchronized"
_EPOCH: Final = "usr/lib/clock-epoch"
"""Times of files that systemd-timesyncd(8) and the image keep."""
_CONSOLES: Final = "sys/class/tty/console/active"
_SYSTEMCTL_SECONDS: Final = 60.0
_CLOCK_SECONDS: Final = 1.0
"""What the cloud's clock, told in whole seconds on a slow way, may be ahead."""
_AHEAD_SECONDS: Final = 3600.0
"""What ours may be ahead of the cloud's: less makes no certificate expire."""


class Board:
    """`boot` is the FAT partition, mounted read-only but while something is written to it; `data` the partition that stays."""

    def __init__(
        self, boot: Path = Path("/boot/firmware"), data: Path = Path("/data"), run: Path = Path("/run/pinnace-boot"), root: Path = Path("/")
    ) -> None:
        self._boot = boot
        self._data = data
        self._run = run
        self._root = root

    def wanted(self) -> bytes | None:
        """pinnace.yaml, None when there is none. Raises OSError."""
        with contextlib.suppress(FileNotFoundError), (self._boot / YAML).open("rb") as file:
            return file.read(1 << 20)
        return None

    def note_applied(self, raw: bytes) -> None:
        """That this node was made of this pinnace.yaml. Raises OSError."""
        keep(self._data / "etc" / YAML, raw, 0o600)

    @property
    def is_node(self) -> bool:
        return (self._data / "etc/kubeedge/config/edgecore.yaml").exists()

    @property
    def worn(self) -> str:
        """What the initramfs says of a card that cannot be written, "" for a good one."""
        return text(self._run / "worn")

    @property
    def has_damaged_root(self) -> bool:
        return (self._run / "damaged").exists()

    @property
    def serial(self) -> str:
        return text(self._root / "sys/firmware/devicetree/base/serial-number")

    @property
    def machine_id(self) -> str:
        return text(self._root / "etc/machine-id")

    def settle(self, files: Mapping[PurePosixPath, Kept | None]) -> list[PurePosixPath]:
        """Make the data partition so; what was changed. Raises OSError."""
        changed = []
        for name, kept in files.items():
            path = self._data / name
            if kept is None:
                if path.exists():
                    drop(path)
                    changed.append(name)
            elif keep(path, kept.content.encode(), kept.mode):
                changed.append(name)
        return changed

    def rename(self, name: str) -> None:
        """The host name, at once."""
        with contextlib.suppress(PermissionError):
            socket.sethostname(name)

    def tell(self, report: str) -> None:
        """Write the report, unless it says so already (but for the time). Raises OSError."""
        path = self._boot / REPORT
        with contextlib.suppress(OSError):
            if _timeless(path.read_text(encoding="utf-8", errors="replace")) == _timeless(report):
                return
        with self._writable_boot():
            keep(path, report.encode())

    def note_told(self) -> None:
        """That the report on the boot partition is one of a board where all is right: a start that finds another one there has something
        to say (packaging/image/files/usr/lib/pinnace/has-news). Raises OSError."""
        keep(self._data / "etc" / REPORT, (self._boot / REPORT).read_bytes())

    def say(self, line: str) -> None:
        """On the screen and on the serial console: /dev/console is one of them only."""
        for name in text(self._root / _CONSOLES).split():
            with contextlib.suppress(OSError):
                console = os.open(self._root / "dev" / name, os.O_WRONLY | os.O_NOCTTY)
                try:
                    os.write(console, f"{line}\n".encode())
                finally:
                    os.close(console)

    @contextlib.contextmanager
    def _writable_boot(self) -> Iterator[None]:
        is_mount = os.path.ismount(self._boot)
        if is_mount:
            _run("mount", "-o", "remount,rw", str(self._boot))
        try:
            yield
        finally:
            if is_mount:
                os.sync()
                _run("mount", "-o", "remount,ro", str(self._boot))

    def set_clock(self, wall: float) -> None:
        """A clock that stands before `wall`, what the cloud's says, is set to it, and that is written down as the next start's floor. So
        is one that is far ahead, unless a time server has set it: never to before the image was made, which no clock can say."""
        now = time.time()
        is_behind = now < wall - _CLOCK_SECONDS
        is_ahead = now > wall + _AHEAD_SECONDS and wall > self._made and not (self._root / _SYNCHRONISED).exists()
        if not is_behind and not is_ahead:
            return
        time.clock_settime(time.CLOCK_REALTIME, wall)
        logger.warning(
            "board.clock.set from=%s to=%s: the board's clock had lost the time, this is the cloud's",
            *(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(each)) for each in (now, wall)),
        )
        floor = self._root / _FLOOR
        with contextlib.suppress(OSError):
            floor.parent.mkdir(parents=True, exist_ok=True)
            floor.touch()

    @property
    def _made(self) -> float:
        """When the image was; for ever away where that is not told."""
        try:
            return (self._root / _EPOCH).stat().st_mtime
        except OSError:
            return math.inf

    def systemctl(self, *arguments: str) -> None:
        """What fails here is in systemd's own log."""
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(["systemctl", *arguments], timeout=_SYSTEMCTL_SECONDS, env=bundle.environment(), check=False)


def _run(*command: str) -> None:
    """Raises OSError."""
    done = subprocess.run(command, capture_output=True, env=bundle.environment(), check=False)
    if done.returncode:
        raise OSError(done.returncode, done.stderr.decode(errors="replace").strip() or f"{command[0]} failed")


def _timeless(report: str) -> list[str]:
    return [line for line in report.splitlines() if not line.startswith("(")]
