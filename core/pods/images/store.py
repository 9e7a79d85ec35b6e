"""The built-in runtime's image store: what is there, pulls that are under way, who holds what, and what can go.

store = BuiltinImages(settings)
await store.start()          # a few milliseconds: reads the index
... store.run()              # for ever: imports archives, notes when images were used, throws away what nobody needs
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import orjson

from pinnace.core.base.aio.clock import Clock, LoopClock
from pinnace.core.base.aio.whole import whole
from pinnace.core.base.files import write_whole
from pinnace.core.base.folders import remove
from pinnace.core.base.runtime import Credential, DiskUsage, Image, Progress, PullFailed, RuntimeFailed
from pinnace.core.base.settings.edged import BuiltinRuntimeSettings
from pinnace.core.pods.images.children import Children
from pinnace.core.pods.images.imports import SETTLED_SECONDS, Imported, Imports
from pinnace.core.pods.images.index import Index, StoredImage
from pinnace.core.pods.images.layout import Layout
from pinnace.core.pods.images.records import ImageConfig
from pinnace.core.pods.images.references import image_id, parse

logger = logging.getLogger(__name__)

IMPORT_SECONDS: Final = 5.0
"""How often the import folder is looked at."""
FIRST_IMPORT_SECONDS: Final = 60.0
"""How long pulls wait for the archives that lie in the folder at the start."""
HOUSE_SECONDS: Final = 600.0
"""How often times of use are written down, if they changed, and leftovers are looked for."""
LEFTOVER_SECONDS: Final = 86_400.0
"""How long a layer that belongs to no image stays: the rest of its image may still come."""
PARTIAL_SECONDS: Final = 7 * 86_400.0
_LOCK_SECONDS: Final = 10.0


class _Gate:
    """Pulls pass together; throwing away passes alone."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._inside = 0

    @contextlib.asynccontextmanager
    async def together(self) -> AsyncIterator[None]:
        async with self._changed:
            self._inside += 1
        try:
            yield
        finally:
            await asyncio.shield(self._leave())

    async def _leave(self) -> None:
        async with self._changed:
            self._inside -= 1
            self._changed.notify_all()

    @contextlib.asynccontextmanager
    async def alone(self) -> AsyncIterator[bool]:
        """Gives false when somebody is inside; it does not wait for pulls, which may take hours."""
        async with self._changed:
            yield self._inside == 0


class _Pull:
    """One pull under way and those that wait for it; it ends when the last of them lets go."""

    def __init__(self) -> None:
        self.task: asyncio.Task[Image] | None = None
        self.waiting = 0
        self.listeners: list[Progress] = []

    def progress(self, had: int, total: int) -> None:
        for each in self.listeners:
            each(had, total)


