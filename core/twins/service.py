"""The node's devices: who they are, what the cloud wants of them, what they report, and who is told of it.

Desired values come from Device objects (`changed`, after they are durable), from upstream's membership and `cloud_updated` messages
(`handle`), and from clients on MQTT (`message`), where reports and states come from too. The rules of a twin are in
`pinnace.ext.twindiff`. What the cloud wants is on disk before a client hears of it; what a device reports is told at once and joins the
next group commit together with its report to the cloud.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from pinnace.core.base.contract.envelopes import Envelope, Group, Operation, Source, load_body, new, new_id, now_ms
from pinnace.core.base.contract.keys import DeviceId, NodeName, ResourceKey, parse_resource
from pinnace.core.base.contract.topics import device_path, parse_device_path
from pinnace.core.base.errors import StoreError
from pinnace.core.base.ports import Bus, ObjectChange, ObjectStore, Outbox, TwinStore, Uplink
from pinnace.core.twins.clients import Clients
from pinnace.core.twins.desired import Member, members_of, model_name, wanted_of
from pinnace.core.twins.device import DEVICE_ROW, Device
from pinnace.core.twins.inbox import Inbox, Receipts
from pinnace.core.twins.publisher import Publisher
from pinnace.core.twins.reports import Reports
from pinnace.core.twins.roster import Roster
from pinnace.ext.errors import TwinError

logger = logging.getLogger(__name__)

_DEVICE: Final = "device"
_MODEL: Final = "devicemodel"
_BREATH: Final = 64
"""Messages of clients that are dealt with before others on the loop get their turn."""


class TwinService:
    """`start` before anything else, then `run` for ever. For one event loop."""

    def __init__(self, node: NodeName, *, store: TwinStore, objects: ObjectStore, outbox: Outbox, uplink: Uplink, bus: Bus) -> None:
        self._node = node
        self._store = store
        self._objects = objects
        self._uplink = uplink
        self._roster = Roster()
        self._inbox = Inbox(bus.redeliver)
        self._receipts = Receipts(store.committed)
        self._publisher = Publisher(node, bus, self._roster)
        self._reports = Reports(outbox, uplink, self._current_report)
        self._clients = Clients(self._roster, self._publisher, self._reports, self._save_soon)

    async def start(self) -> None:
        """Load what is stored, take up with the outbox and the link, and want what the stored Device objects want."""
        for identity, rows in (await self._store.load_twins()).items():
            device, failed = Device.load(identity, rows)
            for name, reason in failed.items():
                logger.warning("twins.unreadable device=%s property=%s: %s", device.path, name, reason)
            self._roster.add(device)
        self._reports.start()
        self._uplink.on_connected(self._connected)
        for stored in self._objects.list(_DEVICE):
            try:
                await self._apply_object(stored.key, stored.version, stored.body)
            except StoreError as error:
                logger.warning("twins.not-stored device=%s/%s: %s", stored.key.namespace, stored.key.name, error)
        logger.info("twins.started devices=%d", len(self._roster))

    # --- Clients ---

    def message(self, topic: str, payload: bytes, acknowledge: Callable[[], None] | None) -> None:
        """Take a client's message; the worker looks at them in order. `acknowledge` is called when what it led to is on disk."""
        self._inbox.put(topic, payload, acknowledge)

    def bus_connected(self) -> None:
        """A broker is there (again): tell the clients what is wanted and not yet reported."""
        now = now_ms()
        for device in self._roster:
            if not device.lock.locked():
                self._publisher.delta(device, now, device.twins.delta())

    async def run(self) -> None:
        """Look at what clients send, for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._receipts.run())
            while True:
                await self._inbox.wait()
                for _ in range(_BREATH):
                    arrival = self._inbox.take()
                    if arrival is None:
                        break
                    try:
                        await self._clients.take(arrival.topic, arrival.payload)
                    except Exception:
                        logger.exception("twins.failed topic=%s", arrival.topic)
                    if arrival.acknowledge is not None:
                        self._receipts.add(arrival.acknowledge)
                await asyncio.sleep(0)

    async def _save_soon(self, device: Device, rows: Mapping[str, bytes]) -> None:
        """Rows for the next group commit; what waits in vain to become durable is this from now on."""
        for name in device.unsaved.keys() & rows.keys():
            device.unsaved[name] = rows[name]
        await self._store.save_twins(device.id, rows, durable=False)

    def entries(self) -> list[bytes]:
        """Each device of this node as membership tells it (JSON), twins included."""
        return [device.entry(with_twins=True) for device in self._roster]

    def usage(self) -> dict[str, Any]:
        """What is in memory: messages of clients that wait, and each device (bytes of its twins as membership tells them)."""
        devices = [
            {"name": device.path, "twins": len(device.twins), "bytes": len(device.entry(with_twins=True)), "unsaved": len(device.unsaved)}
            for device in self._roster
        ]
        return {"inbox": {"messages": len(self._inbox), "dropped": self._inbox.dropped}, "devices": devices}

    def _current_report(self, path: str, name: str) -> bytes:
        device = self._roster.get(parse_device_path(path))
        return b"" if device is None else device.twins.report(name)

    # --- The cloud ---

    async def _connected(self) -> None:
        """Ask who belongs to the node; the answer, which only a cloud of ours gives, is a `membership/detail` of its own."""
        content = {
            "event_type": "group_membership_event", "event_id": new_id(), "group_id": self._node, "operation": "detail",
            "timestamp": now_ms(),
        }  # fmt: skip
        question = new(Source.TWIN, Group.RESOURCE, Operation.GET, "membership/detail", orjson.dumps(content).decode())
        self._uplink.post(question)

    async def handle(self, envelope: Envelope) -> list[Envelope] | None:
        """A message of group `twin`; none of them is acknowledged."""
        key = parse_resource(envelope.resource)
        if envelope.parent_id and key.kind != "membership/detail":
            return None
        try:
            content = load_body(envelope)
            if not isinstance(content, dict):
                raise TwinError("its content is no object")
            event = str(content.get("event_id") or "")
            if key.kind == "membership":
                await self._membership(content, event)
            elif key.kind == "membership/detail":
                await self._membership_detail(content, event)
            elif key.kind == "twin/cloud_updated":
                await self._cloud_updated(DeviceId(key.namespace, key.name), content)
            else:
                logger.debug("twins.ignored resource=%s operation=%s", envelope.resource, envelope.operation)
        except (ValueError, StoreError) as error:
            logger.warning("twins.refused resource=%s: %s", envelope.resource, error)
        return None

    async def _membership(self, content: Mapping[str, Any], event: str) -> None:
        for member in _members(content.get("added_devices"), event):
            await self._join(member)
        for member in _members(content.get("removed_devices"), event):
            await self._leave(member.id)

    async def _membership_detail(self, content: Mapping[str, Any], event: str) -> None:
        members = _members(content.get("devices"), event)
        for member in members:
            await self._join(member)
        for identity in {device.id for device in self._roster} - {member.id for member in members}:
            await self._leave(identity)

    async def _join(self, member: Member) -> None:
        device = self._roster.get(member.id)
        if device is None:
            await self._add(Device(member.id, description=member.description), member.payload)
        elif member.payload:
            await self._want(device, member.payload)

    async def _leave(self, identity: DeviceId) -> None:
        """A membership message lets a device go, unless its Device object says that it is still here."""
        if self._roster.get(identity) is not None and self._objects.get(_object_key(identity)) is None:
            await self._remove(identity)

    async def _cloud_updated(self, identity: DeviceId, content: Mapping[str, Any]) -> None:
        device = self._roster.find(identity)
        if device is None:
            raise ValueError(f"the node has no device {device_path(identity)}")
        await self._want(device, orjson.dumps(content))

    async def changed(self, change: ObjectChange) -> None:
        """A Device or DeviceModel object is durable. Raises StoreError when what it wants cannot be stored."""
        if change.key.kind == _MODEL:
            for stored in self._objects.list(_DEVICE, change.key.namespace):
                if model_name(_object(stored.body)) == change.key.name:
                    await self._apply_object(stored.key, stored.version, stored.body)
        elif change.operation == Operation.DELETE:
            await self._remove(DeviceId(change.key.namespace, change.key.name))
        else:
            await self._apply_object(change.key, change.version, change.body)

    async def _apply_object(self, key: ResourceKey, version: str, body: bytes) -> None:
        values = _object(body)
        if not values:
            logger.warning("twins.bad-object device=%s/%s: its content is no object", key.namespace, key.name)
            return
        named = model_name(values)
        model = self._objects.get(ResourceKey(_MODEL, key.namespace, named)) if named else None
        wanted = wanted_of(values, _object(model.body) if model is not None else None, version=version)
        identity = DeviceId(key.namespace, key.name)
        device = self._roster.get(identity)
        if device is not None and device.uid and wanted.uid and device.uid != wanted.uid:
            await self._remove(identity)
            device = None
        if device is None:
            await self._add(Device(identity, description=wanted.description, uid=wanted.uid), wanted.payload, wanted.version)
            return
        if (device.uid, device.description) != (wanted.uid, wanted.description):
            device.uid, device.description = wanted.uid, wanted.description
            device.unsaved[DEVICE_ROW] = device.row()
        try:
            await self._want(device, wanted.payload, wanted.version, is_whole=True)
        except TwinError as error:
            logger.warning("twins.refused device=%s: %s", device.path, error)

    # --- Membership and desired values, durable before they are told ---

    async def _add(self, device: Device, payload: bytes, version: int | None = None) -> None:
        device.unsaved[DEVICE_ROW] = device.row()
        self._roster.add(device)
        try:
            await self._want(device, payload or b'{"twin":{}}', version if version is not None else -1, is_whole=version is not None)
        except TwinError as error:
            logger.warning("twins.refused device=%s: %s", device.path, error)
        self._publisher.membership(now_ms(), added=device)
        logger.info("twins.joined device=%s properties=%d", device.path, len(device.twins))

    async def _want(self, device: Device, payload: bytes, version: int = -1, *, is_whole: bool = False) -> None:
        """Take desired values of the cloud. Raises TwinError when they cannot be read, StoreError when they cannot be stored; stored
        with the next ones, then."""
        async with device.lock:
            if is_whole and version < 0:
                version = device.twins.version()
            now = now_ms()
            outcome = device.twins.apply_desired(payload, now, version)
            if outcome.refused:
                names = ",".join([name for name, _ in outcome.refused])
                logger.warning("twins.refused device=%s properties=%s: %s", device.path, names, outcome.refused[0][1])
            was_late = bool(device.unsaved)
            rows = device.unsaved | outcome.rows
            if rows:
                device.unsaved = rows
                await self._store.save_twins(device.id, rows, durable=True)
                device.unsaved = {}
            if self._roster.get(device.id) is not device:
                return
            if outcome.document:
                self._publisher.document(device, outcome.event_id, now, outcome.document)
            if outcome.document or was_late:
                self._publisher.delta(device, now, device.twins.delta())

    async def _remove(self, identity: DeviceId) -> None:
        device = self._roster.get(identity)
        if device is None:
            await self._store.delete_device(identity)
            return
        async with device.lock:
            self._reports.forget(device.path)
            await self._store.delete_device(identity)
            self._publisher.membership(now_ms(), removed=device)
            self._roster.remove(identity)
        logger.info("twins.left device=%s", device.path)


def _members(entries: Any, event: str) -> list[Member]:
    found, refused = members_of(entries, event)
    for reason in refused:
        logger.warning("twins.refused resource=membership: %s", reason)
    return found


def _object_key(identity: DeviceId) -> ResourceKey:
    return ResourceKey(_DEVICE, identity.namespace, identity.name)


def _object(body: bytes) -> dict[str, Any]:
    """An object's JSON text, {} when it is none."""
    try:
        values = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return values if isinstance(values, dict) else {}
