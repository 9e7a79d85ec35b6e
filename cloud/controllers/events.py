"""Events of nodes into the API. They are not answered."""

from __future__ import annotations

import logging

import orjson

from pinnace.cloud.controllers.answers import typed
from pinnace.cloud.kube.resources import EVENTS
from pinnace.cloud.ports import KubeApi, Object
from pinnace.core.base.contract.envelopes import Operation, load_body
from pinnace.core.base.contract.keys import NodeName, ResourceKey
from pinnace.core.base.errors import PinnaceError, RemoteError
from pinnace.ext.records import Envelope

logger = logging.getLogger(__name__)


def is_from(event: Object, node: str) -> bool:
    """Whether an Event says that this node (or nobody in particular) reported it."""
    source = event.get("source") or {}
    hosts = {source.get("host") or node, event.get("reportingInstance") or node}
    involved = event.get("involvedObject") or {}
    if involved.get("kind") == "Node":
        hosts.add(involved.get("name") or node)
    return hosts == {node}


class EventController:
    """Handles `<ns>/event/<name>`: insert, update, and patch with `{"event": Event, "patchData": JSON text}`."""

    def __init__(self, api: KubeApi) -> None:
        self._api = api

    async def handle(self, node: NodeName, key: ResourceKey, message: Envelope) -> list[Envelope]:
        try:
            body = load_body(message)
            event = body.get("event") if message.operation == Operation.PATCH else body
            if not isinstance(event, dict):
                raise RemoteError("no Event in it", reason="BadRequest", code=400)
            if not is_from(event, node):
                logger.warning("event.refused node=%s event=%s/%s: it speaks for another node", node, key.namespace, key.name)
                return []
            event["metadata"] = {**(event.get("metadata") or {}), "name": key.name, "namespace": key.namespace}
            event["metadata"].pop("creationTimestamp", None)
            await self._apply(node, key, message.operation, typed(event, EVENTS), body)
        except (PinnaceError, orjson.JSONDecodeError, AttributeError) as error:
            logger.warning("event.lost node=%s event=%s/%s error=%s", node, key.namespace, key.name, error)
        return []

    async def _apply(self, node: NodeName, key: ResourceKey, operation: str, event: Object, body: Object) -> None:
        if operation == Operation.INSERT:
            await self._create(key, event)
            return
        try:
            known = await self._api.get(EVENTS, key.name, key.namespace)
        except RemoteError as error:
            if error.code != 404:
                raise
            await self._create(key, event)
            return
        if not is_from(known, node):
            raise RemoteError("it is another node's event", reason="Forbidden", code=403)
        if operation == Operation.PATCH:
            patch = body.get("patchData") or "{}"
            sent = patch.encode() if isinstance(patch, str) else orjson.dumps(patch)
            await self._api.patch(EVENTS, key.name, sent, key.namespace, content_type="application/strategic-merge-patch+json")
        else:
            await self._api.replace(EVENTS, event, key.name, key.namespace)

    async def _create(self, key: ResourceKey, event: Object) -> None:
        try:
            event["metadata"].pop("resourceVersion", None)
            event["metadata"].pop("uid", None)
            await self._api.create(EVENTS, event, key.namespace)
        except RemoteError as error:
            if error.reason != "AlreadyExists":
                raise