class BuiltinImages:
    """Implements `records.ImageStore`."""

    def __init__(self, settings: BuiltinRuntimeSettings, *, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock or LoopClock()
        self.layout = Layout(settings.root_dir / "images")
        self._index = Index(self.layout)
        self.children = Children()
        self._gate = _Gate()
        self._writing = asyncio.Lock()
        self._pulls: dict[tuple[str, tuple[Credential, ...]], _Pull] = {}
        self._held: dict[str, str] = {}
        self._leaving: set[str] = set()
        """Images that are being removed: nobody may begin to use them."""
        self._used: dict[str, float] = {}
        self._used_written: dict[str, float] = {}
        self._imported = asyncio.Event()
        self._is_collection_due = False
        self.imports = Imports(settings.import_dir, self.layout, self._import, self._clock)

    async def start(self) -> None:
        """Raises RuntimeFailed when the store cannot be used, with what to do."""
        try:
            await asyncio.to_thread(self._start)
        except OSError as error:
            raise RuntimeFailed(
                f"the image store in {self.layout.root} cannot be opened: {error.strerror}; check rootDir of builtinRuntime"
            ) from error
        if not await asyncio.to_thread(self.imports.is_waiting):
            self._imported.set()

    async def run(self) -> None:
        """For ever."""
        await self.collect(LEFTOVER_SECONDS)
        housed = self._clock.now()
        while True:
            is_unsettled = await self.imports.look()
            if not is_unsettled:
                self._imported.set()
            await self._clock.sleep(SETTLED_SECONDS if is_unsettled else IMPORT_SECONDS)
            if self._clock.now() - housed >= HOUSE_SECONDS:
                housed = self._clock.now()
                await self._note_use()
                await self.collect(LEFTOVER_SECONDS)

    async def close(self) -> None:
        """End what is under way; what was downloaded stays for the next time."""
        tasks = [each.task for each in self._pulls.values() if each.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._note_use()

    def on_import(self, listener: Callable[[Imported], None]) -> None:
        """Call `listener` for every archive that was imported or could not be; plain, must not block."""
        self.imports.on_import(listener)

    # -- base.runtime.Images -------------------------------------------------------------------------------------------------------

    async def images(self) -> Sequence[Image]:
        return [self._public(each) for each in sorted(self._index.images.values(), key=lambda each: each.sequence)]

    async def image(self, reference: str) -> Image | None:
        found = self._find(reference)
        return self._public(found) if found else None

    async def pull(self, reference: str, credentials: Sequence[Credential] = (), *, progress: Progress | None = None) -> Image:
        """As `Images.pull`; an image that was imported from an archive is as new as it gets and is given at once."""
        name = str(parse(reference))
        with contextlib.suppress(TimeoutError):  # what lies in the folder at the start need not be fetched
            await asyncio.wait_for(self._imported.wait(), FIRST_IMPORT_SECONDS)
        local = self._find(reference)
        if local is not None and local.is_pinned:
            return self._public(local)
        key = (name, tuple(credentials))
        pull = self._pulls.get(key)
        if pull is None:
            pull = self._pulls[key] = _Pull()
            pull.task = asyncio.create_task(self._pull(name, credentials, pull), name=f"pull {name}")
            pull.task.add_done_callback(lambda task: self._ended(key, pull, task))
        assert pull.task is not None
        if progress is not None:
            pull.listeners.append(progress)
        pull.waiting += 1
        try:
            return await asyncio.shield(pull.task)
        finally:
            pull.waiting -= 1
            if progress is not None:
                pull.listeners.remove(progress)
            if pull.waiting == 0 and not pull.task.done():
                self._drop(key, pull)
                pull.task.cancel()

    async def remove(self, image_id: str) -> None:
        """Its layers go with it unless other images have them."""
        async with self._writing:
            image = self._get(image_id)
            users = [container for container, held in self._held.items() if held == image.id]
            if users:
                raise RuntimeFailed(f"the image {image.id} is in use by container {users[0]}; remove that first")
            self._leaving.add(image.id)
            try:
                await whole(asyncio.to_thread(self._index.remove, image.id))
            except OSError as error:
                raise RuntimeFailed(f"the image {image.id} cannot be removed: {error}") from error
            finally:
                self._leaving.discard(image.id)
        self._used.pop(image.id, None)
        logger.info("images.removed image=%s names=%s", image.id, ",".join(image.tags))
        await self.collect(0.0)

    async def disk(self) -> DiskUsage:
        return await asyncio.to_thread(self._disk)

    # -- records.ImageStore --------------------------------------------------------------------------------------------------------

    def config(self, image_id: str) -> ImageConfig:
        return self._get(image_id).config

    def layers(self, image_id: str) -> tuple[Path, ...]:
        return tuple(self.layout.layer(each.name) for each in self._get(image_id).layers)

    def hold(self, image_id: str, container_id: str) -> None:
        self._held[container_id] = image_id
        self._used[image_id] = self._clock.wall()

    def release(self, container_id: str) -> None:
        image = self._held.pop(container_id, None)
        if image is not None:
            self._used[image] = self._clock.wall()

    # ------------------------------------------------------------------------------------------------------------------------------

    def _find(self, reference: str) -> StoredImage | None:
        key = image_id(reference) or self._index.names.get(str(parse(reference)), "")
        return self._index.images.get(key)

    def _get(self, key: str) -> StoredImage:
        found = self._index.images.get(image_id(key))
        if found is None or found.id in self._leaving:
            raise RuntimeFailed(f"there is no image {key} on this node", reason="ImageInspectError")
        return found

    def _public(self, image: StoredImage) -> Image:
        used = self._clock.wall() if image.id in self._held.values() else self._used.get(image.id, 0.0)
        return Image(image.id, image.tags, image.digests, image.size, image.config.user, image.is_pinned, used)

    def _ended(self, key: tuple[str, tuple[Credential, ...]], pull: _Pull, task: asyncio.Task[Image]) -> None:
        self._drop(key, pull)
        if not task.cancelled():
            task.exception()  # those who waited have it; when none is left nobody need know

    def _drop(self, key: tuple[str, tuple[Credential, ...]], pull: _Pull) -> None:
        if self._pulls.get(key) is pull:
            del self._pulls[key]

    async def _pull(self, name: str, credentials: Sequence[Credential], pull: _Pull) -> Image:
        reference = parse(name)
        settings = next((each for each in self._settings.registries if each.host == reference.registry), None)
        registry: dict[str, Any] | None = None
        if settings is not None:
            registry = {**asdict(settings), "ca_file": str(settings.ca_file) if settings.ca_file else None}
        request = {
            "do": "pull",
            "root": str(self.layout.root),
            "reference": name,
            "credentials": [asdict(each) for each in credentials],
            "registry": registry,
            "max_bytes": self._settings.max_image_bytes,
        }
        try:
            async with self._gate.together():
                started = self._clock.now()
                found = await self.children.work(request, pull.progress)
                image = (await self._enter(found))[-1]
        finally:
            if self._is_collection_due:
                await self.collect(0.0)
        logger.info("images.pulled image=%s id=%s seconds=%.1f bytes=%d", name, image.id, self._clock.now() - started, image.size)
        return self._public(image)

    async def _import(self, path: Path, progress: Progress) -> list[StoredImage]:
        request = {"do": "import", "root": str(self.layout.root), "file": str(path), "max_bytes": self._settings.max_image_bytes}
        async with self._gate.together():
            return await self._enter(await self.children.work(request, progress))

    async def _enter(self, found: Sequence[StoredImage]) -> list[StoredImage]:
        if not found:
            raise PullFailed("the process that fetches images brought none")
        async with self._writing:
            try:
                entered = [await asyncio.to_thread(self._index.put, each) for each in found]
            except OSError as error:
                raise PullFailed(f"the image store in {self.layout.root} cannot be written: {error}") from None
        for each in entered:
            self._used[each.id] = self._clock.wall()
        return entered

    # -- blocking, in a thread -----------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self.layout.ensure()
        self._index.load()
        with contextlib.suppress(OSError, ValueError):
            self._used = {str(key): float(value) for key, value in orjson.loads(self.layout.used.read_bytes()).items()}
            self._used_written = dict(self._used)
        if self._alone():
            for path in self.layout.work.iterdir():
                remove(path) if path.is_dir() else path.unlink()
            for path in self.layout.locks.iterdir():
                path.unlink()

    def _alone(self) -> bool:
        """Wait a little for children of an agent that was killed; they end with it."""
        descriptor = os.open(self.layout.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + _LOCK_SECONDS
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        logger.warning("images.busy root=%s: another process works on the image store", self.layout.root)
                        return False
                    time.sleep(0.02)
                else:
                    return True
        finally:
            os.close(descriptor)

    async def _note_use(self) -> None:
        for image in set(self._held.values()):
            self._used[image] = self._clock.wall()
        used = {key: value for key, value in self._used.items() if key in self._index.images}
        if used == self._used_written:
            return
        try:
            await asyncio.to_thread(write_whole, self.layout.used, orjson.dumps(used), is_durable=True)
        except OSError as error:
            logger.warning("images.use.unwritten file=%s reason=%s", self.layout.used, error)
        else:
            self._used_written = used

    async def collect(self, older_than: float) -> None:
        """Throw away layers and documents of no image, and downloads nobody went on with; not while a pull may need them."""
        async with self._gate.alone() as is_alone, self._writing:
            if not is_alone:
                self._is_collection_due |= older_than == 0.0
            else:
                self._is_collection_due = False
                try:
                    await asyncio.to_thread(self._throw_away, older_than)
                except OSError as error:
                    logger.warning("images.collect.failed root=%s reason=%s", self.layout.root, error)

    def _throw_away(self, older_than: float) -> None:
        now = self._clock.wall()
        layers, blobs = self._index.layers(), {self.layout.blob(each).name for each in self._index.blobs()}
        for path in self.layout.layers.iterdir():
            if path.name not in layers and now - path.stat().st_mtime >= older_than:
                gone = self.layout.work / f"{path.name}.gone"
                path.rename(gone)
                remove(gone)
        for path in self.layout.blobs.iterdir():
            if path.name not in blobs and now - path.stat().st_mtime >= older_than:
                path.unlink()
        kept = 0
        partials = sorted(((each.stat(), each) for each in self.layout.partials.iterdir()), key=lambda each: -each[0].st_mtime)
        for status, path in partials:
            kept += status.st_size
            if now - status.st_mtime > PARTIAL_SECONDS or kept > self._settings.max_image_bytes:
                path.unlink()

    def _disk(self) -> DiskUsage:
        try:
            status = os.statvfs(self.layout.root)
        except OSError as error:  # no runtime, no store
            raise RuntimeFailed(f"the disk of the images cannot be asked: {self.layout.root}: {error.strerror}") from error
        return DiskUsage(
            path=self.layout.root,
            used_by_images=sum(each.size for each in self._index.layers().values()),
            capacity=status.f_blocks * status.f_frsize,
            available=status.f_bavail * status.f_frsize,
            inodes=status.f_files,
            inodes_free=status.f_favail,
        )
