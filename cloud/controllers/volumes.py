"""PersistentVolumes down to the nodes whose pods claim them, and the answers to queries for volumes and attachments."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from pinnace.cloud.controllers.answers import error_answer, forbidden, typed, value_answer
from pinnace.cloud.controllers.configs import ConfigController
from pinnace.cloud.controllers.items import Item, Known, content_digest
from pinnace.cloud.controllers.references import Reference
from pinnace.cloud.controllers.sync import SyncController
from pinnace.cloud.kube.resources import VOLUME_ATTACHMENTS, VOLUME_CLAIMS, VOLUMES
from pinnace.cloud.ports import Downlink, KubeApi, Object
from pinnace.cloud.watch import Change, ObjectCache
from pinnace.core.base.contract.envelopes import Operation
from pinnace.core.base.contract.keys import NodeName, ResourceKey
from pinnace.core.base.errors import PinnaceError
from pinnace.ext.records import Envelope

logger = logging.getLogger(__name__)


class VolumeController:
    """An `ItemSource` for PersistentVolume: those bound to a claim that a pod of the node uses."""

    kinds = frozenset({VOLUMES.kind})

    def __init__(self, api: KubeApi, sync: SyncController, configs: ConfigController, *, claims: ObjectCache, volumes: ObjectCache) -> None:
        self._api = api
        self._sync = sync
        self._configs = configs
        self._claims = claims
        self._volumes = volumes
        claims.on_change(self._claim_changed)
        volumes.on_change(self._volume_changed)
        sync.add_source(self)

    def is_ready(self) -> bool:
        return self._claims.is_synced and self._volumes.is_synced and self._configs.is_ready()

    def wanted(self, node: NodeName, known: Iterable[Known]) -> list[Item]:
        found = (self._volumes.get("", name) for name in sorted(self._names(node)))
        return [_item(volume) for volume in found if volume is not None]

    def removed(self, node: NodeName, known: Known) -> list[Downlink]:
        return []

    def _names(self, node: NodeName) -> set[str]:
        """The volumes behind the claims of a node's pods."""
        used = (each for each in self._configs.needs(node) if each.kind == VOLUME_CLAIMS.kind)
        claims = (self._claims.get(each.namespace, each.name) for each in used)
        return {name for claim in claims if claim is not None and (name := _volume_of(claim))}

    def _claim_changed(self, change: Change) -> None:
        before, after = (_volume_of(each) if each is not None else "" for each in (change.old, change.new))
        if before != after:
            for node in self._configs.users(Reference(VOLUME_CLAIMS.kind, *change.key)):
                self._sync.touch(node)

    def _volume_changed(self, change: Change) -> None:
        volume = change.new or change.old
        claim = ((volume or {}).get("spec") or {}).get("claimRef") or {}
        reference = Reference(VOLUME_CLAIMS.kind, claim.get("namespace", ""), claim.get("name", ""))
        for node in self._configs.users(reference):
            if change.new is not None and change.key.name in self._names(node):
                self._sync.offer(node, _item(change.new))
            else:
                self._sync.touch(node)

    async def query(self, node: NodeName, key: ResourceKey, message: Envelope) -> list[Envelope]:
        """`null/persistentvolume/<name>` and `default/volumeattachment/<name>`."""
        resource = VOLUMES if key.kind == "persistentvolume" else VOLUME_ATTACHMENTS
        if message.operation != Operation.QUERY:
            return [error_answer(message, f"{key.kind}: {message.operation} is not for nodes")]
        refusal = error_answer(message, forbidden(node, str(key))["message"])
        if resource is VOLUMES and key.name not in self._names(node):
            logger.warning("volume.refused node=%s resource=%s: no claim of its pods is bound to it", node, key)
            return [refusal]
        try:
            obj = await self._api.get(resource, key.name)
        except PinnaceError as error:
            return [error_answer(message, str(error))]
        if resource is VOLUME_ATTACHMENTS and (obj.get("spec") or {}).get("nodeName") != node:
            logger.warning("volume.refused node=%s resource=%s: it is another node's", node, key)
            return [refusal]
        return [value_answer(message, typed(obj, resource), resource_version=obj["metadata"].get("resourceVersion", ""))]


def _volume_of(claim: Object) -> str:
    return str((claim.get("spec") or {}).get("volumeName") or "")


def _item(volume: Object) -> Item:
    made = typed(volume, VOLUMES)
    return Item(VOLUMES, made, content_digest(made))
