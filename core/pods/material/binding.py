"""From a container's volumeMounts to mounts: sub-paths, propagation, and the files every container has. Blocks."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from pinnace.core.base.pod import Container, Object, Pod
from pinnace.core.base.runtime import Device, Mount, Propagation
from pinnace.core.pods.material import trees
from pinnace.core.pods.material.folders import PodFolders
from pinnace.core.pods.material.mounts import Mounts
from pinnace.core.pods.material.volumes import Ready
from pinnace.core.pods.rules.env import expand_strictly
from pinnace.core.pods.rules.hosts import hosts_file
from pinnace.core.pods.rules.security import is_privileged

HOSTS: Final = "/etc/hosts"
HOSTNAME: Final = "/etc/hostname"
TERMINATION_LOG: Final = "/dev/termination-log"
_KEPT_TERMINATION_LOGS: Final = 3
_PROPAGATION: Final = {
    "None": Propagation.PRIVATE,
    "HostToContainer": Propagation.HOST_TO_CONTAINER,
    "Bidirectional": Propagation.BIDIRECTIONAL,
}


class Binding:
    """Makes the mounts of containers."""

    def __init__(self, folders: PodFolders, mounts: Mounts, *, cluster_domain: str) -> None:
        self._folders = folders
        self._mounts = mounts
        self._cluster_domain = cluster_domain

    def mounts_of(self, pod: Pod, container: Container, volumes: Mapping[str, Ready], known: Mapping[str, str]) -> list[Mount]:
        """Those of volumeMounts; `known` are the container's variables. Raises ValueError, OSError."""
        return [
            self._mount(pod, container, index, each, volumes=volumes, known=known)
            for index, each in enumerate(container.spec.get("volumeMounts") or ())
        ]

    def _mount(
        self, pod: Pod, container: Container, index: int, wish: Object, *, volumes: Mapping[str, Ready], known: Mapping[str, str]
    ) -> Mount:
        name, target = str(wish.get("name", "")), str(wish.get("mountPath") or "")
        volume = volumes.get(name)
        if volume is None:
            raise ValueError(f"volumeMounts: there is no volume {name!r}")
        if volume.is_device:
            raise ValueError(f"volume {name!r} is a block device: use volumeDevices")
        if not target or ":" in target:
            raise ValueError(f"volumeMounts of {name!r}: expected a mountPath, not {target!r}")
        propagation = _PROPAGATION.get(wish.get("mountPropagation") or "None")
        if propagation is None:
            raise ValueError(f"mountPropagation: expected {', '.join(_PROPAGATION)}, not {wish['mountPropagation']!r}")
        if propagation is Propagation.BIDIRECTIONAL and not is_privileged(container):
            raise ValueError("mountPropagation Bidirectional is for privileged containers only")
        if wish.get("recursiveReadOnly") == "Enabled":
            raise ValueError("recursiveReadOnly Enabled is not supported by this node: use IfPossible")
        inside = expand_strictly(str(wish["subPathExpr"]), known) if wish.get("subPathExpr") else str(wish.get("subPath") or "")
        source = volume.path
        if inside:
            place = self._folders.subpath(pod.uid, name, container.name, index)
            source = self._subpath(volume, inside, place)
        readonly = volume.readonly or bool(wish.get("readOnly"))
        return Mount(target if target.startswith("/") else f"/{target}", str(source), readonly, propagation)

    def _subpath(self, volume: Ready, inside: str, place: Path) -> Path:
        """Bind what is at `inside` to `place`, whatever links say meanwhile. A key that an optional object does not have is an empty
        folder."""
        create_mode = None if volume.is_content else stat.S_IMODE(volume.path.stat().st_mode)
        try:
            with trees.opened(volume.path, inside, create_mode=create_mode) as found:
                self._bind(found, place)
        except FileNotFoundError:
            if not volume.is_content:
                raise
            self._mounts.unmount(place)
            _make(place, is_folder=True)
        except trees.Escape as error:
            raise ValueError(f"subPath {inside!r}: {error.strerror}") from error
        return place

    def _bind(self, found: int, place: Path) -> None:
        wanted = os.fstat(found)
        if self._mounts.is_point(place):
            there = place.stat()
            if (there.st_dev, there.st_ino) == (wanted.st_dev, wanted.st_ino):
                return
            self._mounts.unmount(place)
        _make(place, is_folder=stat.S_ISDIR(wanted.st_mode))
        self._mounts.bind(f"/proc/self/fd/{found}", place)

    def devices_of(self, container: Container, volumes: Mapping[str, Ready]) -> Iterator[Device]:
        """Those of volumeDevices. Raises ValueError."""
        for each in container.spec.get("volumeDevices") or ():
            name = str(each.get("name", ""))
            volume = volumes.get(name)
            if volume is None or not volume.is_device:
                raise ValueError(f"volumeDevices: volume {name!r} is no block device")
            yield Device(str(each.get("devicePath", "")), str(volume.path), "rm" if volume.readonly else "rwm")

    def own_files(
        self, pod: Pod, container: Container, attempt: int, *, taken: Sequence[Mount], pod_ips: Sequence[str], hostname: str
    ) -> list[Mount]:
        """Mounts of /etc/hosts, /etc/hostname and the termination log, where no volume has taken the place; the files are written."""
        covered = {os.path.normpath(each.container_path) for each in taken}
        readonly = bool((container.spec.get("securityContext") or {}).get("readOnlyRootFilesystem"))
        found = []
        if HOSTS not in covered and (pod.host_network or pod_ips):
            path = self._folders.hosts(pod.uid)
            text = hosts_file(pod, pod_ips, cluster_domain=self._cluster_domain, node_hosts=_node_hosts() if pod.host_network else "")
            _write_in_place(path, text)
            found.append(Mount(HOSTS, str(path)))
        if HOSTNAME not in covered:
            path = self._folders.hostname(pod.uid)
            _write_in_place(path, f"{hostname or os.uname().nodename}\n")
            found.append(Mount(HOSTNAME, str(path), readonly))
        target = termination_path(container)
        if target and os.path.normpath(target) not in covered:
            found.append(Mount(target, str(self._termination_log(pod, container, attempt))))
        return found

    def _termination_log(self, pod: Pod, container: Container, attempt: int) -> Path:
        path = self._folders.termination_log(pod.uid, container.name, attempt)
        path.parent.mkdir(0o750, parents=True, exist_ok=True)
        for each in path.parent.iterdir():
            if each.name.isdecimal() and int(each.name) <= attempt - _KEPT_TERMINATION_LOGS:
                each.unlink()
        _write_in_place(path, "")
        path.chmod(0o666)
        return path


def termination_path(container: Container) -> str:
    return str(container.spec.get("terminationMessagePath") or TERMINATION_LOG)


def _node_hosts() -> str:
    try:
        return Path(HOSTS).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _write_in_place(path: Path, text: str) -> None:
    """Containers have the file itself mounted: it is never replaced by another one. What they made of it may be of any size."""
    content = text.encode()
    try:
        with path.open("rb") as stream:
            if stream.read(len(content) + 1) == content:
                return
    except FileNotFoundError:
        path.parent.mkdir(0o750, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        stream.truncate()
        os.fchmod(descriptor, 0o644)


def _make(place: Path, *, is_folder: bool) -> None:
    place.parent.mkdir(0o750, parents=True, exist_ok=True)
    if place.is_dir() is not is_folder or place.is_symlink():
        if place.is_dir() and not place.is_symlink():
            place.rmdir()
        else:
            place.unlink(missing_ok=True)
    if is_folder:
        place.mkdir(0o750, exist_ok=True)
    else:
        place.touch(0o640)
