"""What this machine is and how it is doing, read from /proc, /sys and /etc."""

from __future__ import annotations

import contextlib
import os
import platform
import socket
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from pinnace.core.base.diskuse import file_system

_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "armv6l": "arm", "i686": "386"}


@dataclass(frozen=True, slots=True)
class Machine:
    """What does not change while we run. `memory` and `disk` are bytes; `disk` is the whole file system of the pods' folders."""

    architecture: str
    kernel: str
    os_image: str
    machine_id: str
    system_uuid: str
    boot_id: str
    cpus: int
    memory: int
    disk: int


@dataclass(frozen=True, slots=True)
class Load:
    """What does. Shares are of 1."""

    memory_available: int
    disk_free: float
    inodes_free: float
    tasks_free: float
    address: str
    """"" when the machine has no network."""


class Reader:
    """Reads below `root`, which is another folder in tests. `cloud` is where the cloud is, a name or an address. `pods_root` is where pods'
    folders are: as with the kubelet the node's disk is that file system, which need not be the machine's root."""

    def __init__(self, root: Path = Path("/"), *, cloud: str = "", pods_root: Path | None = None) -> None:
        self._root = root
        self._pods_root = pods_root or root
        self._cloud = cloud

    def machine(self) -> Machine:
        disk = file_system(self._pods_root)
        machine_id = self._text("etc/machine-id")
        return Machine(
            architecture=_ARCHITECTURES.get(platform.machine(), platform.machine()),
            kernel=platform.release(),
            os_image=self._os_image(),
            machine_id=machine_id,
            system_uuid=self._text("sys/class/dmi/id/product_uuid")
            or self._text("sys/firmware/devicetree/base/serial-number")
            or machine_id,
            boot_id=self._text("proc/sys/kernel/random/boot_id"),
            cpus=os.cpu_count() or 1,
            memory=self._memory("MemTotal"),
            disk=disk.f_blocks * disk.f_frsize,
        )

    def load(self, wanted_address: str = "") -> Load:
        """`wanted_address` as in `address`."""
        disk = file_system(self._pods_root)
        return Load(
            memory_available=self._memory("MemAvailable"),
            disk_free=disk.f_bavail / disk.f_blocks if disk.f_blocks else 1.0,
            inodes_free=disk.f_favail / disk.f_files if disk.f_files else 1.0,
            tasks_free=self._tasks_free(),
            address=self.address(wanted_address),
        )

    def address(self, wanted: str = "") -> str:
        """`wanted` as it is; for "" the address of the default route, else of the way to the cloud, "" without a network."""
        return wanted or _own_address(self._cloud)

    def _text(self, path: str) -> str:
        try:
            return (self._root / path).read_text(encoding="utf-8", errors="replace").strip("\0 \n")
        except OSError:
            return ""

    def _memory(self, name: str) -> int:
        for line in self._text("proc/meminfo").splitlines():
            key, _, value = line.partition(":")
            if key == name:
                return int(value.split()[0]) * 1024
        return 0

    def _tasks_free(self) -> float:
        words = self._text("proc/loadavg").split()
        limit = self._text("proc/sys/kernel/pid_max")
        total = words[3].partition("/")[2] if len(words) > 3 else ""
        return 1.0 - int(total) / int(limit) if total.isdigit() and limit.isdigit() else 1.0

    def _os_image(self) -> str:
        for line in self._text("etc/os-release").splitlines():
            key, _, value = line.partition("=")
            if key == "PRETTY_NAME":
                return value.strip("\"'")
        return "Linux"


def _own_address(cloud: str) -> str:
    """The address from which a packet to elsewhere would leave, or one to the cloud where there is no way to elsewhere; nothing is sent.
    A name of the cloud is not looked up: that could take long."""
    targets = [(socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")]
    with contextlib.suppress(ValueError):
        targets.append((socket.AF_INET6 if ip_address(cloud).version == 6 else socket.AF_INET, cloud))
    for family, target in targets:
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((target, 9))
            return str(probe.getsockname()[0])
    return ""
