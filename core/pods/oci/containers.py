"""Containers of the built-in runtime: from a record on the disk to a shim, and to the exit file that the shim leaves."""

from __future__ import annotations

import asyncio
import logging
import secrets
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pinnace.core.base.files import write_whole
from pinnace.core.base.runtime import (
    Container,
    ContainerConfig,
    ContainerState,
    NoSuchContainer,
    RuntimeFailed,
    SandboxConfig,
)
from pinnace.core.pods.images.records import ImageStore
from pinnace.core.pods.oci import cgroups, files, orphans
from pinnace.core.pods.oci.bundles import Bundles
from pinnace.core.pods.oci.records import ContainerRecord, Exit, decoded, encoded, exit_decoded, exit_encoded, exit_unknown
from pinnace.core.pods.oci.shims import Shims, Watch

logger = logging.getLogger(__name__)
_RECORD: Final = "container.json"
_EXIT: Final = "exit"
_STARTED: Final = "started"
_KILL_SECONDS: Final = 10.0
"""How long the kernel may take to end a killed container before the caller hears of it."""


@dataclass(slots=True)
class _Entry:
    """One container in memory. `ended` is set once it has ended or was never started."""

    record: ContainerRecord
    started_at: float = 0.0
    exit: Exit | None = None
    is_running: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def state(self) -> ContainerState:
        if self.exit is not None:
            return ContainerState.EXITED
        return ContainerState.RUNNING if self.is_running else ContainerState.CREATED


