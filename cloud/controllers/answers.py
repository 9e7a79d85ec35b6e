"""Answers to what nodes ask, in the shapes KubeEdge gives them (docs/protocol.md, node and pod traffic).

There are three: an `ObjectResp` (`{"Object":..., "Err":...}`), the bare object of a query, and "OK". A failed query is answered with
operation `error` and a text, which both edges take for a failure; upstream's own form would be stored as an empty object there.
"""

from __future__ import annotations

from typing import Any, Final

from pinnace.cloud.kube.api import ApiFailure
from pinnace.cloud.ports import Object, Resource
from pinnace.core.base.contract.envelopes import OK_BODY, Group, Operation, Source, reply
from pinnace.core.base.errors import LinkError, PinnaceError, RemoteError
from pinnace.ext.records import Envelope

_ZERO_NODE_STATUS: Final[Object] = {
    "daemonEndpoints": {"kubeletEndpoint": {"Port": 0}},
    "nodeInfo": dict.fromkeys(
        (
            "machineID", "systemUUID", "bootID", "kernelVersion", "osImage", "containerRuntimeVersion", "kubeletVersion",
            "kubeProxyVersion", "operatingSystem", "architecture",
        ),
        "",
    ),
}  # fmt: skip


def status_failure(message: str, reason: str, code: int, *, name: str = "", kind: str = "", group: str = "") -> Object:
    """A Status of kind Failure (Kubernetes API, meta/v1) as KubeEdge puts it under `ErrStatus`."""
    details = {key: value for key, value in (("name", name), ("group", group), ("kind", kind)) if value}
    status: Object = {"metadata": {}, "status": "Failure", "message": message, "reason": reason}
    if details:
        status["details"] = details
    return status | {"code": code}


def status_of_error(error: PinnaceError) -> Object:
    """The Status that says what went wrong; it is never empty, since an edge takes an empty one for success."""
    if isinstance(error, ApiFailure):
        status = {key: value for key, value in error.status.items() if key not in {"kind", "apiVersion"}}
        return status_failure("the API server gave no reason", "InternalError", error.code) | status
    if isinstance(error, RemoteError):
        return status_failure(str(error), error.reason or "InternalError", error.code)
    if isinstance(error, LinkError):
        return status_failure(str(error), "ServiceUnavailable", 503)
    return status_failure(str(error), "InternalError", 500)


def forbidden(node: str, what: str) -> Object:
    """The Status for what a node must not reach."""
    return status_failure(f"node {node} may not reach {what}: a node reaches only its own objects", "Forbidden", 403)


def missing(resource: Resource, name: str) -> Object:
    """NotFound in the words of upstream's cache: singular kind in text and details."""
    kind = resource.kind.lower()
    qualified = f"{kind}.{resource.group}" if resource.group else kind
    return status_failure(f'{qualified} "{name}" not found', "NotFound", 404, name=name, kind=kind, group=resource.group)


def bare(obj: Object) -> Object:
    """An object without kind and apiVersion, as Go's typed client gives it back."""
    return {key: value for key, value in obj.items() if key not in {"kind", "apiVersion"}}


def typed(obj: Object, resource: Resource) -> Object:
    """An object with kind and apiVersion, first as Go writes them."""
    return {"kind": resource.kind, "apiVersion": resource.api_version, **bare(obj)}


def zero_object(resource: Resource, labels: dict[str, str] | None = None) -> Object:
    """What stands beside an error: the empty object of the kind."""
    metadata: Object = {"creationTimestamp": None} | ({"labels": labels} if labels else {})
    match resource.kind:
        case "Node":
            return {"metadata": metadata, "spec": {}, "status": _ZERO_NODE_STATUS}
        case "Pod":
            return {"metadata": metadata, "spec": {"containers": None}, "status": {}}
        case _:
            return {"metadata": metadata, "spec": {}}


def object_answer(request: Envelope, obj: Object, *, resource_version: str = "") -> Envelope:
    """Success of an insert, update or patch. Queries of leases answer so too."""
    return _answer(request, {"Object": obj, "Err": None}, resource_version=resource_version)


def failed_answer(request: Envelope, status: Object, obj: Object | None = None) -> Envelope:
    return _answer(request, {"Object": obj, "Err": {"ErrStatus": status}})


def ok_answer(request: Envelope, *, resource_version: str = "", resource: str = "") -> Envelope:
    answer = _answer(request, OK_BODY, resource_version=resource_version)
    if resource:
        answer.resource = resource
    return answer


def value_answer(request: Envelope, value: Any, *, resource_version: str = "") -> Envelope:
    """A bare value: an object that was asked for."""
    return _answer(request, value, resource_version=resource_version)


def error_answer(request: Envelope, text: str) -> Envelope:
    """The failure of a query."""
    return reply(request, text, source=Source.EDGECONTROLLER, group=Group.RESOURCE, operation=Operation.ERROR)


def _answer(request: Envelope, content: Any, *, resource_version: str = "") -> Envelope:
    return reply(request, content, source=Source.EDGECONTROLLER, group=Group.RESOURCE, resource_version=resource_version)
