"""The rows in memory: what readers see (committed), what writers build on (the head), the recent history, and who watches."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import orjson

from pinnace.cloud.standalone.status import ApiError
from pinnace.cloud.standalone.store import Put, Store
from pinnace.core.base.errors import StoreError

logger = logging.getLogger(__name__)

HISTORY_CHANGES = 4096
HISTORY_BYTES = 16 << 20

Object = dict[str, Any]


class Item:
    """One stored object: its JSON with `apiVersion` and `kind` first, and what selectors ask for most."""

    __slots__ = ("api_version", "body", "labels", "name", "namespace", "prefix", "uid", "version")

    def __init__(self, namespace: str, name: str, version: int, obj: Object, body: bytes) -> None:
        metadata = obj["metadata"]
        self.namespace = namespace
        self.name = name
        self.version = version
        self.body = body
        self.uid: str = metadata["uid"]
        self.labels: dict[str, str] = metadata.get("labels") or {}
        self.api_version: str = obj["apiVersion"]
        self.prefix = body.index(b',"metadata":') + 1 if b',"metadata":' in body[:512] else 1

    def decode(self) -> Object:
        """A fresh copy the caller may change."""
        decoded: Object = orjson.loads(self.body)
        return decoded

    def without_type(self) -> bytes:
        """The JSON without `apiVersion` and `kind`, as items of built-in lists are."""
        return b"{" + self.body[self.prefix :]


class Change:
    """One step of history. `item` is the new state; for DELETED the last state with its version. `previous` is None for ADDED."""

    __slots__ = ("item", "previous", "type", "version")

    def __init__(self, kind: str, version: int, item: Item, previous: Item | None) -> None:
        self.type = kind
        self.version = version
        self.item = item
        self.previous = previous


Listener = Callable[[Change], None]
Namespaced = dict[str, dict[str, Item]]


class Table:
    """All objects of one resource."""

    __slots__ = ("floor", "head", "history", "history_bytes", "listeners", "resource", "rows")

    def __init__(self, resource: str, floor: int) -> None:
        self.resource = resource
        self.rows: Namespaced = {}
        self.head: dict[tuple[str, str], Item | None] = {}
        self.history: deque[Change] = deque()
        self.history_bytes = 0
        self.floor = floor
        self.listeners: dict[int, Listener] = {}

    def get(self, namespace: str, name: str) -> Item | None:
        row = self.rows.get(namespace)
        return row.get(name) if row is not None else None

    def latest(self, namespace: str, name: str) -> Item | None:
        """The newest state, committed or not: what a write must build on."""
        key = (namespace, name)
        if key in self.head:
            return self.head[key]
        return self.get(namespace, name)

    def items(self, namespace: str | None) -> Iterator[Item]:
        """Committed objects in order of namespace and name; None means all namespaces."""
        for each in sorted(self.rows) if namespace is None else [namespace]:
            row = self.rows.get(each)
            if row:
                yield from (row[name] for name in sorted(row))

    def count(self) -> int:
        return sum(map(len, self.rows.values()))

    def at(self, version: int) -> Namespaced:
        """The rows as they were at `version`, which must not be below `floor`."""
        rows = {namespace: dict(row) for namespace, row in self.rows.items()}
        for change in reversed(self.history):
            if change.version <= version:
                break
            row = rows.setdefault(change.item.namespace, {})
            if change.previous is None:
                row.pop(change.item.name, None)
            else:
                row[change.item.name] = change.previous
        return rows

    def since(self, version: int) -> list[Change]:
        """Changes after `version`, oldest first; `version` must not be below `floor`."""
        found: list[Change] = []
        for change in reversed(self.history):
            if change.version <= version:
                break
            found.append(change)
        found.reverse()
        return found

    def remember(self, change: Change) -> None:
        self.history.append(change)
        self.history_bytes += len(change.item.body)
        while len(self.history) > HISTORY_CHANGES or self.history_bytes > HISTORY_BYTES:
            oldest = self.history.popleft()
            self.history_bytes -= len(oldest.item.body)
            self.floor = oldest.version

    def publish(self, change: Change) -> None:
        namespace, name = change.item.namespace, change.item.name
        if change.type == "DELETED":
            row = self.rows[namespace]
            row.pop(name, None)
            if not row:
                del self.rows[namespace]
        else:
            self.rows.setdefault(namespace, {})[name] = change.item
        if self.head.get((namespace, name)) is change.item or (change.type == "DELETED" and self.head.get((namespace, name), 0) is None):
            del self.head[(namespace, name)]
        self.remember(change)
        for listener in list(self.listeners.values()):
            listener(change)


def encode(obj: Object) -> bytes:
    """JSON with `apiVersion`, `kind` and `metadata` first; the order of the rest is kept."""
    ordered = {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": obj["metadata"]}
    ordered.update(obj)
    return orjson.dumps(ordered)


class State:
    """Every table, one version counter. For one event loop; reading never waits, writing waits for the disk."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._loop = asyncio.get_running_loop()
        last, rows = store.load()
        self.version = last
        self._given = last
        self._start = last
        self._tables: dict[str, Table] = {}
        self._waiting: deque[tuple[Table, Change, asyncio.Future[None]]] = deque()
        self._next_listener = 0
        self._everywhere: list[Callable[[Table, Change], None]] = []
        for row in rows:
            obj = orjson.loads(row.body)
            self.table(row.resource).rows.setdefault(row.namespace, {})[row.name] = Item(
                row.namespace, row.name, row.version, obj, row.body
            )
        self._is_failing = False
        store.start(self._committed)

    def table(self, resource: str) -> Table:
        table = self._tables.get(resource)
        if table is None:
            table = self._tables[resource] = Table(resource, self._start)
        return table

    def tables(self) -> Iterable[Table]:
        return list(self._tables.values())

    def subscribe(self, table: Table, listener: Listener) -> Callable[[], None]:
        """Call `listener` with every change as it is committed; the returned function ends it."""
        self._next_listener += 1
        number = self._next_listener
        table.listeners[number] = listener
        return lambda: table.listeners.pop(number, None) and None

    def subscribe_all(self, listener: Callable[[Table, Change], None]) -> None:
        """Call `listener` with every change of every resource, for as long as the server runs."""
        self._everywhere.append(listener)

    def put(self, table: Table, obj: Object, *, namespace: str, name: str) -> tuple[Item, asyncio.Future[None]]:
        """Give the object its resource version and send it to the disk. Await the future before answering."""
        self._refuse_while_failing()
        self._given += 1
        obj["metadata"]["resourceVersion"] = str(self._given)
        item = Item(namespace, name, self._given, obj, encode(obj))
        previous = table.latest(namespace, name)
        change = Change("ADDED" if previous is None else "MODIFIED", self._given, item, previous)
        table.head[(namespace, name)] = item
        return item, self._submit(table, change, Put(table.resource, namespace, name, self._given, item.body))

    def remove(self, table: Table, last: Object, *, namespace: str, name: str) -> tuple[Item, asyncio.Future[None]]:
        """Delete; `last` is the state watchers see, and gets the deletion's resource version."""
        self._refuse_while_failing()
        self._given += 1
        last["metadata"]["resourceVersion"] = str(self._given)
        item = Item(namespace, name, self._given, last, encode(last))
        change = Change("DELETED", self._given, item, table.latest(namespace, name))
        table.head[(namespace, name)] = None
        return item, self._submit(table, change, Put(table.resource, namespace, name, self._given, None))

    async def settled(self) -> None:
        """Wait until everything written so far is on disk and visible to readers."""
        if self._waiting:
            await asyncio.shield(self._waiting[-1][2])

    def _submit(self, table: Table, change: Change, put: Put) -> asyncio.Future[None]:
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append((table, change, future))
        self._store.submit(put)
        return future

    def _refuse_while_failing(self) -> None:
        if self._is_failing:
            raise not_stored("the write before it failed")

    def _committed(self, count: int, failure: StoreError | None) -> None:
        """In the writer thread: the oldest `count` waiting writes are on disk, or failed."""
        try:
            self._loop.call_soon_threadsafe(self._publish, count, failure)
        except RuntimeError:
            logger.info("api.state.closed: a write finished after the server stopped")

    def _publish(self, count: int, failure: StoreError | None) -> None:
        for _ in range(count):
            table, change, future = self._waiting.popleft()
            if failure is None:
                self.version = change.version
                table.publish(change)
                for everywhere in self._everywhere:
                    try:
                        everywhere(table, change)
                    except Exception:  # a listener's fault must not cost the writes that follow
                        logger.exception("api.state.listener_failed resource=%s", table.resource)
                if not future.done():
                    future.set_result(None)
            elif not future.done():
                future.set_exception(not_stored(str(failure)))
                future.exception()
        if failure is not None:
            self._is_failing = bool(self._waiting)
            if not self._waiting:
                for table in self._tables.values():
                    table.head.clear()
                self._store.recover()


def not_stored(why: str) -> ApiError:
    return ApiError(500, f"the write was not stored: {why}", reason="InternalError")