class Containers:
    """`root` survives a reboot. `changed(pod uid)` is called when a container appears, starts or ends."""

    def __init__(self, root: Path, shims: Shims, images: ImageStore, bundles: Bundles, *, changed: Callable[[str], None]) -> None:
        self._root = root / "containers"
        self._shims = shims
        self._images = images
        self._bundles = bundles
        self._changed = changed
        self._watch = Watch()
        self._entries: dict[str, _Entry] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def load(self) -> None:
        """Take up what is there: living shims are watched, the ends of the others noted."""
        for entry in await asyncio.to_thread(self._read):
            record = entry.record
            self._entries[record.id] = entry
            if entry.exit is None and entry.started_at and not self._adopt(entry):
                await self._lost(entry)
            if entry.exit is not None:
                entry.ended.set()
            self._images.hold(record.image, record.id)
        await asyncio.to_thread(self._end_strays)

    def _read(self) -> list[_Entry]:
        files.make_private(self._root)
        files.sweep(self._root)
        found = []
        for folder in self._root.iterdir():
            try:
                record = decoded(ContainerRecord, (folder / _RECORD).read_bytes())
            except (OSError, ValueError) as error:
                logger.warning("pods.container.record_unreadable folder=%s reason=%s; it is removed", folder, error)
                files.remove_folder(folder)
                continue
            entry = _Entry(record, exit=self._exit(record.id))
            entry.started_at = self._started(record.id)
            if not entry.started_at and self._shims.living(record.id):
                entry.started_at = time.time()  # on its way: the shim has not come to the file yet
            found.append(entry)
        return found

    def _end_strays(self) -> None:
        """What runs of containers nobody knows: their record did not come through a power cut or a damaged disk."""
        folder = self._shims.folder("")
        for each in folder.iterdir() if folder.is_dir() else ():
            if each.name not in self._entries:
                pid = self._shims.living(each.name)
                logger.warning("pods.container.stray container=%s shim=%d; it is ended", each.name, pid)
                self._bundles.kill_stray(each.name, pid)
                files.remove_folder(each)

    def _started(self, container_id: str) -> float:
        """The moment that the shim wrote down; 0 before it did."""
        try:
            return float((self._root / container_id / _STARTED).read_text() or 0)
        except (OSError, ValueError):
            return 0.0

    def _exit(self, container_id: str) -> Exit | None:
        """What its shim left, or we did. Where the disk was full the shim's is in memory only; it is brought to the disk."""
        try:
            try:
                content = (self._root / container_id / _EXIT).read_bytes()
            except FileNotFoundError:
                content = (self._shims.folder(container_id) / _EXIT).read_bytes()
                self._keep_exit(container_id, content)
            return exit_decoded(content)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            logger.warning("pods.container.exit_unreadable container=%s reason=%s", container_id, error)
            return exit_unknown(time.time(), "the record of how it ended cannot be read")

    def _keep_exit(self, container_id: str, content: bytes) -> None:
        try:
            write_whole(self._root / container_id / _EXIT, content, is_durable=True)
        except OSError as error:
            logger.warning("pods.container.exit_not_written container=%s reason=%s", container_id, error)

    def _adopt(self, entry: _Entry) -> bool:
        """Watch the container's shim; False when there is none."""
        pid = self._shims.living(entry.record.id)
        if not pid or not self._watch.on_end(pid, lambda: self._shim_ended(entry)):
            return False
        entry.is_running = True
        return True

    def _shim_ended(self, entry: _Entry) -> None:
        task = asyncio.get_running_loop().create_task(self._note_end(entry), name=f"end of {entry.record.id}")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _note_end(self, entry: _Entry) -> None:
        if entry.ended.is_set():
            return
        entry.exit = await asyncio.to_thread(self._exit, entry.record.id)
        if entry.exit is None:
            await self._lost(entry)
        entry.is_running = False
        entry.ended.set()
        self._changed(entry.record.pod_uid)

    async def _lost(self, entry: _Entry) -> None:
        """The shim is gone and left no exit: what it looked after ends too, since nobody reads its output or will see its end."""
        record = entry.record
        entry.exit = await asyncio.to_thread(self._exit, record.id)  # it may just have come
        if entry.exit is not None:
            return
        logger.warning("pods.container.lost container=%s name=%s", record.id, record.name)
        await asyncio.to_thread(cgroups.kill, record.cgroup)
        entry.exit = exit_unknown(time.time(), "its end was not seen: the machine went down, or its supervisor was killed")
        await self._write_exit(entry)
        await asyncio.to_thread(self._bundles.forget, record.id)

    async def _write_exit(self, entry: _Entry) -> None:
        assert entry.exit is not None
        await asyncio.to_thread(self._keep_exit, entry.record.id, exit_encoded(entry.exit))

    def _entry(self, container_id: str) -> _Entry:
        try:
            return self._entries[container_id]
        except KeyError:
            raise NoSuchContainer(f"no container {container_id}") from None

    def shown(self, container_id: str) -> Container:
        """Raises NoSuchContainer."""
        entry = self._entry(container_id)
        return entry.record.shown(entry.state, entry.started_at, entry.exit)

    def all(self) -> Sequence[Container]:
        return [entry.record.shown(entry.state, entry.started_at, entry.exit) for entry in self._entries.values()]

    def of(self, *, pod_uid: str = "", sandbox_id: str = "") -> list[ContainerRecord]:
        records = (entry.record for entry in self._entries.values())
        return [each for each in records if pod_uid in ("", each.pod_uid) and sandbox_id in ("", each.sandbox_id)]

    def running(self) -> list[ContainerRecord]:
        return [entry.record for entry in self._entries.values() if entry.is_running]

    def running_record(self, container_id: str) -> ContainerRecord:
        """Raises NoSuchContainer, or RuntimeFailed when it does not run."""
        entry = self._entry(container_id)
        if not entry.is_running:
            raise RuntimeFailed(f"container {entry.record.name} is not running")
        return entry.record

    async def create(self, sandbox_id: str, config: ContainerConfig, sandbox: SandboxConfig) -> str:
        """Raises RuntimeFailed; then nothing is left."""
        container_id = secrets.token_hex(16)
        self._images.hold(config.image, container_id)
        state = self._root / container_id
        try:
            record = await self._bundles.make(container_id, state, sandbox_id, config, sandbox)
            await asyncio.to_thread(write_whole, state / _RECORD, encoded(record), is_durable=True)
        except BaseException as error:
            self._images.release(container_id)
            await asyncio.to_thread(files.remove_folder, state)
            await asyncio.to_thread(files.remove_folder, self._shims.folder(container_id))
            if isinstance(error, OSError):
                raise RuntimeFailed(f"cannot create the container: {error}", reason="CreateContainerError") from error
            raise
        self._entries[container_id] = _Entry(record)
        self._changed(record.pod_uid)
        return container_id

    async def start(self, container_id: str) -> None:
        """Raises RuntimeFailed(reason="StartError"); the container has then ended with code 128."""
        # Once begun it is seen through: a caller that gives up must not leave a container nobody watches.
        await asyncio.shield(asyncio.ensure_future(self._start(self._entry(container_id))))

    async def _start(self, entry: _Entry) -> None:
        async with entry.lock:
            if entry.state is not ContainerState.CREATED or entry.record.id not in self._entries:
                raise RuntimeFailed(f"container {entry.record.name} was started before, or is removed")
            entry.started_at = time.time()
            await self._start_shim(entry)

    async def _start_shim(self, entry: _Entry) -> None:
        record = entry.record
        problem: RuntimeFailed | None = None
        try:
            await self._shims.start(record, self._root / record.id)
        except RuntimeFailed as error:
            problem = error
        if problem is None and self._adopt(entry):
            entry.started_at = await asyncio.to_thread(self._started, record.id) or entry.started_at  # the shim's word, as after a restart
            self._changed(record.pod_uid)
            return
        entry.exit = await asyncio.to_thread(self._exit, record.id)
        if entry.exit is None and problem is not None:
            await asyncio.to_thread(self._end_with_shim, record)  # late only, it would go on, with a container nobody watches
            entry.exit = await asyncio.to_thread(self._exit, record.id)
        if entry.exit is None and problem is not None:
            entry.exit = Exit(time.time(), 128, "StartError", str(problem))
            await self._write_exit(entry)
        elif entry.exit is None:
            await self._lost(entry)
        entry.ended.set()
        self._changed(record.pod_uid)
        if problem is not None:
            assert entry.exit is not None
            raise RuntimeFailed(entry.exit.message or str(problem), reason=entry.exit.reason) from problem

    async def stop(self, container_id: str, grace_seconds: float) -> None:
        """One that is being started is waited for. Raises RuntimeFailed when the kernel does not end it."""
        entry = self._entries.get(container_id)
        if entry is None:
            return
        async with entry.lock:
            pass
        await self._stop(entry, grace_seconds)

    async def _stop(self, entry: _Entry, grace_seconds: float) -> None:
        if not entry.is_running:
            return
        if grace_seconds > 0:
            try:
                await self._signal(entry, entry.record.stop_signal)
                await asyncio.wait_for(entry.ended.wait(), grace_seconds)
                return
            except TimeoutError:
                logger.debug("pods.container.grace_over container=%s", entry.record.id)
            except RuntimeFailed as error:
                logger.warning("pods.container.signal_failed container=%s reason=%s: it is killed", entry.record.id, error)
        await self._signal(entry, signal.SIGKILL)
        try:
            await asyncio.wait_for(entry.ended.wait(), _KILL_SECONDS)
        except TimeoutError:
            message = (
                f"container {entry.record.name} does not end: a process of it waits in the kernel, mostly for a device or a network disk"
            )
            raise RuntimeFailed(message, reason="KillContainerError") from None

    async def _signal(self, entry: _Entry, number: int) -> None:
        try:
            await self._shims.ask(entry.record.id, b"K", str(int(number)).encode())
        except OSError:
            if not self._shims.living(entry.record.id):
                await self._note_end(entry)
            elif number == signal.SIGKILL:
                await asyncio.to_thread(self._end_with_shim, entry.record)
        except RuntimeFailed:
            if number != signal.SIGKILL:
                raise
            await asyncio.to_thread(self._end_with_shim, entry.record)

    def _end_with_shim(self, record: ContainerRecord) -> None:
        """End a container whose shim obeys no more, or is too late: it will not tell of the end either."""
        shim = self._shims.living(record.id)
        if shim:
            logger.warning("pods.container.shim_hangs container=%s name=%s; it is ended with its container", record.id, record.name)
            orphans.end_tree(shim)
        cgroups.kill(record.cgroup)
        self._bundles.forget(record.id)

    async def remove(self, container_id: str) -> None:
        entry = self._entries.get(container_id)
        if entry is None:
            return
        async with entry.lock:
            if entry.is_running:
                await self._stop(entry, 0)
            if self._entries.pop(container_id, None) is None:
                return
            await asyncio.to_thread(files.remove_folder, self._root / container_id)
            await asyncio.to_thread(files.remove_folder, self._shims.folder(container_id))
            self._images.release(container_id)

    def folder(self, container_id: str) -> Path:
        """Where its writable layer is: upper/."""
        return self._root / container_id

    def close(self) -> None:
        """Let go of the shims; they go on."""
        self._watch.close()
        for task in self._closing:
            task.cancel()
