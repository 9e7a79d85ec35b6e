"""The edge's one store: desired objects and twins, with the outbox on the same file and in the same group commit."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import orjson

from pinnace.core.base.aio.clock import Clock, LoopClock
from pinnace.core.base.contract.keys import DeviceId, ResourceKey
from pinnace.core.base.observe.health import Health
from pinnace.core.base.ports import ObjectChange, StoredObject
from pinnace.core.meta.database import INVENTORY_TOLD, SCHEMA, Database, Statement
from pinnace.core.meta.outbox import Outbox
from pinnace.core.meta.writer import Writer
from pinnace.ext.metacache import MetaCache

_PUT_OBJECT: Final = "INSERT OR REPLACE INTO objects (kind, namespace, name, version, body) VALUES (?, ?, ?, ?, ?)"
_DELETE_OBJECT: Final = "DELETE FROM objects WHERE kind = ? AND namespace = ? AND name = ?"
_PUT_TWIN: Final = "INSERT OR REPLACE INTO twins (namespace, device, property, body) VALUES (?, ?, ?, ?)"
_DELETE_TWIN: Final = "DELETE FROM twins WHERE namespace = ? AND device = ? AND property = ?"
_DELETE_DEVICE: Final = "DELETE FROM twins WHERE namespace = ? AND device = ?"


class _TwinKey(NamedTuple):
    """Under which a twin's row waits for its group commit; a device's deletion waits under its DeviceId."""

    device: DeviceId
    property: str


class Store:
    """Implements ObjectStore and TwinStore (base/ports.py); `outbox` implements Outbox and Departures. An async context manager.

    Reads never wait: version and labels of every object, and bodies up to `cache_bytes`, are in memory. A body that had to go is read
    back on the loop through a second, read-only connection, which waits for no commit: microseconds from the page cache, and only on
    nodes with more bytes of objects than `cache_bytes`. Writing is all in the writer's thread.

    Facts in `health`: `store.writable` (full, read-only: reads go on with the last stored state, reports wait in memory within their
    bounds, and all recovers by itself), `store.damaged` (a damaged file was set aside and the last good snapshot is in use, or, while
    running, the process must restart: `failed` raises).
    """

    schema_version = SCHEMA

    def __init__(
        self, path: Path, *, health: Health | None = None, cache_bytes: int = 4 << 20, clock: Clock | None = None, on_trial: bool = False
    ) -> None:
        """`on_trial`: the version before may be back at the next start, and is to find a database that it can read."""
        self._health = health or Health()
        self._database = Database(path, on_trial=on_trial)
        self._writer = Writer(self._database, clock=clock or LoopClock(), health=self._health)
        self._cache = MetaCache(cache_bytes)
        self.outbox = Outbox(self._writer)
        self._writing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Open, check, migrate, load. Raises StoreError when not even reading is possible."""
        try:
            unwritable = await self._writer.call(self._open)
        except BaseException:
            await self._writer.shut()
            raise
        self._writer.state_unwritable(unwritable)
        await self._writer.look()
        self._writing = asyncio.create_task(self._writer.run(), name="store")
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Write what waits, and close."""
        assert self._writing is not None
        self._writer.close()
        await asyncio.wait([self._writing])
        await self._writer.shut()
        if not self._writing.cancelled():
            self._writing.exception()  # told by `failed` to whoever asked

    async def failed(self) -> None:
        """Wait while all is well. Raises StoreDamaged when the file is found damaged while running: end the process and start again."""
        assert self._writing is not None
        await asyncio.shield(self._writing)

    def _open(self) -> str:
        """In the writer's thread; the loop touches neither cache nor outbox before this returned."""
        unwritable = self._database.open()
        for kind, namespace, name, version, body in self._database.rows("SELECT kind, namespace, name, version, body FROM objects"):
            self._cache.put((kind, namespace, name), version, body, labels_of(body))
        for seq, name, subject, item, body in self._database.rows("SELECT seq, class, subject, item, body FROM outbox ORDER BY seq"):
            self.outbox.restore(seq, name, subject, item, body)
        return unwritable

    def get(self, key: ResourceKey) -> StoredObject | None:
        """The object, or None. Raises StoreError when its body had to be read back and cannot be."""
        found = self._cache.get(key)
        if found is None:
            return None
        version, body = found
        return StoredObject(key, version, body) if body is not None else self._read_back(key)

    def list(self, kind: str, namespace: str = "", labels: Mapping[str, str] | None = None) -> list[StoredObject]:
        """All objects of a kind, in key order; namespace "" means every namespace."""
        found: list[StoredObject] = []
        for space, name, version, body in self._cache.list_by_label(kind, namespace, labels or {}):
            key = ResourceKey(kind, space, name)
            each = StoredObject(key, version, body) if body is not None else self._read_back(key)
            if each is not None:
                found.append(each)
        return found

    def _read_back(self, key: ResourceKey) -> StoredObject | None:
        """The cache follows the commit, so the file may be a moment ahead of it; what it has is then the newer truth."""
        rows = self._database.read("SELECT version, body FROM objects WHERE kind = ? AND namespace = ? AND name = ?", tuple(key))
        if not rows:
            return None
        version, body = rows[0]
        self._cache.restore(key, version, body)
        return StoredObject(key, version, body)

    def usage(self) -> dict[str, Any]:
        """What is in memory: the cache (bytes of bodies against its bound, and by kind), rows that wait for the disk, the outbox."""
        kinds = {}
        for kind in self._cache.kinds():
            bodies = [body for *_, body in self._cache.list(kind)]
            kinds[kind] = {"objects": len(bodies), "bytes": sum(len(body) for body in bodies if body is not None)}
        cache = {"objects": len(self._cache), "bytes": self._cache.bytes_used, "limit_bytes": self._cache.max_bytes, "kinds": kinds}
        return {"cache": cache, "rows_waiting": len(self._writer.waiting()), "outbox": self.outbox.usage()}

    def cached(self, key: ResourceKey) -> int:
        """Bytes of an object's body in memory; 0 when there is none."""
        found = self._cache.get(key)
        return len(found[1]) if found is not None and found[1] is not None else 0

    @property
    def inventory_due(self) -> bool:
        """Whether the cloud is to be told what is stored: the file is new, or from a snapshot, and older than the cloud believes."""
        return self._database.inventory_due

    def inventory(self) -> Sequence[StoredObject]:
        """Every object there is."""
        return [each for kind in self._cache.kinds() for each in self.list(kind)]

    async def inventory_told(self) -> None:
        """The cloud knows now what is stored. Raises StoreError; then it is told again after the next start."""
        self._database.inventory_due = False
        await self._writer.commit([INVENTORY_TOLD], lambda: None)

    async def apply(self, changes: Sequence[ObjectChange]) -> None:
        """Commit in one transaction. Raises StoreFull or StoreError; then nothing of it was applied."""
        statements: list[Statement] = []
        for change in changes:
            if change.operation == "delete":
                statements.append((_DELETE_OBJECT, tuple(change.key)))
            else:
                statements.append((_PUT_OBJECT, (*change.key, change.version, change.body)))
        if statements:
            await self._writer.commit(statements, lambda: self._follow(changes))

    def _follow(self, changes: Sequence[ObjectChange]) -> None:
        for change in changes:
            if change.operation == "delete":
                self._cache.delete(change.key)
            else:
                self._cache.put(change.key, change.version, change.body, labels_of(change.body))

    async def load_twins(self) -> dict[DeviceId, dict[str, bytes]]:
        """Every row of every device, those that still wait for their group commit included."""
        found = await self._writer.call(self._load_twins)
        for key, (_, parameters) in self._writer.waiting().items():
            if isinstance(key, DeviceId):
                found.pop(key, None)
            elif isinstance(key, _TwinKey):
                rows = found.setdefault(key.device, {})
                if len(parameters) == 4:
                    rows[key.property] = parameters[3]
                else:
                    rows.pop(key.property, None)
        return {device: rows for device, rows in found.items() if rows}

    def _load_twins(self) -> dict[DeviceId, dict[str, bytes]]:
        found: dict[DeviceId, dict[str, bytes]] = {}
        for namespace, device, name, body in self._database.rows("SELECT namespace, device, property, body FROM twins"):
            found.setdefault(DeviceId(namespace, device), {})[name] = body
        return found

    async def save_twins(self, device: DeviceId, rows: Mapping[str, bytes | None], *, durable: bool) -> None:
        """Write rows (None deletes); with `durable` they are on disk when it returns. When it raises StoreError they are not yet; they
        are kept and tried again like every row, so that none overtakes another."""
        for name, body in rows.items():
            if body is None:
                self._writer.put(_TwinKey(device, name), (_DELETE_TWIN, (*device, name)))
            else:
                self._writer.put(_TwinKey(device, name), (_PUT_TWIN, (*device, name, body)))
        if durable:
            await self._writer.committed()

    async def delete_device(self, device: DeviceId) -> None:
        """Delete all rows of a device; durable when it returns."""
        self._writer.put(device, (_DELETE_DEVICE, tuple(device)))
        await self._writer.committed()

    async def committed(self) -> None:
        """Return when every row given so far, the outbox's too, is on disk. Hurries the group commit. Raises StoreError when the disk
        refuses; the rows stay in memory and are tried again."""
        await self._writer.committed()


def labels_of(body: bytes) -> dict[str, str] | None:
    """metadata.labels of an object's JSON text; None when there are none."""
    try:
        metadata: Any = orjson.loads(body)["metadata"]
        labels = metadata.get("labels")
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return None
    if not isinstance(labels, dict):
        return None
    return {key: value for key, value in labels.items() if isinstance(value, str)}
