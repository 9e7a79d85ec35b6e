"""Keeps a DeviceStatus beside each Device, as KubeEdge 1.23 has it: the same name, owned by the Device, its reported values and state."""

from __future__ import annotations

import logging

from pinnace.cloud.controllers.reported import belongs_to
from pinnace.cloud.kube.resources import DEVICE_STATUSES, DEVICES
from pinnace.cloud.ports import KubeApi, Object
from pinnace.cloud.watch import Change, KeyWorkers, ObjectCache
from pinnace.cloud.watch.cache import Identity
from pinnace.core.base.errors import RemoteError

logger = logging.getLogger(__name__)

LINGER_SECONDS = 0.2
"""How long changes of a Device are gathered into one write: the mirror never competes with the reports themselves."""
_FIELDS = ("twins", "state", "lastOnlineTime", "extensions")


def mirrored(device: Object) -> Object:
    """The status a DeviceStatus shows for a Device."""
    status = device.get("status") or {}
    return {field: status[field] for field in _FIELDS if status.get(field) not in (None, "")}


class StatusMirror:
    """A controller on two caches; nothing calls it."""

    def __init__(self, api: KubeApi, *, devices: ObjectCache, statuses: ObjectCache, linger: float = LINGER_SECONDS) -> None:
        self._api = api
        self._devices = devices
        self._statuses = statuses
        self._accepted: dict[Identity, tuple[Object, str]] = {}
        self.workers: KeyWorkers[Identity] = KeyWorkers("device.mirror", self._reconcile, linger=linger)
        devices.on_change(self._device_changed)
        statuses.on_change(self._status_changed)

    def _device_changed(self, change: Change) -> None:
        if change.new is None:
            self._accepted.pop(change.key, None)
            return  # its DeviceStatus is collected with its owner
        if change.old is None or mirrored(change.old) != mirrored(change.new):
            self.workers.touch(change.key)

    def _status_changed(self, change: Change) -> None:
        device = self._devices.get(*change.key)
        if device is not None and (
            change.new is None or (change.new.get("status") or {}) != mirrored(device) or not belongs_to(change.new, device)
        ):
            self.workers.touch(change.key)

    async def _reconcile(self, key: Identity) -> None:
        await self._statuses.synced()  # or everything would be made anew
        device = self._devices.get(*key)
        if device is None or "deletionTimestamp" in device["metadata"]:
            return
        wanted, live = mirrored(device), self._statuses.get(*key)
        if live is None:
            await self._create(key, device, wanted)
            return
        shown = live.get("status") or {}
        changes = {
            field: wanted.get(field) for field in wanted.keys() | (shown.keys() & set(_FIELDS)) if shown.get(field) != wanted.get(field)
        }
        patch: Object = {"status": changes} if changes else {}
        if not belongs_to(live, device):  # or it would be collected with the Device that had the name before
            patch["metadata"] = {"ownerReferences": [_owner(device)]}
        if not patch or self._accepted.get(key) == (wanted, live["metadata"].get("resourceVersion")):
            return  # the second: its schema does not take all of it
        try:
            made = await self._api.patch(DEVICE_STATUSES, key.name, patch, key.namespace)
            self._accepted[key] = (wanted, made["metadata"].get("resourceVersion", ""))
        except RemoteError as error:
            if error.code != 404:
                raise
            await self._create(key, device, wanted)

    async def _create(self, key: Identity, device: Object, status: Object) -> None:
        owner = _owner(device)
        body: Object = {
            "apiVersion": DEVICE_STATUSES.api_version,
            "kind": DEVICE_STATUSES.kind,
            "metadata": {"name": key.name, "namespace": key.namespace, "ownerReferences": [owner]},
            "status": status,
        }
        try:
            await self._api.create(DEVICE_STATUSES, body, key.namespace)
        except RemoteError as error:
            if error.reason != "AlreadyExists":
                raise
            await self._api.patch(DEVICE_STATUSES, key.name, {"metadata": {"ownerReferences": [owner]}, "status": status}, key.namespace)


def _owner(device: Object) -> Object:
    return {
        "apiVersion": DEVICES.api_version, "kind": DEVICES.kind, "name": device["metadata"]["name"], "uid": device["metadata"]["uid"],
        "controller": True, "blockOwnerDeletion": False,
    }  # fmt: skip
