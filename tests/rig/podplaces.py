"""Where a test's edge keeps its pods: folders, a cgroup and a network of its own, and how all of it is gone afterwards."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from pinnace.core.base.imagefiles import BuiltImage, write_archive
from rig.images import busybox
from rig.processes import pinnace

BUSYBOX = "docker.io/library/busybox:1.36"


class PodPlaces:
    """`settings` goes into `modules.edged`. The folder's name is short, for the sake of sockets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = f"pinnace-{secrets.token_hex(3)}"
        self.import_dir = folder / "import"
        self.static_dir = folder / "manifests"
        self.control_socket = folder / "control.sock"
        self.cni_conf = folder / "cni"
        for each in (self.import_dir, self.static_dir, self.cni_conf):
            each.mkdir()
        third = secrets.randbelow(250) + 1
        self.bridge = f"pnt{secrets.token_hex(3)}"
        (self.cni_conf / "10-test.conflist").write_text(
            f"""{{"cniVersion": "0.4.0", "name": "{self.name}", "plugins": [
              {{"type": "bridge", "bridge": "{self.bridge}", "isGateway": true, "ipMasq": false, "ipam": {{"type": "host-local",
                "dataDir": "{folder}/ipam", "ranges": [[{{"subnet": "10.222.{third}.0/24"}}]], "routes": [{{"dst": "0.0.0.0/0"}}]}}}},
              {{"type": "portmap", "capabilities": {{"portMappings": true}}}}]}}"""
        )

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "enable": True,
            "rootDirectory": str(self.folder / "kubelet"),
            "podLogsDir": str(self.folder / "logs"),
            "controlSocket": str(self.control_socket),
            "builtinRuntime": {
                "rootDir": str(self.folder / "lib"),
                "runDir": str(self.folder / "run"),
                "importDir": str(self.import_dir),
                "cniConfDir": str(self.cni_conf),
            },
            "tailoredKubeletConfig": {
                "cgroupRoot": f"/{self.name}",
                "staticPodPath": str(self.static_dir),
                "fileCheckFrequency": "1s",
                "readOnlyPort": 0,
                "evictionHard": {"memory.available": "1Mi"},
            },
        }

    def offer(self, name: str = BUSYBOX, image: BuiltImage | None = None) -> None:
        """Put an image where the edge imports from."""
        archive = name.replace("/", "_").replace(":", "_") + ".tar"
        write_archive(self.import_dir / archive, {name: [image or busybox()]})


@contextlib.contextmanager
def pod_places() -> Iterator[PodPlaces]:
    """Folders for a test; at its end whatever runs or is mounted there is ended."""
    folder = Path(tempfile.mkdtemp(prefix="pn-"))
    places = PodPlaces(folder)
    try:
        yield places
    finally:
        _reset(places)
        subprocess.run(["ip", "link", "del", places.bridge], capture_output=True, check=False)
        for hierarchy in Path("/sys/fs/cgroup").glob(f"**/{places.name}"):
            hierarchy.rmdir()
        mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        left = [each for each in mounts if each.startswith(f"{folder}/")]
        assert not left, f"still mounted: {left}"
        shutil.rmtree(folder)


def _reset(places: PodPlaces) -> None:
    config = places.folder / "reset.yaml"
    config.write_text(yaml.safe_dump({"modules": {"edged": {"hostnameOverride": "reset", **places.settings}}}))
    subprocess.run([*pinnace("reset"), "--config", str(config), "--pods-only"], check=True, env={**os.environ})
