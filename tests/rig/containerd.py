"""containerd as a CRI runtime of the tests."""

from __future__ import annotations

import secrets
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from pinnace.core.base.imagefiles import BuiltImage, write_archive
from rig.cri import PAUSE, CriDaemon


class Containerd(CriDaemon):
    prefix = "ctrd"

    @property
    def _volatile(self) -> Path:
        return self.folder / "state"

    def _configure(self) -> None:
        (self.folder / "config.toml").write_text(self._config())

    def _config(self) -> str:
        return f"""
version = 2
root = "{self.folder}/root"
state = "{self.folder}/state"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp"]
[grpc]
  address = "{self.socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{self.folder}/net.d"
"""

    def _command(self) -> list[str]:
        program = shutil.which("containerd")
        assert program, "containerd is missing: `make dev` installs it"
        return [program, "--config", str(self.folder / "config.toml")]

    def _is_holder(self, command: list[bytes]) -> bool:
        return b"containerd-shim" in command[0] and str(self.socket).encode() in b" ".join(command)

    def _import(self, images: Mapping[str, BuiltImage]) -> None:
        archive = self.folder / f"{secrets.token_hex(4)}.tar"
        write_archive(archive, {name: [image] for name, image in images.items()})
        ctr = ["ctr", "--address", str(self.socket), "--namespace", "k8s.io"]
        done = subprocess.run([*ctr, "images", "import", str(archive)], capture_output=True, text=True, check=False)
        archive.unlink()
        assert done.returncode == 0, done.stderr
