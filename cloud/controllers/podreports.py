"""What nodes say of their pods: status, the end of a deletion, mirror pods of static ones. A node reaches only the pods bound to it."""

from __future__ import annotations

import logging
from typing import Any, Final

import orjson

from pinnace.cloud.controllers.answers import (
    bare,
    error_answer,
    failed_answer,
    forbidden,
    object_answer,
    ok_answer,
    status_of_error,
    typed,
    value_answer,
    zero_object,
)
from pinnace.cloud.controllers.pods import PodController, node_of
from pinnace.cloud.controllers.references import references_of
from pinnace.cloud.kube.resources import NODES, PODS
from pinnace.cloud.ports import Downlink, KubeApi, NodeHub, Object
from pinnace.cloud.watch import ObjectCache
from pinnace.core.base.contract.envelopes import Group, Operation, Source, load_body
from pinnace.core.base.contract.keys import NodeName, ResourceKey
from pinnace.core.base.errors import PinnaceError, RemoteError
from pinnace.core.base.pod import CONFIG_MIRROR
from pinnace.ext.records import Envelope

logger = logging.getLogger(__name__)

STRATEGIC: Final = "application/strategic-merge-patch+json"
_NOT_THE_NODES: Final = frozenset({"resourceClaimStatuses"})
"""Parts of a pod's status that a node must not write (Kubernetes API, NodeRestriction)."""
_RUNNING: Final = ("running", "waiting")
OLD_STATUSES_BOUND: Final = 1_000
"""Statuses of one message of an old edge that are taken."""


