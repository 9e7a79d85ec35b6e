"""Nodes and their leases: registration, status, heartbeat, and the Node object down to its own node."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import orjson

from pinnace.cloud.controllers.answers import (
    bare,
    error_answer,
    failed_answer,
    forbidden,
    missing,
    object_answer,
    ok_answer,
    status_of_error,
    typed,
    zero_object,
)
from pinnace.cloud.controllers.items import Item, Known, digest_of
from pinnace.cloud.controllers.sync import SyncController
from pinnace.cloud.kube.resources import LEASES, NODES
from pinnace.cloud.ports import Downlink, KubeApi, Object
from pinnace.cloud.watch import Change, ObjectCache
from pinnace.core.base.contract.envelopes import Operation, body_text, load_body
from pinnace.core.base.contract.keys import EDGE_NODE_LABEL, NodeName, ResourceKey
from pinnace.core.base.errors import PinnaceError, RemoteError
from pinnace.ext.records import Envelope

logger = logging.getLogger(__name__)

STRATEGIC = "application/strategic-merge-patch+json"
LEASE_NAMESPACE = "kube-node-lease"
ADDRESS_ANNOTATION = "cloudcore"
"""Which cloudcore a node is connected to: its address."""
RESTRICTED = "node-restriction.kubernetes.io"
"""Labels of this domain and below say where trusted work may go; a node must not set them on itself (Kubernetes API, NodeRestriction)."""
_MAY_TOUCH_MORE = (b'"metadata"', b'"$patch"', b'"$retainKeys"', b'"daemonEndpoints"', b"\\u")
"""A status patch without any of these keeps to what is the node's. The last stands for escapes, behind which the others may hide."""


def node_digest(node: Object) -> str:
    """What of a Node concerns the node itself; its status it knows better."""
    metadata = node["metadata"]
    return digest_of([{key: metadata.get(key) for key in ("uid", "labels", "annotations", "deletionTimestamp")}, node.get("spec")])


