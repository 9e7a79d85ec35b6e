"""Devices and their models down to the nodes: who gets what, and each change of a desired value at once."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from pinnace.cloud.controllers.items import Item, Known, content_digest, digest_of
from pinnace.cloud.controllers.placement import node_of, selects, terms_of
from pinnace.cloud.controllers.sync import SyncController
from pinnace.cloud.controllers.twins import (
    confirmation,
    deleted_twins,
    desired_twins,
    device_entry,
    membership,
    membership_detail,
)
from pinnace.cloud.kube.resources import DEVICE_MODELS, DEVICES
from pinnace.cloud.ports import Downlink, NodeHub, Object
from pinnace.cloud.watch import Change, ObjectCache
from pinnace.cloud.watch.cache import Identity
from pinnace.core.base.contract.envelopes import Source, now_ms
from pinnace.core.base.contract.keys import NodeName
from pinnace.ext.records import Envelope

logger = logging.getLogger(__name__)

PlacementListener = Callable[[Identity, NodeName | None, NodeName | None], None]
"""Called with a device and the nodes it left and came to, None for no node."""

_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def for_node(device: Object, node: str) -> Object:
    """The device as its node gets it: nodeName filled in, without status (the node knows better) and kubectl's own notes."""
    metadata = {key: value for key, value in device["metadata"].items() if key not in {"managedFields", "annotations"}}
    annotations = {key: value for key, value in (device["metadata"].get("annotations") or {}).items() if key != _LAST_APPLIED}
    if annotations:
        metadata["annotations"] = annotations
    made = {"kind": DEVICES.kind, "apiVersion": DEVICES.api_version, "metadata": metadata}
    if "spec" in device:
        made["spec"] = {**(device["spec"] or {}), "nodeName": node}
    return made


def device_digest(prepared: Object) -> str:
    """What of a device concerns its node."""
    metadata = prepared["metadata"]
    kept = {key: metadata.get(key) for key in ("name", "namespace", "uid", "labels", "annotations", "deletionTimestamp")}
    return digest_of([kept, prepared.get("spec")])


def model_of(device: Object) -> Identity | None:
    """The device's model by name, in its own namespace; None when it names none."""
    reference = (device.get("spec") or {}).get("deviceModelRef") or {}
    name = reference.get("name")
    return Identity(device["metadata"]["namespace"], name) if name else None