class PodReportController:
    """Handles `<ns>/podpatch/<name>`, `<ns>/pod/<name>` and, for edges before 1.13, `<ns>/podstatus[/<name>]`."""

    def __init__(self, api: KubeApi, hub: NodeHub, placement: PodController, *, pods: ObjectCache, nodes: ObjectCache) -> None:
        self._api = api
        self._hub = hub
        self._placement = placement
        self._pods = pods
        self._nodes = nodes

    async def patch(self, node: NodeName, key: ResourceKey, message: Envelope) -> list[Envelope]:
        """A strategic merge patch of the pod's status, as a JSON text or an object. Of its metadata only the uid counts: it must be the
        pod's, which is the one known here where none is given."""
        try:
            content = _object(load_body(message))
            status = {part: value for part, value in _part(content, "status").items() if part not in _NOT_THE_NODES}
            uid = _part(content, "metadata").get("uid")
            pod = await self._own(node, key)
            self._placement.reported(pod["metadata"]["uid"], status)
            sent = orjson.dumps({"metadata": {"uid": uid or pod["metadata"]["uid"]}, "status": status})
            made = await self._api.patch(PODS, key.name, sent, key.namespace, content_type=STRATEGIC, subresource="status")
        except PinnaceError as error:
            return [failed_answer(message, self._status(node, key, error), zero_object(PODS))]
        return [object_answer(message, bare(made), resource_version=made["metadata"].get("resourceVersion", ""))]

    async def pod(self, node: NodeName, key: ResourceKey, message: Envelope) -> list[Envelope]:
        """insert of a mirror pod, delete of a pod that has ended, query (which upstream leaves unanswered)."""
        match message.operation:
            case Operation.INSERT:
                return [await self._insert(node, key, message)]
            case Operation.DELETE:
                return [await self._delete(node, key, message)]
            case Operation.QUERY:
                try:
                    pod = await self._own(node, key, is_fresh=True)
                except PinnaceError as error:
                    return [error_answer(message, self._status(node, key, error)["message"])]
                return [value_answer(message, typed(pod, PODS), resource_version=pod["metadata"].get("resourceVersion", ""))]
            case _:
                return [error_answer(message, f"pod: {message.operation} is not for nodes")]

    async def _own(self, node: NodeName, key: ResourceKey, *, is_fresh: bool = False) -> Object:
        """The node's own pod. Raises RemoteError 403 for another node's, what the API says for none."""
        pod = None if is_fresh else self._pods.get(key.namespace, key.name)
        if pod is None or node_of(pod) != node:
            pod = await self._api.get(PODS, key.name, key.namespace)
        if node_of(pod) != node:
            raise RemoteError(forbidden(node, f"pod {key.namespace}/{key.name}")["message"], reason="Forbidden", code=403)
        return pod

    def _status(self, node: NodeName, key: ResourceKey, error: PinnaceError) -> Object:
        if isinstance(error, RemoteError) and error.code == 403:
            logger.warning("pod.refused node=%s pod=%s/%s: %s", node, key.namespace, key.name, error)
        return status_of_error(error)

    async def _delete(self, node: NodeName, key: ResourceKey, message: Envelope) -> Envelope:
        """Ended on the node: the object goes. "OK" also when it is gone or another one of its name is there; the proof for the node is
        the `delete` that comes down."""
        content = load_body(message)
        uid = content if isinstance(content, str) else _part(_object({} if content is None else content), "preconditions").get("uid")
        try:
            pod = await self._own(node, key, is_fresh=True)
            options = {"gracePeriodSeconds": 0, "preconditions": {"uid": uid or pod["metadata"]["uid"]}}
            await self._api.delete(PODS, key.name, key.namespace, body=options)
        except RemoteError as error:
            if error.code not in {404, 409}:
                return error_answer(message, self._status(node, key, error)["message"])
            if error.code == 404:
                self._say_gone(node, key, uid)
        except PinnaceError as error:
            return error_answer(message, str(error))
        return ok_answer(message)

    def _say_gone(self, node: NodeName, key: ResourceKey, uid: Any) -> None:
        """Let a node forget a pod that does not exist any more."""
        metadata = {"name": key.name, "namespace": key.namespace} | ({"uid": uid} if isinstance(uid, str) and uid else {})
        gone = ResourceKey("pod", key.namespace, key.name)
        body = orjson.dumps({"metadata": metadata, "spec": {"containers": None}, "status": {}})
        self._hub.push(node, Downlink(gone, Operation.DELETE, body, Source.EDGECONTROLLER, Group.RESOURCE, uid=metadata.get("uid", "")))

    async def _insert(self, node: NodeName, key: ResourceKey, message: Envelope) -> Envelope:
        """A mirror pod: what the node runs by a file of its own, shown to everybody. Its Node controls it, so that nothing else that
        selects its labels can take it for its own."""
        try:
            pod = _object(load_body(message))
            owner = await self._owner(node)
            why = self._unfit(node, key, pod, owner)
            if why:
                text = f"node {node} may not make pod {key.namespace}/{key.name}: {why}"
                raise RemoteError(text, reason="Forbidden", code=403)
            metadata = {part: value for part, value in pod["metadata"].items() if part not in {"uid", "resourceVersion"}}
            metadata["ownerReferences"] = [owner]
            made = await self._api.create(PODS, {**typed(pod, PODS), "metadata": metadata}, key.namespace)
        except PinnaceError as error:
            return failed_answer(message, self._status(node, key, error), zero_object(PODS))
        return object_answer(message, bare(made), resource_version=made["metadata"].get("resourceVersion", ""))

    async def _owner(self, node: NodeName) -> Object:
        """The reference to the Node that controls its mirror pods. Raises what the API says while there is no Node: the edge asks again."""
        own = self._nodes.get("", node) or await self._api.get(NODES, node)
        return {"apiVersion": "v1", "kind": "Node", "name": node, "uid": own["metadata"]["uid"], "controller": True}

    def _unfit(self, node: NodeName, key: ResourceKey, pod: Object, owner: Object) -> str:
        """Why a node may not make this pod (Kubernetes API, NodeRestriction), "" if it may."""
        metadata, spec = _part(pod, "metadata"), _part(pod, "spec")
        if CONFIG_MIRROR not in (metadata.get("annotations") or {}):
            return f"only mirror pods, with annotation {CONFIG_MIRROR}"
        if spec.get("nodeName") != node:
            return "only on itself (spec.nodeName)"
        if (metadata.get("name"), metadata.get("namespace") or key.namespace) != (key.name, key.namespace):
            return "its name and namespace are not those of the address"
        named = {**pod, "metadata": {**metadata, "namespace": key.namespace}}
        if spec.get("serviceAccountName") or spec.get("serviceAccount") or references_of(named):
            return "a mirror pod may not use a service account, secrets, config maps or claims"
        owners = metadata.get("ownerReferences") or [owner]  # an edge names none before it knows the uid
        if [_identity(each) for each in owners] != [_identity(owner)]:
            return "its only owner can be the node itself, by its uid"
        return ""

    async def old_status(self, node: NodeName, key: ResourceKey, message: Envelope) -> list[Envelope]:
        """update `{"UID":..,"Name":..,"Status":{..}}`, or a list of these where the address has no name."""
        content = load_body(message)
        namespace = key.namespace or key.kind.partition("/")[0]
        reports = content if isinstance(content, list) else [content]
        for each in reports[:OLD_STATUSES_BOUND]:
            report = _object(each)
            name = key.name or str(report.get("Name") or "")
            try:
                await self._take_old(node, ResourceKey("pod", namespace, name), report)
            except PinnaceError as error:
                return [error_answer(message, self._status(node, key, error)["message"])]
        return [ok_answer(message)]

    async def _take_old(self, node: NodeName, key: ResourceKey, report: Object) -> None:
        uid = report.get("UID") or report.get("uid")
        try:
            pod = await self._own(node, key, is_fresh=True)
        except RemoteError as error:
            if error.code != 404:
                raise
            self._say_gone(node, key, uid)
            return
        if uid != pod["metadata"]["uid"]:
            self._say_gone(node, key, uid)
            return
        given = _object(report.get("Status") or report.get("status") or {})
        status = since(_object(pod.get("status") or {}), {part: value for part, value in given.items() if part not in _NOT_THE_NODES})
        self._placement.reported(uid, status)
        patch = {"metadata": {"uid": uid}, "status": status}
        await self._api.patch(PODS, key.name, patch, key.namespace, subresource="status")
        if "deletionTimestamp" in pod["metadata"] and not _runs(status):
            options = {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
            try:
                await self._api.delete(PODS, key.name, key.namespace, body=options)
            except RemoteError as error:
                if error.code not in {404, 409}:
                    raise


def since(old: Object, new: Object) -> Object:
    """The new status with the old one's start and the times since which Ready and Initialized are as they are."""
    before = {each.get("type"): each for each in old.get("conditions") or ()}
    conditions = []
    for each in new.get("conditions") or ():
        known = before.get(each.get("type"), {})
        is_same = each.get("type") in {"Ready", "Initialized"} and known.get("status") == each.get("status")
        moment = known.get("lastTransitionTime") if is_same else None
        conditions.append({**each, "lastTransitionTime": moment} if moment else each)
    kept = {"startTime": old["startTime"]} if old.get("startTime") else {}
    return {**new, **({"conditions": conditions} if conditions else {}), **kept}


def _runs(status: Object) -> bool:
    states = [each.get("state") or {} for each in status.get("containerStatuses") or ()]
    return any(part in state for state in states for part in _RUNNING)


def _identity(reference: Any) -> tuple[Any, ...]:
    return tuple(_object(reference).get(part) for part in ("apiVersion", "kind", "name", "uid"))


def _object(value: Any) -> Object:
    if not isinstance(value, dict):
        raise RemoteError("expected a JSON object", reason="BadRequest", code=400)
    return value


def _part(obj: Object, key: str) -> Object:
    """An object within an object, empty when it is absent or null."""
    value = obj.get(key)
    return {} if value is None else _object(value)
