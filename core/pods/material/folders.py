"""Where a pod's things are on the disk: the kubelet's layout below `rootDirectory`, and which names may stand in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pinnace.core.base.pod import Pod

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")

EMPTY_DIR: Final = "empty-dir"
CONFIG_MAP: Final = "configmap"
SECRET: Final = "secret"  # noqa: S105 - a folder's name
DOWNWARD: Final = "downward-api"
PROJECTED: Final = "projected"
LOCAL: Final = "local-volume"
NFS: Final = "nfs"
FOREIGN: Final = frozenset({LOCAL, NFS})
"""Kinds whose files are not the pod's: never removed."""
_VENDOR: Final = "kubernetes.io~"


def is_name(text: str) -> bool:
    """Whether a file may be called so: no path, nothing hidden."""
    return _NAME.fullmatch(text) is not None


class PodFolders:
    """Paths only; nothing is made."""

    def __init__(self, root: Path, logs: Path) -> None:
        self.pods = root / "pods"
        self.seccomp = root / "seccomp"
        self._logs = logs

    def check(self, pod: Pod) -> None:
        """Raises ValueError when a name of the pod would lead elsewhere; only pods from files can have such."""
        volumes = [str(each.get("name", "")) for each in pod.spec.get("volumes") or ()]
        containers = [each.name for each in pod.all_containers]
        for what, name in (
            ("uid", pod.uid),
            ("name", pod.name),
            ("namespace", pod.namespace),
            *(("volume", name) for name in volumes),
            *(("container", name) for name in containers),
        ):
            if not is_name(name):
                raise ValueError(f"{what} {name!r}: expected a name of letters, digits, '-' and '.'")
        for what, names in (("volume", volumes), ("container", containers)):
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"two of a pod's {what}s are called {twice[0]!r}")

    def pod(self, uid: str) -> Path:
        return self.pods / uid

    def volumes(self, uid: str) -> Path:
        return self.pods / uid / "volumes"

    def volume(self, uid: str, kind: str, name: str) -> Path:
        return self.volumes(uid) / f"{_VENDOR}{kind}" / name

    def subpath(self, uid: str, volume: str, container: str, index: int) -> Path:
        return self.pods / uid / "volume-subpaths" / volume / container / str(index)

    def hosts(self, uid: str) -> Path:
        return self.pods / uid / "etc-hosts"

    def hostname(self, uid: str) -> Path:
        return self.pods / uid / "etc-hostname"

    def containers(self, uid: str, container: str) -> Path:
        return self.pods / uid / "containers" / container

    def termination_log(self, uid: str, container: str, attempt: int) -> Path:
        return self.containers(uid, container) / str(attempt)

    def logs(self, pod: Pod) -> Path:
        return self._logs / pod.log_folder

    def uids(self) -> list[str]:
        """The pods that have a folder. Blocks."""
        try:
            return sorted(each.name for each in self.pods.iterdir() if is_name(each.name) and each.is_dir())
        except FileNotFoundError:
            return []

    def foreign(self, uid: str) -> Iterator[Path]:
        """Mount points of what is not the pod's. Blocks."""
        for kind in FOREIGN:
            folder = self.volumes(uid) / f"{_VENDOR}{kind}"
            if folder.is_dir():
                yield from folder.iterdir()
