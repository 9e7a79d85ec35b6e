"""The edge's ports in memory (base/ports.py): stores, outbox, link and bus, which fail and forget when a test tells them to."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

from pinnace.core.base.contract.classes import MessageClass
from pinnace.core.base.contract.keys import DeviceId, ResourceKey
from pinnace.core.base.errors import LinkError, StoreError, StoreFull
from pinnace.core.base.ports import Composer, ObjectChange, StoredObject
from pinnace.ext.records import Envelope


class FakeTwinStore:
    """Implements TwinStore. What is on disk is in `disk`, what waits for the group commit in `waiting`: `commit` and `committed` write
    it, `crash` forgets it. `broken` makes writing fail."""

    def __init__(self) -> None:
        self.disk: dict[DeviceId, dict[str, bytes]] = {}
        self.waiting: list[tuple[DeviceId, dict[str, bytes | None]]] = []
        self.broken = False
        self.writes: list[tuple[DeviceId, tuple[str, ...], bool]] = []
        """(device, properties, durable) of each call."""
        self.on_commit: list[Callable[[], None]] = []
        self.on_crash: list[Callable[[], None]] = []

    async def load_twins(self) -> dict[DeviceId, dict[str, bytes]]:
        return {device: dict(rows) for device, rows in self.disk.items()}

    async def save_twins(self, device: DeviceId, rows: Mapping[str, bytes | None], *, durable: bool) -> None:
        self.writes.append((device, tuple(rows), durable))
        self.waiting.append((device, dict(rows)))
        if durable:
            if self.broken:
                self.waiting.pop()
                raise StoreFull("the disk is full")
            self.commit()

    async def delete_device(self, device: DeviceId) -> None:
        if self.broken:
            raise StoreFull("the disk is full")
        self.waiting = [each for each in self.waiting if each[0] != device]
        self.disk.pop(device, None)

    async def committed(self) -> None:
        if self.broken:
            raise StoreError("the disk is full")
        self.commit()

    def commit(self) -> None:
        for device, rows in self.waiting:
            kept = self.disk.setdefault(device, {})
            for name, row in rows.items():
                if row is None:
                    kept.pop(name, None)
                else:
                    kept[name] = row
        self.waiting = []
        for listener in self.on_commit:
            listener()

    def crash(self) -> None:
        """The power goes: what was not committed is lost."""
        self.waiting = []
        for listener in self.on_crash:
            listener()


class FakeObjects:
    """Implements ObjectStore."""

    def __init__(self) -> None:
        self.stored: dict[ResourceKey, StoredObject] = {}

    def get(self, key: ResourceKey) -> StoredObject | None:
        return self.stored.get(key)

    def list(self, kind: str, namespace: str = "", labels: Mapping[str, str] | None = None) -> list[StoredObject]:
        assert not labels
        return [each for key, each in sorted(self.stored.items()) if key.kind == kind and namespace in ("", key.namespace)]

    async def apply(self, changes: Sequence[ObjectChange]) -> None:
        for change in changes:
            if change.operation == "delete":
                self.stored.pop(change.key, None)
            else:
                self.stored[change.key] = StoredObject(change.key, change.version, change.body)


class FakeOutbox:
    """Implements Outbox for classes that keep the newest. With a store, rows are on disk when the store commits.

    `send` composes what waits, as the link would; `confirm` is the cloud's answer to such an envelope.
    """

    def __init__(self, store: FakeTwinStore | None = None) -> None:
        self.waiting: dict[tuple[str, str], dict[str, bytes]] = {}
        self.disk: dict[tuple[str, str], dict[str, bytes]] = {}
        self.puts: list[tuple[str, str, str, bytes]] = []
        self.full = False
        self._composers: dict[str, Composer] = {}
        self._listeners: dict[str, list[Callable[[str, Collection[str]], None]]] = {}
        self._flights: dict[str, tuple[str, str, dict[str, bytes]]] = {}
        if store is not None:
            store.on_commit.append(self.commit)
            store.on_crash.append(self.crash)

    def put(self, kind: MessageClass, subject: str, item: str, body: bytes) -> None:
        assert kind.name in self._composers, "the composer comes first"
        rows = self.waiting.get((kind.name, subject), {})
        if self.full and item not in rows:
            raise StoreFull("the outbox is full")
        self.puts.append((kind.name, subject, item, body))
        self.waiting.setdefault((kind.name, subject), {})[item] = body

    def discard(self, kind: MessageClass, subject: str) -> None:
        self.waiting.pop((kind.name, subject), None)

    def compose_with(self, kind: MessageClass, composer: Composer) -> None:
        self._composers[kind.name] = composer

    def on_confirmed(self, kind: MessageClass, listener: Callable[[str, Collection[str]], None]) -> None:
        self._listeners.setdefault(kind.name, []).append(listener)

    def restarted(self, store: FakeTwinStore | None = None) -> FakeOutbox:
        """The outbox of the next run, with what is on disk."""
        after = FakeOutbox(store)
        after.waiting = {key: dict(rows) for key, rows in self.disk.items()}
        after.disk = {key: dict(rows) for key, rows in self.disk.items()}
        return after

    def commit(self) -> None:
        self.disk = {key: dict(rows) for key, rows in self.waiting.items()}

    def crash(self) -> None:
        self.waiting = {key: dict(rows) for key, rows in self.disk.items()}

    def send(self) -> list[Envelope]:
        """An envelope a subject; they stay until confirmed."""
        sent = []
        for (kind, subject), rows in self.waiting.items():
            envelope = self._composers[kind](subject, rows)
            self._flights[envelope.msg_id] = (kind, subject, dict(rows))
            sent.append(envelope)
        return sent

    def confirm(self, envelope: Envelope) -> None:
        kind, subject, carried = self._flights.pop(envelope.msg_id)
        rows = self.waiting.get((kind, subject), {})
        for item, body in carried.items():
            if rows.get(item) == body:
                del rows[item]
        if not rows:
            self.waiting.pop((kind, subject), None)
        for listener in self._listeners.get(kind, ()):
            listener(subject, list(carried))


class FakeUplink:
    """Implements Uplink; `posted` is what was sent without waiting. `answers` gives the reply to a request by its resource."""

    def __init__(self, *, peer_wire: int = 1) -> None:
        self.connected = False
        self.peer_wire = peer_wire
        self.posted: list[Envelope] = []
        self.requests: list[Envelope] = []
        self.answers: dict[str, Envelope] = {}
        self._listeners: list[Callable[[], Awaitable[None]]] = []

    async def request(self, envelope: Envelope, *, timeout_seconds: float = 60.0) -> Envelope:
        if not self.connected:
            raise LinkError("the cloud cannot be reached")
        self.requests.append(envelope)
        return self.answers[envelope.resource]

    def post(self, envelope: Envelope) -> None:
        if self.connected:
            self.posted.append(envelope)

    def on_connected(self, listener: Callable[[], Awaitable[None]]) -> None:
        self._listeners.append(listener)

    async def connect(self) -> None:
        self.connected = True
        for listener in self._listeners:
            await listener()


class FakeBus:
    """Implements Bus; `published` is everything in order."""

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes]] = []
        self.redeliveries = 0

    def redeliver(self) -> None:
        self.redeliveries += 1

    def publish(self, topic: str, payload: bytes) -> None:
        self.published.append((topic, payload))

    def take(self) -> list[tuple[str, Any]]:
        """(topic, JSON value) of everything published since the last call."""
        found = [(topic, json.loads(payload)) for topic, payload in self.published]
        self.published = []
        return found

    def on(self, topic: str) -> list[Any]:
        """The JSON values published on a topic, oldest first."""
        return [json.loads(payload) for each, payload in self.published if each == topic]
