"""A container's folders and its config.json, before it is started."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from pinnace.core.base.aio.aside import Aside
from pinnace.core.base.aio.whole import whole
from pinnace.core.base.files import write_whole
from pinnace.core.base.runtime import (
    POD_UID_LABEL,
    ContainerConfig,
    Profile,
    Propagation,
    RuntimeFailed,
    SandboxConfig,
    SandboxState,
    SecurityProfile,
)
from pinnace.core.pods.images.records import ImageStore
from pinnace.core.pods.oci import cgroups, seccomp, spec
from pinnace.core.pods.oci.host import DeviceNode, Host, device, devices
from pinnace.core.pods.oci.records import ContainerRecord
from pinnace.core.pods.oci.sandboxes import Sandboxes
from pinnace.core.pods.oci.shims import Shims
from pinnace.core.pods.oci.users import Accounts, resolve

logger = logging.getLogger(__name__)
_MOST_ACCOUNTS = 64
"""Images whose /etc/passwd and /etc/group are remembered; the oldest is forgotten."""


def signal_number(name: str) -> int:
    """Of SIGTERM, TERM, 15, SIGRTMIN+3; SIGTERM for what is none (an image may say anything)."""
    text = name.upper().removeprefix("SIG")
    base, _, offset = text.partition("+")
    number = int(text) if text.isdecimal() else getattr(signal, f"SIG{base}", 0)
    number += int(offset) if offset.isdecimal() and number else 0
    return number if 0 < number <= signal.SIGRTMAX else int(signal.SIGTERM)


class Bundles:
    """Makes what a shim starts a container from."""

    def __init__(self, base: Path, shims: Shims, sandboxes: Sandboxes, images: ImageStore, host: Host, *, is_systemd: bool = False) -> None:
        self._base = base
        self._shims = shims
        self._sandboxes = sandboxes
        self._images = images
        self._host = host
        self._is_systemd = is_systemd
        self._accounts: dict[str, Accounts] = {}
        self._aside = Aside()

    async def make(
        self, container_id: str, state: Path, sandbox_id: str, config: ContainerConfig, sandbox: SandboxConfig
    ) -> ContainerRecord:
        """Raises RuntimeFailed."""
        inside = self._sandboxes.record(sandbox_id)
        if self._sandboxes.state(inside) is not SandboxState.READY:
            raise RuntimeFailed(f"the sandbox of {sandbox.namespace}/{sandbox.name} is not ready", reason="CreateContainerError")
        image = self._images.config(config.image)
        await whole(asyncio.to_thread(self._make_folders, container_id, state, self._images.layers(config.image)))
        security = config.security
        accounts = await self._accounts_of(config.image, state)
        user = resolve(image.user, security.run_as_user, security.run_as_group, security.supplemental_groups, accounts)
        volumes = spec.image_volumes(config, image) if security.readonly_root else ()
        crun_path, cgroup = cgroups.driver_path(inside.cgroup_parent, container_id, is_systemd=self._is_systemd)
        places = spec.Places(
            root=self._shims.root,
            cgroup=crun_path,
            namespaces=self._sandboxes.namespaces(inside),
            shm=self._sandboxes.shm(inside),
            resolv_conf=self._sandboxes.resolv_conf(inside),
            volumes=[(path, self._shims.volume(number)) for number, path in enumerate(volumes)],
        )
        held = spec.capabilities(security, self._host.capabilities)
        found = spec.configuration(
            config=config,
            sandbox=sandbox,
            image=image,
            user=user,
            host=self._host,
            places=places,
            devices=await asyncio.to_thread(_devices, config),
            seccomp=await asyncio.to_thread(seccomp.load, security.seccomp, held),
            apparmor=self._apparmor(security.apparmor),
        )
        try:
            await self._aside.call(sandbox.uid, f"the mounts of container {config.name}", _make_sources, config)
        except TimeoutError as error:
            raise RuntimeFailed(str(error.strerror or error), reason="CreateContainerError") from error
        await asyncio.to_thread(write_whole, self._shims.folder(container_id) / "config.json", orjson.dumps(found))
        return ContainerRecord(
            id=container_id,
            sandbox_id=sandbox_id,
            pod_uid=config.labels.get(POD_UID_LABEL, inside.uid),
            name=config.name,
            attempt=config.attempt,
            image=config.image,
            image_name=config.image_name,
            image_ref=await self._reference(config.image),
            created_at=time.time(),
            log_path=str(sandbox.log_directory / config.log_path),
            cgroup=cgroup,
            stop_signal=signal_number(image.stop_signal),
            tty=config.tty,
            stdin=config.stdin,
            stdin_once=config.stdin and config.stdin_once,
            kills_all=inside.host_pid or inside.share_pid,
            volumes=volumes,
            shared=tuple(each.host_path for each in config.mounts if each.propagation is not Propagation.PRIVATE),
            labels=dict(config.labels),
            annotations=dict(config.annotations),
        )

    def _make_folders(self, container_id: str, state: Path, layers: tuple[Path, ...]) -> None:
        for folder in (state, state / "l", state / "upper", state / "work", state / "empty"):
            folder.mkdir(mode=0o700)
        (state / "upper").chmod(0o755)  # the container's root folder
        for number, layer in enumerate(reversed(layers or (state / "empty",))):
            (state / "l" / str(number)).symlink_to(layer.absolute())
        self._shims.folder(container_id).mkdir(mode=0o700)

    async def _accounts_of(self, image_id: str, state: Path) -> Accounts:
        """The layers of an image never change, so neither does this."""
        if image_id not in self._accounts:
            passwd, group = await self._shims.read_image_files(state, ("etc/passwd", "etc/group"))
            while len(self._accounts) >= _MOST_ACCOUNTS:
                self._accounts.pop(next(iter(self._accounts)))
            self._accounts[image_id] = Accounts(passwd, group)
        return self._accounts[image_id]

    async def _reference(self, image_id: str) -> str:
        """name@digest where the image came from a registry, else its id."""
        image = await self._images.image(image_id)
        return image.digests[0] if image is not None and image.digests else image_id

    def _apparmor(self, profile: SecurityProfile) -> str:
        if profile.kind is not Profile.LOCALHOST:
            return ""
        if not self._host.has_apparmor:
            raise RuntimeFailed(f"AppArmor profile {profile.path}: this machine's kernel has no AppArmor", reason="CreateContainerError")
        return profile.path

    def process(self, container_id: str) -> Mapping[str, Any]:
        """The `process` of a container's config.json. Raises RuntimeFailed. Blocks."""
        try:
            found: dict[str, Any] = orjson.loads((self._shims.folder(container_id) / "config.json").read_bytes())["process"]
        except (OSError, KeyError, ValueError) as error:
            raise RuntimeFailed(f"the configuration of container {container_id} cannot be read: {error}") from error
        return found

    def forget(self, container_id: str) -> None:
        """Remove crun's record of a container that has ended."""
        shutil.rmtree(self._base / "crun" / container_id, ignore_errors=True)

    def kill_stray(self, container_id: str, shim: int) -> None:
        """End a container of which there is no record but its bundle. Blocks."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            path = orjson.loads((self._shims.folder(container_id) / "config.json").read_bytes())["linux"]["cgroupsPath"]
            parent, _, name = str(path).rpartition(":")
            cgroups.kill(f"/{parent.partition(':')[0]}/pinnace-{name}.scope" if parent else str(path))
        if shim:
            with contextlib.suppress(ProcessLookupError):
                os.kill(shim, signal.SIGKILL)
        self.forget(container_id)


def _devices(config: ContainerConfig) -> list[tuple[DeviceNode, str]]:
    """All of the host's for a privileged container, else those asked for; a folder means all in it. Raises RuntimeFailed."""
    if config.security.privileged:
        return [(each, "rwm") for each in devices()]
    found: list[tuple[DeviceNode, str]] = []
    for each in config.devices:
        host, shown = Path(each.host_path), each.container_path or each.host_path
        nodes = list(devices(host, shown)) if host.is_dir() else [node] if (node := device(host, shown)) else []
        if not nodes:
            raise RuntimeFailed(f"{each.host_path} is no device of this machine", reason="CreateContainerError")
        found += [(node, each.permissions or "rwm") for node in nodes]
    return found


def _make_sources(config: ContainerConfig) -> None:
    """A host path that is not there becomes a folder, as with every runtime (hostPath of type "")."""
    for mount in config.mounts:
        if not os.path.lexists(mount.host_path):
            Path(mount.host_path).mkdir(parents=True, exist_ok=True)