class DeviceController:
    """An `ItemSource` for Device and DeviceModel, and the answers to `membership/detail`."""

    kinds = frozenset({DEVICES.kind, DEVICE_MODELS.kind})

    def __init__(self, hub: NodeHub, sync: SyncController, *, devices: ObjectCache, models: ObjectCache, nodes: ObjectCache) -> None:
        self._hub = hub
        self._sync = sync
        self._devices = devices
        self._models = models
        self._nodes = nodes
        self._placed: dict[Identity, NodeName] = {}
        self._on_node: defaultdict[NodeName, set[Identity]] = defaultdict(set)
        self._selecting: dict[Identity, list[Any]] = {}
        self._placement_listeners: list[PlacementListener] = []
        self._labels: dict[str, dict[str, str]] = {}
        self._told: dict[Identity, tuple[NodeName, frozenset[str]]] = {}
        devices.on_change(self._device_changed)
        models.on_change(self._model_changed)
        nodes.on_change(self._node_changed)
        sync.add_source(self)

    def is_ready(self) -> bool:
        return self._devices.is_synced and self._models.is_synced and self._nodes.is_synced

    def on_placement(self, listener: PlacementListener) -> None:
        self._placement_listeners.append(listener)

    def node_of(self, namespace: str, name: str) -> NodeName | None:
        """Where a device is."""
        return self._placed.get(Identity(namespace, name))

    def devices_on(self, node: NodeName) -> list[Object]:
        """The devices of a node, by namespace and name."""
        found = (self._devices.get(*key) for key in sorted(self._on_node.get(node, ())))
        return [device for device in found if device is not None]

    def model(self, device: Object) -> Object | None:
        key = model_of(device)
        return self._models.get(*key) if key is not None else None

    def wanted(self, node: NodeName, known: Iterable[Known]) -> list[Item]:
        devices = self.devices_on(node)
        models = {key: model for key in map(model_of, devices) if key is not None and (model := self._models.get(*key)) is not None}
        return [self._model_item(model) for model in models.values()] + [self._device_item(device, node) for device in devices]

    def removed(self, node: NodeName, known: Known) -> list[Downlink]:
        if known.kind != DEVICES.kind:
            return []
        key = Identity(known.namespace, known.name)
        if self._told.get(key, ("",))[0] == node:
            del self._told[key]
        return [membership(removed=[{"id": f"{known.namespace}/{known.name}", "name": known.name}])]

    async def detail(self, node: NodeName, message: Envelope) -> list[Envelope]:
        """Answer `get membership/detail`: the full list, and a confirmation so that the node does not ask again."""
        now = now_ms()
        entries = [device_entry(device, desired_twins(device, self.model(device), now=now)) for device in self.devices_on(node)]
        self._hub.push(node, membership_detail(entries))
        self._hub.push(node, confirmation(message.msg_id))
        return []

    def _device_item(self, device: Object, node: NodeName) -> Item:
        prepared = for_node(device, node)
        return Item(DEVICES, prepared, device_digest(prepared), Source.DEVICECONTROLLER, preface=lambda: self._preface(device, node))

    def _preface(self, device: Object, node: NodeName) -> list[Downlink]:
        """`membership` with the twins: how a node that does not read device objects gets its desired values."""
        key = Identity(device["metadata"]["namespace"], device["metadata"]["name"])
        twins = desired_twins(device, self.model(device), now=now_ms())
        told = self._told.get(key)
        before = told[1] if told is not None and told[0] == node else None
        self._told[key] = (node, frozenset(twins))
        if before is not None:
            twins |= deleted_twins(sorted(before - twins.keys()), int(device["metadata"].get("resourceVersion") or 0))
            if not twins:
                return []
        return [membership(added=[device_entry(device, twins)])]

    def _model_item(self, model: Object) -> Item:
        made = {key: value for key, value in model.items() if key not in {"kind", "apiVersion", "metadata"}}
        metadata = {key: value for key, value in model["metadata"].items() if key != "managedFields"}
        prepared = {"kind": DEVICE_MODELS.kind, "apiVersion": DEVICE_MODELS.api_version, "metadata": metadata, **made}
        return Item(DEVICE_MODELS, prepared, content_digest(prepared), Source.DEVICECONTROLLER)

    def _device_changed(self, change: Change) -> None:
        before = self._placed.get(change.key)
        after = self._place(change.key, change.new)
        if change.new is not None and after is not None and after == before:
            self._sync.offer(after, self._device_item(change.new, after))
            if change.old is None or model_of(change.old) != model_of(change.new):
                self._sync.touch(after)
            return
        for node in {before, after}:
            if node is not None:
                self._sync.touch(node)

    def _place(self, key: Identity, device: Object | None) -> NodeName | None:
        """Note where a device belongs now."""
        before = self._placed.get(key)
        self._selecting.pop(key, None)
        after: NodeName | None = None
        if device is not None:
            if terms := terms_of(device):
                self._selecting[key] = terms
            after = NodeName(node_of(device, self._labels, current=before or "")) or None
        if before != after:
            if before is not None:
                self._on_node[before].discard(key)
                self._placed.pop(key)
                logger.info("device.left node=%s device=%s/%s", before, *key)
            if after is not None:
                self._on_node[after].add(key)
                self._placed[key] = after
                logger.info("device.placed node=%s device=%s/%s", after, *key)
            for listener in self._placement_listeners:
                listener(key, before, after)
        return after

    def _model_changed(self, change: Change) -> None:
        nodes = {self._placed.get(key) for device in self._devices if model_of(device) == change.key for key in (_key(device),)}
        for node in nodes:
            if node is not None:
                self._sync.touch(node)

    def _node_changed(self, change: Change) -> None:
        labels = (change.new["metadata"].get("labels") or {}) if change.new is not None else None
        if self._labels.get(change.key.name) == labels:
            return
        if labels is None:
            self._labels.pop(change.key.name, None)
        else:
            self._labels[change.key.name] = labels
        for key, terms in list(self._selecting.items()):
            before = self._placed.get(key)
            if before != change.key.name and (not selects(terms, labels) or selects(terms, self._labels.get(before or ""))):
                continue  # it was not there, and has no reason to go there
            after = self._place(key, self._devices.get(*key))
            if before != after:
                for node in {before, after}:
                    if node is not None:
                        self._sync.touch(node)


def _key(device: Object) -> Identity:
    return Identity(device["metadata"]["namespace"], device["metadata"]["name"])
