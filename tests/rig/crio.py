"""CRI-O as a CRI runtime of the tests: the program that PINNACE_CRIO names, with `pinns` beside it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from pinnace.core.base.imagefiles import BuiltImage
from pinnace.core.base.runtime import Image
from pinnace.core.pods.cri.runtime import CriRuntime
from rig.cri import PAUSE, CriDaemon, apart
from rig.registry import Registry

VARIABLE = "PINNACE_CRIO"


def program() -> str | None:
    """None where the variable names none."""
    return shutil.which(os.environ.get(VARIABLE, ""))


class Crio(CriDaemon):
    """Its images come from a registry that is there as long as it."""

    prefix = "crio"

    def __init__(self) -> None:
        super().__init__()
        self._registry = Registry(self.folder / "registry")

    @property
    def _volatile(self) -> Path:
        return self.folder / "run"

    def _configure(self) -> None:
        self._registry.start()
        (self.folder / "crio.conf").write_text(self._config())
        (self.folder / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        (self.folder / "registries.conf").write_text(
            f'[[registry]]\nprefix = "pinnace.test"\nlocation = "{self._registry.host}"\ninsecure = true\n'
        )

    def _config(self) -> str:
        pinns = Path(self._command()[0]).with_name("pinns")
        return f"""
[crio]
root = "{self.folder}/root"
runroot = "{self.folder}/run/storage"
storage_driver = "overlay"
log_dir = "{self.folder}/logs"
version_file = "{self.folder}/run/version"
clean_shutdown_file = "{self.folder}/clean.shutdown"
[crio.api]
listen = "{self.socket}"
stream_address = "127.0.0.1"
stream_port = "0"
[crio.runtime]
default_runtime = "runc"
cgroup_manager = "cgroupfs"
pinns_path = "{pinns}"
namespaces_dir = "{self.folder}/run"
container_exits_dir = "{self.folder}/run/exits"
container_attach_socket_dir = "{self.folder}/run/attach"
decryption_keys_path = "{self.folder}/keys"
hooks_dir = []
default_capabilities = ["CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP",
  "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE"]
irqbalance_config_restore_file = "disable"
[crio.runtime.runtimes.runc]
runtime_path = "{shutil.which("runc")}"
runtime_root = "{self.folder}/run/runc"
monitor_path = "{shutil.which("conmon")}"
monitor_cgroup = "pod"
[crio.image]
pause_image = "{PAUSE}"
pause_command = ""
signature_policy = "{self.folder}/policy.json"
signature_policy_dir = "{self.folder}/policies"
[crio.network]
network_dir = "{self.folder}/net.d"
plugin_dirs = ["/usr/lib/cni"]
[crio.nri]
enable_nri = false
"""

    def _command(self) -> list[str]:
        crio = program()
        assert crio, f"{VARIABLE} must name CRI-O's program"
        registries = ["--registries-conf", str(self.folder / "registries.conf"), "--registries-conf-dir", str(self.folder / "registries.d")]
        return [crio, "--config", str(self.folder / "crio.conf"), "--config-dir", "", *registries]

    def _is_holder(self, command: list[bytes]) -> bool:
        return command[0].endswith(b"conmon") and str(self.folder).encode() in b" ".join(command)

    def _import(self, images: Mapping[str, BuiltImage]) -> None:
        for name, image in images.items():
            self._registry.push(name.removeprefix("pinnace.test/"), image)
            apart(self._pull(name))

    async def _pull(self, name: str) -> Image:
        runtime = CriRuntime(self.endpoint)
        try:
            return await runtime.images.pull(name)
        finally:
            await runtime.close()

    def close(self) -> None:
        super().close()
        self._registry.stop()
