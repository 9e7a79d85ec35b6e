"""The built-in runtime for tests: folders of its own, images made on the spot, and nothing left behind."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Self

from fakes.imagestore import UnpackedImages

from pinnace.core.base.imagefiles import BuiltImage
from pinnace.core.base.settings.edged import BuiltinRuntimeSettings
from pinnace.core.pods.oci.files import start_time
from pinnace.core.pods.oci.runtime import OciRuntime
from rig.cri import network_config


class OciHome(AbstractContextManager["OciHome"]):
    """What a machine with the built-in runtime has: it outlives the adapters made over it. `default_network` is the runtime's own: it
    writes firewall rules, which want a network namespace of the test's."""

    def __init__(
        self,
        images: Mapping[str, BuiltImage],
        *,
        default_network: bool = False,
        within: Path | None = None,
        cgroup_driver: str = "cgroupfs",
    ) -> None:
        self._cgroup_driver = cgroup_driver
        self.folder = Path(tempfile.mkdtemp(prefix="pin-oci-", dir=within))
        self.bridge = f"pt{secrets.token_hex(4)}"
        self.subnet = f"10.{100 + secrets.randbelow(100)}.{secrets.randbelow(250)}.0/24"
        self.settings = BuiltinRuntimeSettings(
            root_dir=self.folder / "root", run_dir=self.folder / "run", cni_conf_dir=self.folder / "net.d", pod_subnet=self.subnet
        )
        if not default_network:
            self.settings.cni_conf_dir.mkdir()
            conflist = network_config(f"net-{self.bridge}", self.bridge, self.subnet, self.folder / "leases")
            (self.settings.cni_conf_dir / "10-test.conflist").write_text(conflist)
        self.images = UnpackedImages(self.folder / "images", images)

    def adapter(self, *, boot: str = "", cgroup_driver: str = "") -> OciRuntime:
        return OciRuntime(self.settings, self.images, bridge=self.bridge, boot=boot, cgroup_driver=cgroup_driver or self._cgroup_driver)

    def shims(self) -> dict[str, int]:
        """The pid of each container's shim."""
        found = {}
        for path in (self.settings.run_dir / "oci/containers").glob("*/shim"):
            with contextlib.suppress(OSError, ValueError):
                found[path.parent.name] = int(path.read_text().split()[0])
        return found

    def mounts(self) -> list[str]:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return [place for line in lines if (place := line.split()[4]).startswith(str(self.folder))]

    def power_cut(self) -> None:
        """End every process of ours, unmount everything and empty what a reboot empties."""
        killed = {pid: start_time(pid) for pid in self._processes()}
        for pid in killed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        deadline = time.monotonic() + 30
        while any(started and start_time(pid) == started for pid, started in killed.items()):  # the kernel takes its time under load
            assert time.monotonic() < deadline, f"still there after kill -9: {killed}"
            time.sleep(0.005)
        for place in reversed(self.mounts()):
            subprocess.run(["umount", "-l", place], check=False, capture_output=True)
        shutil.rmtree(self.settings.run_dir, ignore_errors=True)

    def sweep(self) -> None:
        self.power_cut()

    def _processes(self) -> list[int]:
        """Shims and execs by their command line, then the containers and the pause processes: shims first, that none tells of an end."""
        found = []
        for each in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                words = (each / "cmdline").read_bytes()
                if each.name.isdecimal() and b"pinnace-shim" in words and str(self.folder).encode() in words:
                    found.append(int(each.name))
        for pattern in ("containers/*/pid", "sandboxes/*/pause"):
            for path in (self.settings.run_dir / "oci").glob(pattern):
                found.append(int(path.read_text().split()[0]))
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.power_cut()
        subprocess.run(["ip", "link", "delete", self.bridge], check=False, capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)
