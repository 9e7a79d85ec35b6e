"""What an installed Pinnace is to the machine: systemd's units, the broker's configuration, the command on PATH."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

from pinnace.core.base.bundle import PREFIX, environment
from pinnace.core.base.errors import PinnaceError
from pinnace.core.base.files import write_whole
from pinnace.core.install.build import Build

EDGE: Final = "pinnace-edge.service"
BROKER: Final = "pinnace-mosquitto.service"
_UNITS: Final = Path("usr/local/lib/systemd/system")
"""Files, not links into a version, which `systemctl enable` follows to where they lead: there is nothing any more two versions later. And
not in /etc, where `mask` and a person's own unit have their place."""
_OWN: Final = Path("etc/systemd/system")
_WANTED: Final = _OWN / "multi-user.target.wants"
_COMMAND: Final = Path("usr/local/bin/pinnace")
_BROKER_CONFIGURATION: Final = Path("etc/pinnace/mosquitto.conf")


class Machine:
    """The machine, or image, whose files are below `root`. Units are written anew for each version."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def is_running(self) -> bool:
        """Is it this machine, with systemd at work?"""
        return self._root == Path("/") and Path("/run/systemd/system").is_dir() and os.geteuid() == 0

    @property
    def is_installed(self) -> bool:
        """Is it this machine, and does systemd know of the edge?"""
        return self._root == Path("/") and os.path.lexists(self._root / _UNITS / EDGE)

    @property
    def has_own_broker(self) -> bool:
        """Does a broker of the distribution's start with the machine?"""
        return os.path.lexists(self._root / _WANTED / "mosquitto.service")

    @property
    def starts_broker(self) -> bool:
        return os.path.lexists(self._root / _WANTED / BROKER)

    @property
    def runs_edge(self) -> bool:
        return self._asks("is-active", EDGE)

    def set_up(self, build: Build) -> list[str]:
        """What is not there yet, and the units as `build` has them. Things a person has put in our places stay; lines that say so."""
        said = []
        configuration = self._root / _BROKER_CONFIGURATION
        if not configuration.exists():
            configuration.parent.mkdir(parents=True, exist_ok=True)
            write_whole(configuration, build.file("lib/systemd/mosquitto.conf").read_bytes(), is_durable=True, mode=0o644)
        for unit in (BROKER, EDGE):
            place = self._root / _UNITS / unit
            if not os.path.lexists(place) and not (unit == BROKER and self.has_own_broker):
                # Before the unit itself: cut in between, the next run still finds a unit that was never there.
                self._link(self._root / _WANTED / unit, Path("/") / _UNITS / unit)
            if self._is_ours(place) or not os.path.lexists(place):
                place.parent.mkdir(parents=True, exist_ok=True)
                write_whole(place, build.file(f"lib/systemd/{unit}").read_bytes(), is_durable=True, mode=0o644)
            else:
                said.append(f"{place} is not ours and stays as it is")
            if os.path.lexists(own := self._root / _OWN / unit):
                said.append(f"{own} is used in place of ours")
        if self.has_own_broker and not self.starts_broker:
            said.append("the distribution's mosquitto is used; ours does not start")
        if not self._link(self._root / _COMMAND, PREFIX / "current/pinnace"):
            said.append(f"{self._root / _COMMAND} is another program and stays; type {PREFIX}/current/pinnace instead")
        return said

    def tear_down(self) -> None:
        """Take away what `set_up` has made, but for configuration."""
        for unit in (EDGE, BROKER):
            for place in (_WANTED / unit, _UNITS / unit):
                self._unlink(self._root / place)
        self._unlink(self._root / _COMMAND)
        if self.is_running:
            self._systemctl("daemon-reload")
            self._asks("reset-failed", EDGE, BROKER)

    def start(self, *, is_new: bool) -> None:
        """Let systemd run what is in use now; what runs already, only when that `is_new`. What was switched off stays off. Raises
        PinnaceError when something does not come up."""
        self._systemctl("daemon-reload")
        for unit in (BROKER, EDGE):
            if self._asks("is-enabled", unit):
                self._systemctl("restart" if is_new else "start", unit)
            elif is_new and self._asks("is-active", unit):
                self._systemctl("restart", unit)

    def stop(self) -> None:
        for unit in (EDGE, BROKER):
            if os.path.lexists(self._root / _UNITS / unit):
                self._systemctl("stop", unit)

    @staticmethod
    def _asks(*words: str) -> bool:
        return subprocess.run(["systemctl", *words], capture_output=True, env=environment(), check=False).returncode == 0

    @staticmethod
    def _systemctl(*words: str) -> None:
        done = subprocess.run(["systemctl", *words], capture_output=True, text=True, env=environment(), check=False)
        if done.returncode:
            said = done.stderr.strip() or f"exit code {done.returncode}"
            raise PinnaceError(f"systemctl {' '.join(words)} failed: {said}; `journalctl -u {words[-1]}` may tell more")

    @staticmethod
    def _is_ours(place: Path) -> bool:
        """A link into a version, or from what is wanted to our unit; one of the same name to elsewhere is a person's. A unit that runs what
        is in use."""
        if not place.is_symlink():
            return place.suffix == ".service" and place.is_file() and f"={PREFIX}/current/" in place.read_text(errors="replace")
        target = place.readlink()
        return target.is_relative_to(PREFIX) or target == Path("/") / _UNITS / place.name

    def _link(self, place: Path, target: Path) -> bool:
        """A symbolic link, in one step; False when something else is there."""
        if os.path.lexists(place) and not self._is_ours(place):
            return False
        if place.is_symlink() and place.readlink() == target:
            return True
        place.parent.mkdir(parents=True, exist_ok=True)
        fresh = place.with_name(f".{place.name}.new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(target)
        fresh.replace(place)
        return True

    def _unlink(self, place: Path) -> None:
        if self._is_ours(place):
            place.unlink()
