"""Subresources that are not the object itself: scale, binding, eviction, service-account tokens; streams go to `streams.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from pinnace.cloud.standalone.access import unbound
from pinnace.cloud.standalone.bodies import decode_body
from pinnace.cloud.standalone.deletion import DeleteOptions, Deletion
from pinnace.cloud.standalone.kinds import Kind, Subresource
from pinnace.cloud.standalone.negotiation import negotiate, rendered
from pinnace.cloud.standalone.objects import Objects, now_text
from pinnace.cloud.standalone.reading import Reading
from pinnace.cloud.standalone.requests import Answer, Request, Target
from pinnace.cloud.standalone.state import Object
from pinnace.cloud.standalone.status import ApiError, Cause, bad_request, conflict, forbidden, internal, invalid, not_found, success
from pinnace.cloud.standalone.streams import Streams
from pinnace.cloud.standalone.tokens import AUDIENCES, Tokens
from pinnace.cloud.standalone.writes import Options, Writes

SCALE_KIND = Kind("autoscaling", "v1", "scales", "Scale")
MIN_TOKEN_SECONDS = 600
MAX_TOKEN_SECONDS = 1 << 32
DEFAULT_TOKEN_SECONDS = 3600
_LABEL_SELECTOR = {"In": "in", "NotIn": "notin"}


class Subresources:
    """Answers for the subresources that have a shape of their own."""

    def __init__(
        self, objects: Objects, reading: Reading, writes: Writes, deletion: Deletion, tokens: Tokens, *, streams: Streams
    ) -> None:  # fmt: skip
        self._objects = objects
        self._reading = reading
        self._writes = writes
        self._deletion = deletion
        self._tokens = tokens
        self._streams = streams

    async def answer(self, request: Request, target: Target, subresource: Subresource) -> Answer:
        match subresource.name:
            case "scale":
                return await self._scale(request, target)
            case "binding":
                return await self.bind(request, target.name, target.scope)
            case "eviction":
                return await self._evict(request, target)
            case "token":
                return await self._token(request, target)
            case "log":
                return await self._streams.log(request, target)
            case "exec" | "attach" | "portforward" as what:
                return await self._streams.upgraded(request, target, what)
            case "status" | "finalize" | "ephemeralcontainers":
                return await self._part(request, target)
            case other:
                self._reading.item(target)
                raise ApiError(501, f"pods/{other} is not served by the embedded API server; see SCOPE.md", reason="NotImplemented")

    async def _part(self, request: Request, target: Target) -> Answer:
        match target.verb:
            case "get":
                return await self._reading.get(request, target)
            case "update":
                return await self._writes.update(request, target)
            case _:
                return await self._writes.patch(request, target)

    async def _scale(self, request: Request, target: Target) -> Answer:
        _, as_yaml = negotiate(request)
        kind = target.kind
        current = await self._objects.views.decoded(kind, self._reading.item(target))
        if target.verb == "get":
            return rendered(request, scale_of(kind, current), as_yaml=as_yaml)
        make: Callable[[Object], Object]
        if target.verb == "update":
            body = decode_body(request, "Scale")
            options = Options(request, "UpdateOptions")

            def make(old: Object) -> Object:
                return body if isinstance(body, dict) else {}

        else:
            options = Options(request, "PatchOptions")
            make = self._writes.patcher(request, SCALE_KIND, options)

        def scaled(old: Object) -> Object:
            wanted = make(scale_of(kind, old))
            replicas = (wanted.get("spec") or {}).get("replicas", 0)
            if not isinstance(replicas, int) or isinstance(replicas, bool) or replicas < 0:
                why = f"Invalid value: {orjson.dumps(replicas).decode()}: must be greater than or equal to 0"
                raise invalid("autoscaling", "Scale", target.name, [Cause("FieldValueInvalid", why, "spec.replicas")])
            path = _path(kind, "specReplicasPath", ".spec.replicas")
            part = old
            for each in path[:-1]:
                part = part.setdefault(each, {})
            part[path[-1]] = replicas
            version = (wanted.get("metadata") or {}).get("resourceVersion")
            if version:
                old["metadata"]["resourceVersion"] = version
            else:
                old["metadata"].pop("resourceVersion", None)
            return old

        written = await self._objects.change(kind, target.name, target.scope, scaled, dry_run=options.dry_run)
        return rendered(request, scale_of(kind, written.obj), as_yaml=as_yaml)

    async def bind(self, request: Request, name: str, namespace: str) -> Answer:
        """Give a pod to a node. 409 when it has one."""
        kind = self._kind("pods")
        options = Options(request, "CreateOptions")
        body = decode_body(request, "Binding")
        body = body if isinstance(body, dict) else {}
        name = name or (body.get("metadata") or {}).get("name", "")
        node = (body.get("target") or {}).get("name", "")
        if self._objects.state.table("pods").latest(namespace, name) is None:
            raise not_found("", "pods", name)
        if not node:
            raise internal("target.name: Required value")

        def bound(pod: Object) -> Object:
            taken = pod["spec"].get("nodeName")
            if taken:
                raise conflict("", "pods/binding", name, f'pod {name} is already assigned to node "{taken}"')
            pod["spec"]["nodeName"] = node
            pod["metadata"].setdefault("annotations", {}).update((body.get("metadata") or {}).get("annotations") or {})
            conditions = pod.setdefault("status", {}).setdefault("conditions", [])
            conditions[:] = [each for each in conditions if each.get("type") != "PodScheduled"]
            conditions.append({"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": now_text()})
            return pod

        await self._objects.change(kind, name, namespace, bound, subresource="binding", dry_run=options.dry_run)
        return rendered(request, success(code=201), status=201)

    async def _evict(self, request: Request, target: Target) -> Answer:
        options = Options(request, "CreateOptions")
        body: Any = decode_body(request, "Eviction") if request.body.strip() else {}
        wanted = (body.get("deleteOptions") or {}) if isinstance(body, dict) else {}
        before = wanted.get("preconditions") or {}
        self._reading.item(target)
        delete = DeleteOptions(
            wanted.get("gracePeriodSeconds"), wanted.get("propagationPolicy"), before.get("uid") or "", before.get("resourceVersion") or "",
            options.dry_run or "All" in (wanted.get("dryRun") or ()),
        )  # fmt: skip
        await self._deletion.delete(target.kind, target.name, target.scope, delete)
        return rendered(request, success(code=201), status=201)

    async def _token(self, request: Request, target: Target) -> Answer:
        """A bound token (authentication.k8s.io/v1 TokenRequest)."""
        account = self._reading.item(target).decode()
        body = decode_body(request, "TokenRequest")
        if not isinstance(body, dict):
            raise bad_request("the object provided is unrecognized (must be of type TokenRequest)")
        spec = body.get("spec") or {}
        seconds = spec.get("expirationSeconds", DEFAULT_TOKEN_SECONDS)
        why = ""
        if not isinstance(seconds, int) or isinstance(seconds, bool) or seconds < MIN_TOKEN_SECONDS:
            why = "may not specify a duration less than 10 minutes"
        elif seconds > MAX_TOKEN_SECONDS:
            why = "may not specify a duration larger than 2^32 seconds"
        if why:
            cause = Cause("FieldValueInvalid", f"Invalid value: {orjson.dumps(seconds).decode()}: {why}", "spec.expirationSeconds")
            raise invalid("authentication.k8s.io", "TokenRequest", "", [cause])
        bound = spec.get("boundObjectRef")
        pod = self._bound_pod(bound, target) if bound else None
        if why := unbound(request.user, bound or {}, pod):
            raise forbidden("", "serviceaccounts", target.name, why)
        audiences = list(spec.get("audiences") or [AUDIENCES[0]])
        token, ends = self._tokens.sign(account, audiences, seconds, pod)
        answer = {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {
                "name": target.name,
                "namespace": target.scope,
                "uid": account["metadata"]["uid"],
                "creationTimestamp": now_text(),
            },
            "spec": {"audiences": audiences, "expirationSeconds": seconds, "boundObjectRef": bound},
            "status": {"token": token, "expirationTimestamp": now_text(ends)},
        }
        return rendered(request, answer, status=201)

    def _bound_pod(self, bound: Object, account: Target) -> Object:
        if bound.get("kind") != "Pod":
            raise bad_request(f"cannot bind token to object of kind {bound.get('kind')}: this server binds tokens to pods only")
        item = self._objects.state.table("pods").latest(account.scope, bound.get("name", ""))
        if item is None:
            raise not_found("", "pods", bound.get("name", ""))
        if bound.get("uid") and bound["uid"] != item.uid:
            raise conflict(
                "", "pods", item.name, f"the UID in the bound object reference ({bound['uid']}) does not match the UID in record"
            )
        pod = item.decode()
        if pod["spec"].get("serviceAccountName") != account.name:
            raise bad_request(f'cannot bind token for serviceaccount "{account.name}" to pod running with different serviceaccount name.')
        return pod

    def _kind(self, plural: str) -> Kind:
        kind = self._objects.registry.get("", "v1", plural)
        assert kind is not None
        return kind


def _path(kind: Kind, name: str, default: str) -> list[str]:
    scale = (kind.definition.get("subresources") or {}).get("scale") or {}
    return str(scale.get(name) or default).lstrip(".").split(".")


def _at(obj: Object, path: list[str]) -> Any:
    value: Any = obj
    for each in path:
        value = value.get(each) if isinstance(value, dict) else None
    return value


def _selector_text(selector: Any) -> str:
    """A label selector object in the text form."""
    if isinstance(selector, str):
        return selector
    if not isinstance(selector, dict):
        return ""
    parts = [f"{key}={value}" for key, value in sorted((selector.get("matchLabels") or {}).items())]
    for each in selector.get("matchExpressions") or ():
        key, operator = each.get("key", ""), each.get("operator", "")
        if operator in _LABEL_SELECTOR:
            parts.append(f"{key} {_LABEL_SELECTOR[operator]} ({','.join(sorted(each.get('values') or ()))})")
        else:
            parts.append(key if operator == "Exists" else f"!{key}")
    return ",".join(parts)


def scale_of(kind: Kind, obj: Object) -> Object:
    """The autoscaling/v1 Scale of an object."""
    metadata = {
        key: obj["metadata"][key] for key in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp") if key in obj["metadata"]
    }
    replicas = _at(obj, _path(kind, "specReplicasPath", ".spec.replicas"))
    status: Object = {"replicas": _at(obj, _path(kind, "statusReplicasPath", ".status.replicas")) or 0}
    selector = _at(obj, _path(kind, "labelSelectorPath", "-" if kind.is_custom else ".spec.selector"))
    if selector:
        status["selector"] = _selector_text(selector)
    spec = {"replicas": replicas} if replicas else {}
    return {"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec, "status": status}
