"""What every node should know, and what it is known to have stored: the difference is sent, and nothing else.

What a node stored is kept in the API as KubeEdge keeps it, one ObjectSync (ClusterObjectSync for cluster-scoped objects) per node and
object, named `<node>.<uid>`, with the object's resource version in its status; beside it stands `objectDigest`, a digest of what was sent,
so that a change that does not concern the node (a device's status, a node's heartbeat) is not sent again. The sync object is made before
the first send, so that an object deleted meanwhile is always known to be on the node (docs/protocol.md, reliable delivery).
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field, replace
from typing import Final

import orjson

from pinnace.cloud.controllers.answers import ok_answer
from pinnace.cloud.controllers.inventory import BOUND, parse_inventory
from pinnace.cloud.controllers.items import (
    Item,
    ItemSource,
    Known,
    content_digest,
    deletion_of,
    downlink_of,
    is_behind,
    parse_sync,
    withdrawal_of,
)
from pinnace.cloud.kube.resources import CLUSTER_OBJECT_SYNCS, DEVICE_MODELS, DEVICES, OBJECT_SYNCS
from pinnace.cloud.ports import Downlink, KubeApi, NodeHub, Object
from pinnace.cloud.watch import Change, KeyWorkers, ObjectCache
from pinnace.core.base.contract.envelopes import Group, Operation, Source, load_body
from pinnace.core.base.contract.keys import NodeName
from pinnace.core.base.errors import RemoteError
from pinnace.ext.records import Envelope

logger = logging.getLogger(__name__)

_API_VERSIONS: Final = {each.kind: each.api_version for each in (DEVICES, DEVICE_MODELS)}

INTERVAL_SECONDS = 5.0
"""How often every connected node is compared, should an event have been missed."""


@dataclass(slots=True)
class _Node:
    """One node: what it has, and what was handed to the hub since it connected (uid → digest, "" for a deletion)."""

    known: dict[str, Known] = field(default_factory=dict)
    sent: dict[str, str] = field(default_factory=dict)


class SyncController:
    """Compares and sends. `offer` is the direct way for one changed object; `touch` compares a whole node."""

    def __init__(self, api: KubeApi, hub: NodeHub, *, object_syncs: ObjectCache, cluster_syncs: ObjectCache, nodes: ObjectCache) -> None:
        self._api = api
        self._hub = hub
        self._caches = (object_syncs, cluster_syncs)
        self._nodes_cache = nodes
        self._sources: list[ItemSource] = []
        self._nodes: dict[NodeName, _Node] = {}
        self._connected: set[NodeName] = set()
        self._workers: KeyWorkers[NodeName] = KeyWorkers("sync.node", self._reconcile)
        self._records: KeyWorkers[tuple[NodeName, str]] = KeyWorkers("sync.record", self._record)
        self._to_record: dict[tuple[NodeName, str], Downlink] = {}
        for cache in self._caches:
            cache.on_change(self._sync_changed)
        nodes.on_change(self._node_changed)

    def add_source(self, source: ItemSource) -> None:
        self._sources.append(source)

    def touch(self, node: NodeName) -> None:
        """Something a node should know may have changed."""
        if node in self._connected:
            self._workers.touch(node)

    def known(self, node: NodeName, kinds: frozenset[str] | None = None) -> list[Known]:
        """What a node has stored, as far as is known."""
        state = self._nodes.get(node)
        return [each for each in state.known.values() if kinds is None or each.kind in kinds] if state else []

    def offer(self, node: NodeName, item: Item) -> None:
        """Send one object at once if the node is connected and does not have it. Anything less simple is left to `touch`."""
        if node not in self._connected:
            return
        state = self._state(node)
        known = state.known.get(item.uid)
        if known is None or known.version in {"", "0"} or not self._is_ready():
            self._workers.touch(node)
        elif state.sent.get(item.uid, known.digest) != item.digest:
            self._send(node, state, item, is_first=False)

    def withdraw(self, node: NodeName, item: Item) -> None:
        """An object is gone: say so at once, with its last state, to a connected node that has it or was sent it."""
        if node not in self._connected:
            return
        state = self._state(node)
        if state.sent.get(item.uid, "" if item.uid not in state.known else "known"):
            state.sent[item.uid] = ""
            self._hub.push(node, withdrawal_of(item))
        self._workers.touch(node)

    def forget_sent(self, node: NodeName, uid: str) -> None:
        """Let the next comparison send an object again although nothing changed (a node said it lacks it)."""
        state = self._state(node)
        state.sent.pop(uid, None)
        known = state.known.get(uid)
        if known is not None:
            state.known[uid] = replace(known, version="0", digest="")
        self.touch(node)

    async def inventory(self, node: NodeName, message: Envelope) -> list[Envelope]:
        """Take a node's own word for what it has, and send the difference. Raises ValueError for what is no inventory."""
        held = parse_inventory(load_body(message))
        state = self._state(node)
        kinds = {kind.lower(): kind for source in self._sources for kind in source.kinds}
        corrected = 0
        for known in list(state.known.values()):
            version = held[known.uid].version if known.uid in held else "0"
            if known.version != version:
                await self._correct(state, known, version or "0")
                corrected += 1
        for each in held.values():
            kind = kinds.get(each.kind)
            if kind is not None and each.uid not in state.known and len(state.known) < BOUND:
                await self._correct(state, Known(node, each.uid, kind, each.namespace, each.name, "", ""), each.version or "0")
                corrected += 1
        logger.info("sync.inventory node=%s objects=%d corrected=%d", node, len(held), corrected)
        self.touch(node)
        return [ok_answer(message)]

    async def _correct(self, state: _Node, known: Known, version: str) -> None:
        """Write down another version than was believed; the digest of the content is then unknown."""
        state.sent.pop(known.uid, None)
        try:
            written = await self._write_status(known.sync_name, known.namespace, version, "")
        except RemoteError as error:
            if error.code != 404:
                raise
            try:
                await self._create_sync(known, _API_VERSIONS.get(known.kind, "v1"))
                written = await self._write_status(known.sync_name, known.namespace, version, "")
            except RemoteError as second:
                if second.code != 404:
                    raise
                self._hub.push(known.node, deletion_of(known, _source_of(known)))  # its namespace is gone, and the object with it
                return
        parsed = parse_sync(written)
        if parsed is not None:
            state.known[known.uid] = parsed

    async def connection(self, node: NodeName, is_connected: bool) -> None:
        """The hub's ConnectionListener."""
        self._state(node).sent.clear()
        if is_connected:
            self._connected.add(node)
            self._workers.touch(node)
        else:
            self._connected.discard(node)

    async def stored(self, node: NodeName, message: Downlink) -> None:
        """The hub's StoredListener: remember it in the sync object."""
        if not message.uid or message.group != Group.RESOURCE:
            return
        self._to_record[node, message.uid] = message
        self._records.touch((node, message.uid))

    async def recorded(self) -> None:
        """Return when nothing is being written any more."""
        await self._records.idle()

    async def run(self) -> None:
        """The regular comparison, and sync objects of nodes that are gone."""
        for cache in (*self._caches, self._nodes_cache):
            await cache.synced()
        for node in list(self._nodes):
            self._collect(node)
        try:
            while True:
                for node in self._hub.connected():
                    if node not in self._connected:
                        await self.connection(node, True)
                    self._workers.touch(node)
                await asyncio.sleep(INTERVAL_SECONDS)
        finally:
            await self._workers.close()
            await self._records.close()

    def _state(self, node: NodeName) -> _Node:
        state = self._nodes.get(node)
        if state is None:
            state = self._nodes[node] = _Node()
        return state

    def _is_ready(self) -> bool:
        return all(cache.is_synced for cache in self._caches) and all(source.is_ready() for source in self._sources)

    def _sync_changed(self, change: Change) -> None:
        obj = change.new or change.old
        known = parse_sync(obj) if obj is not None else None
        if known is None:
            return
        state = self._state(known.node)
        before = state.known.get(known.uid)
        if before is not None and before.at > known.at:
            return  # the answer to our own write was quicker
        if change.new is None:
            state.known.pop(known.uid, None)
        else:
            state.known[known.uid] = known

    def _node_changed(self, change: Change) -> None:
        node = NodeName(change.key.name)
        if change.new is None:
            self._hub.disconnect(node, "its Node was deleted")
            self._collect(node)

    def _collect(self, node: NodeName) -> None:
        """Remove the sync objects of a node that does not exist."""
        if not self._nodes_cache.is_synced or self._nodes_cache.get("", node) is not None:
            return
        for known in self.known(node):
            self._to_record[node, known.uid] = deletion_of(known, Source.EDGECONTROLLER)
            self._records.touch((node, known.uid))

    async def _reconcile(self, node: NodeName) -> None:
        if node not in self._connected or not self._is_ready():
            return
        state = self._state(node)
        for source in self._sources:
            has = [each for each in state.known.values() if each.kind in source.kinds]
            items = source.wanted(node, has)
            wanted = {item.uid for item in items}
            for known in has:  # first, for one of the same name may follow
                if known.uid not in wanted and state.sent.get(known.uid) != "":
                    self._send_deletion(node, state, source, known)
            for item in items:
                before = state.known.get(item.uid)
                if item.uid in state.sent:
                    if state.sent[item.uid] == item.digest:
                        continue
                elif not is_behind(before, item):
                    continue
                if before is None:
                    await self._announce(node, state, item)
                if node not in self._connected:
                    return
                self._send(node, state, item, is_first=before is None)

    def _send(self, node: NodeName, state: _Node, item: Item, *, is_first: bool) -> None:
        for message in item.preface() if item.preface is not None else ():
            self._hub.push(node, message)
        state.sent[item.uid] = item.digest
        self._hub.push(node, downlink_of(item, is_first=is_first))

    def _send_deletion(self, node: NodeName, state: _Node, source: ItemSource, known: Known) -> None:
        for message in source.removed(node, known):
            self._hub.push(node, message)
        state.sent[known.uid] = ""
        self._hub.push(node, deletion_of(known, _source_of(known)))

    async def _announce(self, node: NodeName, state: _Node, item: Item) -> None:
        """Make the sync object with version "0" before the first send. In a namespace that ends it cannot be made: the object is sent
        all the same, for a pod in it must hear that it has to go."""
        metadata = item.object["metadata"]
        known = Known(node, item.uid, item.resource.kind, metadata.get("namespace", ""), metadata["name"], "0", "")
        if not await self._create_sync(known, item.resource.api_version):
            return
        state.known.setdefault(item.uid, known)

    async def _create_sync(self, known: Known, api_version: str) -> bool:
        """Make the record; False where its namespace ends."""
        resource = OBJECT_SYNCS if known.namespace else CLUSTER_OBJECT_SYNCS
        metadata = {"name": known.sync_name} | ({"namespace": known.namespace} if known.namespace else {})
        body: Object = {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": metadata,
            "spec": {"objectAPIVersion": api_version, "objectKind": known.kind, "objectName": known.name},
        }
        try:
            await self._api.create(resource, body, known.namespace)
        except RemoteError as error:
            if error.reason == "AlreadyExists":
                return True
            if known.namespace and error.code == 403 and "terminated" in str(error):
                return False
            raise
        await self._write_status(known.sync_name, known.namespace, "0", "")
        return True

    async def _write_status(self, name: str, namespace: str, version: str, digest: str) -> Object:
        resource = OBJECT_SYNCS if namespace else CLUSTER_OBJECT_SYNCS
        status = {"objectResourceVersion": version, "objectDigest": digest or None}
        return await self._api.patch(resource, name, {"status": status}, namespace, subresource="status")

    async def _record(self, key: tuple[NodeName, str]) -> None:
        """Write down what the node confirmed last."""
        message = self._to_record.get(key)
        if message is None:
            return
        node, uid = key
        state, namespace, name = self._state(node), message.key.namespace, f"{node}.{uid}"
        resource = OBJECT_SYNCS if namespace else CLUSTER_OBJECT_SYNCS
        if message.operation == Operation.DELETE:
            try:
                await self._api.delete(resource, name, namespace)
            except RemoteError as error:
                if error.code != 404:
                    raise
            state.known.pop(uid, None)
            state.sent.pop(uid, None)
        else:
            await self._write_stored(state, message, node)
        if self._to_record.get(key) is message:
            del self._to_record[key]
        else:
            self._records.touch(key)

    async def _write_stored(self, state: _Node, message: Downlink, node: NodeName) -> None:
        body = orjson.loads(message.body)
        digest = message.digest or content_digest(body)
        kind = body.get("kind") or message.key.kind
        known = Known(node, message.uid, kind, message.key.namespace, message.key.name, message.resource_version, digest)
        try:
            written = await self._write_status(known.sync_name, known.namespace, known.version, digest)
        except RemoteError as error:
            if error.code != 404:
                raise
            if not await self._create_sync(known, body.get("apiVersion") or "v1"):
                return
            written = await self._write_status(known.sync_name, known.namespace, known.version, digest)
        parsed = parse_sync(written)
        if parsed is not None:
            state.known[message.uid] = parsed


def _source_of(known: Known) -> str:
    return Source.DEVICECONTROLLER if known.kind in {DEVICES.kind, DEVICE_MODELS.kind} else Source.EDGECONTROLLER
