"""Where a system on this machine keeps its files, and where the samples are."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pinnace.core.base.errors import ConfigError

_SOCKET_LIMIT = 100
"""A Unix socket's path may have 107 bytes."""
_SAMPLES = (Path(__file__).resolve().parents[2] / "build" / "samples", Path("/usr/share/pinnace/samples"))


def default_folder() -> Path:
    """~/.local/state/pinnace, or below $XDG_STATE_HOME (XDG base directory specification)."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "pinnace"


def samples(name: str) -> Path:
    """The folder of a sample: below $PINNACE_SAMPLES, the checkout's or the installed one. Raises ConfigError."""
    given = os.environ.get("PINNACE_SAMPLES")
    places = [Path(given)] if given else list(_SAMPLES)
    for place in places:
        if (place / name).is_dir():
            return place / name
    raise ConfigError(f"the sample {name} is not in {', '.join(map(str, places))}; set PINNACE_SAMPLES to the folder that holds it")


@dataclass(frozen=True, slots=True)
class Places:
    """The files of one system, all below `folder`."""

    folder: Path

    @classmethod
    def below(cls, folder: Path) -> Places:
        """Make the folders, for this user alone. Raises ConfigError."""
        made = cls(folder.absolute())
        try:
            for each in (made.folder, made.logs, made.config, made.data, made.data / "mosquitto"):
                each.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise ConfigError(f"--dir {folder}: {error.strerror}; choose a folder this user may write to") from error
        return made

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def config(self) -> Path:
        return self.folder / "config"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.folder / "kubeconfig"

    @property
    def record(self) -> Path:
        """What runs, for `pinnace status` and `pinnace down`."""
        return self.folder / "running.json"

    @property
    def lock(self) -> Path:
        """Held by the `pinnace up` that owns the folder."""
        return self.folder / "lock"

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def control_socket(self) -> Path:
        """The edge's, for root; in the usual place where the path below `folder` would be too long for a Unix socket."""
        path = self.folder / "control.sock"
        return path if len(os.fsencode(path)) <= _SOCKET_LIMIT else Path("/run/pinnace/control.sock")

    def pin_socket(self) -> Path:
        """A path short enough for a Unix socket; outside `folder` where that is too long."""
        path = self.folder / "pins.sock"
        if len(os.fsencode(path)) <= _SOCKET_LIMIT:
            return path
        return Path(tempfile.mkdtemp(prefix="pinnace-")) / "pins.sock"