class NodeController:
    """An `ItemSource` for Node, and the handler of node, nodepatch, nodestatus and lease messages."""

    kinds = frozenset({NODES.kind})

    def __init__(self, api: KubeApi, sync: SyncController, *, nodes: ObjectCache, address: str) -> None:
        """`address` is this cloudcore's, written to the nodes' annotation."""
        self._api = api
        self._sync = sync
        self._nodes = nodes
        self._address = address
        nodes.on_change(self._node_changed)
        sync.add_source(self)

    def is_ready(self) -> bool:
        return self._nodes.is_synced

    def wanted(self, node: NodeName, known: Iterable[Known]) -> list[Item]:
        obj = self._nodes.get("", node)
        return [self._item(obj)] if obj is not None else []

    def removed(self, node: NodeName, known: Known) -> list[Downlink]:
        return []

    def _item(self, obj: Object) -> Item:
        return Item(NODES, typed(obj, NODES), node_digest(obj), first=Operation.UPDATE)

    def _node_changed(self, change: Change) -> None:
        if change.new is not None:
            self._sync.offer(NodeName(change.key.name), self._item(change.new))

    async def connection(self, node: NodeName, is_connected: bool) -> None:
        """Send the Node after each connect, changed or not (a node that lost its store cannot register without it), and write down
        where it is connected."""
        obj = self._nodes.get("", node)
        if not is_connected or obj is None:
            return
        self._sync.forget_sent(node, obj["metadata"]["uid"])
        if self._address and (obj["metadata"].get("annotations") or {}).get(ADDRESS_ANNOTATION) != self._address:
            try:
                await self._api.patch(NODES, node, {"metadata": {"annotations": {ADDRESS_ANNOTATION: self._address}}})
            except PinnaceError as error:
                logger.warning("node.not-annotated node=%s error=%s", node, error)

    async def node(self, node: NodeName, key: ResourceKey, message: Envelope) -> list[Envelope]:
        """`<null|ns>/node/<name>`: insert, update, query."""
        if key.name != node:
            return [self._refused(message, node, key, NODES)]
        match message.operation:
            case Operation.INSERT:
                return [await self._insert(node, message)]
            case Operation.UPDATE:
                return [await self._update(node, message)]
            case Operation.QUERY:
                return [await self._query(node, message)]
            case _:
                return []

    async def _insert(self, node: NodeName, message: Envelope) -> Envelope:
        body = _object(load_body(message))
        metadata = {**_own(body), "name": node}
        if self._address:
            metadata["annotations"] = {**(metadata.get("annotations") or {}), ADDRESS_ANNOTATION: self._address}
        try:
            made = await self._api.create(NODES, {**typed(body, NODES), "metadata": metadata})
        except PinnaceError as error:
            known = self._nodes.get("", node)
            if isinstance(error, RemoteError) and error.reason == "AlreadyExists" and known is not None:
                self._sync.forget_sent(node, known["metadata"]["uid"])
            return failed_answer(message, status_of_error(error), zero_object(NODES, metadata.get("labels")))
        logger.info("node.registered node=%s", node)
        return object_answer(message, bare(made))

    async def _update(self, node: NodeName, message: Envelope) -> Envelope:
        """Labels and annotations of the sent Node go into the live one."""
        patch = {"metadata": _own(_object(load_body(message)))}
        try:
            made = await self._api.patch(NODES, node, patch, content_type=STRATEGIC)
        except PinnaceError as error:
            return error_answer(message, str(error))
        return ok_answer(message, resource_version=made["metadata"].get("resourceVersion", ""))

    async def _query(self, node: NodeName, message: Envelope) -> Envelope:
        try:
            obj = await self._api.get(NODES, node)
        except PinnaceError as error:
            return error_answer(message, str(error))
        answer = ok_answer(message, resource_version=obj["metadata"].get("resourceVersion", ""))
        answer.body = orjson.dumps(typed(obj, NODES))
        return answer

    async def patch(self, node: NodeName, key: ResourceKey, message: Envelope) -> list[Envelope]:
        """`null/nodepatch/<name>`: a strategic merge patch of the node's status, as a JSON text or an object."""
        if key.name != node:
            return [self._refused(message, node, key, NODES)]
        try:
            patch = body_text(message)
            if any(each in patch for each in _MAY_TOUCH_MORE):  # rare enough to be looked at closely
                content = _object(load_body(message))
                status = _object(content.get("status") or {})
                status.pop("daemonEndpoints", None)  # where its kubelet is reached, which is the tunnel, cloudcore knows
                patch = orjson.dumps({"metadata": _own(content), "status": status})
            made = await self._api.patch(NODES, node, patch, content_type=STRATEGIC, subresource="status")
        except PinnaceError as error:
            return [failed_answer(message, status_of_error(error), zero_object(NODES))]
        return [object_answer(message, bare(made), resource_version=made["metadata"].get("resourceVersion", ""))]

    async def status(self, node: NodeName, key: ResourceKey, message: Envelope) -> list[Envelope]:
        """`<ns>/nodestatus/<name>` of edges before 1.13: insert makes the Node, update writes its status."""
        if key.name != node:
            return [error_answer(message, forbidden(node, str(key))["message"])]
        body = _object(load_body(message))
        resource = f"{key.namespace or 'default'}/node/{node}"
        try:
            if message.operation == Operation.INSERT:
                version = await self._insert_old(node, body)
            else:
                status = _object(body.get("Status") or body.get("status") or {})
                status |= _extended(_object(body.get("ExtendResources") or {}))
                status.pop("daemonEndpoints", None)
                made = await self._api.patch(NODES, node, {"status": status}, content_type=STRATEGIC, subresource="status")
                version = made["metadata"].get("resourceVersion", "")
        except PinnaceError as error:
            return [error_answer(message, str(error))]
        return [ok_answer(message, resource_version=version, resource=resource)]

    async def _insert_old(self, node: NodeName, body: Object) -> str:
        metadata = {**_own(body), "name": node}
        metadata["labels"] = {**(metadata.get("labels") or {}), EDGE_NODE_LABEL: ""}
        try:
            made = await self._api.create(NODES, {**typed(body, NODES), "metadata": metadata})
        except RemoteError as error:
            if error.reason != "AlreadyExists":
                raise
            return ""
        return str(made["metadata"].get("resourceVersion", ""))

    async def lease(self, node: NodeName, key: ResourceKey, message: Envelope) -> list[Envelope]:
        """`kube-node-lease/lease/<node>`: query, insert, update."""
        if key.name != node or key.namespace != LEASE_NAMESPACE:
            return [self._refused(message, node, key, LEASES)]
        try:
            match message.operation:
                case Operation.QUERY:
                    made = typed(await self._api.get(LEASES, node, LEASE_NAMESPACE), LEASES)
                case Operation.INSERT:
                    body = typed(_object(load_body(message)), LEASES)
                    body["metadata"] = {**_object(body.get("metadata") or {}), "name": node, "namespace": LEASE_NAMESPACE}
                    made = bare(await self._api.create(LEASES, body, LEASE_NAMESPACE))
                case Operation.UPDATE:
                    body = typed(_object(load_body(message)), LEASES)
                    made = bare(await self._api.replace(LEASES, body, node, LEASE_NAMESPACE))
                case _:
                    return []
        except PinnaceError as error:
            if message.operation == Operation.QUERY:
                is_missing = isinstance(error, RemoteError) and error.code == 404
                return [failed_answer(message, missing(LEASES, node) if is_missing else status_of_error(error))]
            return [failed_answer(message, status_of_error(error), zero_object(LEASES))]
        return [object_answer(message, made)]

    @staticmethod
    def _refused(message: Envelope, node: NodeName, key: ResourceKey, resource: Any) -> Envelope:
        logger.warning("node.refused node=%s resource=%s operation=%s: not its own object", node, key, message.operation)
        if message.operation == Operation.QUERY and resource is NODES:
            return error_answer(message, forbidden(node, str(key))["message"])
        obj = None if message.operation == Operation.QUERY else zero_object(resource)
        return failed_answer(message, forbidden(node, str(key)), obj)


def _object(value: Any) -> Object:
    if not isinstance(value, dict):
        raise RemoteError("expected a JSON object", reason="BadRequest", code=400)
    return value


def _own(node: Object) -> Object:
    """What a Node says of itself in its metadata: labels and annotations, without labels it must not set, change or remove, and without a
    strategic merge's directives (`$patch`), which would remove them all."""
    metadata = _object(node.get("metadata") or {})
    given = {part: metadata[part] for part in ("labels", "annotations") if isinstance(metadata.get(part), dict)}
    return {part: {key: value for key, value in each.items() if not _is_kept_from_nodes(key)} for part, each in given.items() if each}


def _is_kept_from_nodes(key: str) -> bool:
    return key.startswith("$") or f".{key.partition('/')[0]}".endswith(f".{RESTRICTED}")


def _extended(resources: Object) -> Object:
    """An old edge's extended resources as part of a Node's status."""
    quantities: dict[str, Any] = {}
    for name, each in resources.items():
        entry = each[0] if isinstance(each, list) and each else each
        if isinstance(entry, dict) and "capacity" in entry:
            quantities[name] = entry["capacity"]
    return {"capacity": quantities, "allocatable": quantities} if quantities else {}
