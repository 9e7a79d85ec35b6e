"""Sandboxes of the built-in runtime: a record on the disk, and namespaces that need no process."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from pinnace.core.base.aio.whole import whole
from pinnace.core.base.files import write_whole
from pinnace.core.base.runtime import Dns, NoSuchContainer, RuntimeFailed, SandboxConfig, SandboxState
from pinnace.core.pods.oci import files
from pinnace.core.pods.oci.network import PodNetwork
from pinnace.core.pods.oci.records import SandboxRecord, decoded, encoded
from pinnace.core.pods.oci.shims import OWN_CGROUP, Shims
from pinnace.core.pods.oci.spec import SHM

logger = logging.getLogger(__name__)
_RECORD: Final = "sandbox.json"
_SHM_BYTES: Final = 64 << 20


RESOLV_CONF: Final = Path("/etc/resolv.conf")
"""For pods that say nothing."""


def resolv_conf(dns: Dns) -> str:
    """resolv.conf(5)."""
    lines = [f"nameserver {each}" for each in dns.servers]
    lines = ["search " + " ".join(dns.searches)] * bool(dns.searches) + lines + ["options " + " ".join(dns.options)] * bool(dns.options)
    return "".join(f"{line}\n" for line in lines)


class Sandboxes:
    """`root` survives a reboot, `base` does not."""

    def __init__(self, root: Path, base: Path, shims: Shims, network: PodNetwork, boot: str) -> None:
        self._root = root / "sandboxes"
        self._base = base / "sandboxes"
        self._shims = shims
        self._network = network
        self._boot = boot
        self._records: dict[str, SandboxRecord] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._strays: set[str] = set()
        self._half_undone: set[str] = set()

    def load(self) -> None:
        """Read what is on the disk. Blocks."""
        files.make_private(self._root.parent)
        files.make_private(self._root)
        files.sweep(self._root)
        for folder in self._root.iterdir():
            try:
                record = decoded(SandboxRecord, (folder / _RECORD).read_bytes())
            except (OSError, ValueError) as error:
                logger.warning("pods.sandbox.record_unreadable folder=%s reason=%s; it is taken down", folder, error)
                self._strays.add(folder.name)
                continue
            self._records[record.id] = record
        if self._base.is_dir():
            files.sweep(self._base)
            self._strays |= {each.name for each in self._base.iterdir()} - set(self._records)

    def record(self, sandbox_id: str) -> SandboxRecord:
        """Raises NoSuchContainer."""
        try:
            return self._records[sandbox_id]
        except KeyError:
            raise NoSuchContainer(f"no sandbox {sandbox_id}") from None

    def records(self) -> Sequence[SandboxRecord]:
        """Those that are whole; half-made ones are taken down by `clear`."""
        return [each for each in self._records.values() if each.is_made]

    async def clear(self) -> None:
        """Take down what a crash, or a network that could not be undone, left half made. Never raises: what a plugin refuses to undo now
        as well is let go."""
        for record in [each for each in self._records.values() if not each.is_made]:
            try:
                await self.remove(record.id)
            except RuntimeFailed as error:
                logger.warning("pods.sandbox.let_go sandbox=%s reason=%s", record.id, error)
                await self._forget(record.id)
        while self._strays:
            await self._take_down(self._strays.pop())

    async def retry(self) -> None:
        """Take down those that could be neither made nor undone. Never raises; what still cannot be undone stays for the next time."""
        for sandbox_id in list(self._half_undone):
            try:
                await self.remove(sandbox_id)
            except (RuntimeFailed, OSError) as error:
                logger.warning("pods.sandbox.undo_failed sandbox=%s reason=%s; tried again in a minute", sandbox_id, error)
            else:
                self._half_undone.discard(sandbox_id)

    async def _take_down(self, sandbox_id: str) -> None:
        """Of a sandbox whose record did not come through a power cut or a damaged disk: its addresses and namespaces are not lost."""
        try:
            netns = self._base / sandbox_id / "net"
            await self._network.detach(self._root / sandbox_id, netns=str(netns) if netns.exists() else "")
            await self._drop(sandbox_id)
        except RuntimeFailed as error:
            logger.warning("pods.sandbox.let_go sandbox=%s reason=%s", sandbox_id, error)
        await self._forget(sandbox_id)

    def state(self, record: SandboxRecord) -> SandboxState:
        return SandboxState.READY if not record.is_stopped and self._is_whole(record) else SandboxState.NOT_READY

    def _is_whole(self, record: SandboxRecord) -> bool:
        """Are its namespaces there? A reboot, or who unmounted them, ends a sandbox."""
        if record.boot != self._boot:
            return False
        folder = self._base / record.id
        try:
            here = folder.stat().st_dev
            kept = all((folder / kind).stat().st_dev != here for kind in self._kinds(record))
            pid, started = (folder / "pause").read_text().split() if record.share_pid else ("0", "0")
        except (OSError, ValueError):
            return False
        return kept and files.start_time(int(pid)) == int(started)

    @staticmethod
    def _kinds(record: SandboxRecord) -> list[str]:
        """The namespaces that are the pod's own, by their names below /proc/<pid>/ns."""
        own = (
            ("net", not record.host_network),
            ("uts", not record.host_network),
            ("ipc", not record.host_ipc),
            ("pid", record.share_pid and not record.host_pid),
        )
        return [kind for kind, is_own in own if is_own]

    def namespaces(self, record: SandboxRecord) -> dict[str, str]:
        """For `spec.Places`."""
        names = {"net": "network"}
        found = {names.get(kind, kind): str(self._base / record.id / kind) for kind in self._kinds(record)}
        if not record.share_pid and not record.host_pid:
            found["pid"] = ""
        return found

    def netns(self, record: SandboxRecord) -> str:
        """The file of its network namespace; "" for the host's."""
        return "" if record.host_network else str(self._base / record.id / "net")

    def shm(self, record: SandboxRecord) -> str:
        return SHM if record.host_ipc else str(self._base / record.id / "shm")

    def resolv_conf(self, record: SandboxRecord) -> str:
        """ "" when there was none at the sandbox's start."""
        path = self._root / record.id / "resolv.conf"
        return str(path) if path.exists() else ""

    async def run(self, config: SandboxConfig) -> str:
        """Raises RuntimeFailed; then nothing is left of it, or is taken down later."""
        spaces = config.namespaces
        record = SandboxRecord(
            id=secrets.token_hex(16),
            name=config.name,
            namespace=config.namespace,
            uid=config.uid,
            attempt=config.attempt,
            created_at=time.time(),
            boot=self._boot,
            log_directory=str(config.log_directory),
            cgroup_parent=config.cgroup_parent,
            hostname=config.hostname,
            host_network=spaces.host_network,
            host_pid=spaces.host_pid,
            host_ipc=spaces.host_ipc,
            share_pid=spaces.share_pid and not spaces.host_pid,
            labels=dict(config.labels),
            annotations=dict(config.annotations),
        )
        self._records[record.id] = record
        try:
            await whole(asyncio.to_thread(self._prepare, record, config))
            await self._make_namespaces(record, config)
            if not record.host_network:
                folder, netns = self._root / record.id, self._base / record.id / "net"
                record = replace(record, ips=await self._network.attach(folder, record.id, netns, config))
            record = replace(record, is_made=True)
            await asyncio.to_thread(write_whole, self._root / record.id / _RECORD, encoded(record), is_durable=True)
            self._records[record.id] = record
        except BaseException as error:
            await asyncio.shield(self._undo(record.id))
            if isinstance(error, OSError):
                raise RuntimeFailed(f"cannot make the sandbox: {error}", reason="CreatePodSandboxError") from error
            raise
        return record.id

    async def _undo(self, sandbox_id: str) -> None:
        """Of a sandbox that could not be made: its namespaces go in any case, a network that cannot be undone is tried again (`retry`)."""
        try:
            await self.remove(sandbox_id)
        except RuntimeFailed as error:
            logger.warning("pods.sandbox.undo_failed sandbox=%s reason=%s; tried again in a minute", sandbox_id, error)
            self._half_undone.add(sandbox_id)
            await self._drop(sandbox_id)

    async def _drop(self, sandbox_id: str) -> None:
        base = self._base / sandbox_id
        if base.exists():
            await self._shims.call("drop", "--run", str(base))

    def _prepare(self, record: SandboxRecord, config: SandboxConfig) -> None:
        folder = self._root / record.id
        folder.mkdir(mode=0o700)
        (self._base / record.id).mkdir(mode=0o700)
        config.log_directory.mkdir(parents=True, exist_ok=True, mode=0o755)
        if config.dns is not None:
            write_whole(folder / "resolv.conf", resolv_conf(config.dns).encode(), mode=0o644)
        elif RESOLV_CONF.exists():
            write_whole(folder / "resolv.conf", RESOLV_CONF.read_bytes(), mode=0o644)
        write_whole(folder / _RECORD, encoded(record))

    async def _make_namespaces(self, record: SandboxRecord, config: SandboxConfig) -> None:
        words = ["sandbox", "--run", str(self._base / record.id), "--own-cgroup", OWN_CGROUP]
        words += [f"--new-{kind}" for kind in self._kinds(record)]
        if not record.host_network and config.hostname:
            words += ["--hostname", config.hostname]
        if not record.host_ipc:
            words += ["--shm", str(_SHM_BYTES)]
        for name, value in config.sysctls.items():
            words += ["--sysctl", f"{name}={value}"]
        if self._kinds(record):
            await self._shims.call(*words)

    async def stop(self, sandbox_id: str) -> None:
        """End its network and namespaces; its containers have ended. Raises NetworkFailed; it can be tried again."""
        async with self._locks.setdefault(sandbox_id, asyncio.Lock()):
            record = self._records.get(sandbox_id)
            if record is None or record.is_stopped:
                return
            await self._network.detach(self._root / sandbox_id, netns=self.netns(record) if self._is_whole(record) else "")
            await self._drop(sandbox_id)
            self._records[sandbox_id] = record = replace(record, is_stopped=True)
            try:
                await asyncio.to_thread(write_whole, self._root / sandbox_id / _RECORD, encoded(record))
            except FileNotFoundError:
                pass  # it was never written
            except OSError as error:  # a full disk, say, on which this makes room; after a restart its missing namespaces tell the same
                logger.warning("pods.sandbox.end_not_written sandbox=%s reason=%s", sandbox_id, error)

    async def remove(self, sandbox_id: str) -> None:
        await self.stop(sandbox_id)
        await self._forget(sandbox_id)

    async def _forget(self, sandbox_id: str) -> None:
        async with self._locks.setdefault(sandbox_id, asyncio.Lock()):
            self._records.pop(sandbox_id, None)
            for folder in (self._base / sandbox_id, self._root / sandbox_id):
                await asyncio.to_thread(files.remove_folder, folder)
        self._locks.pop(sandbox_id, None)
