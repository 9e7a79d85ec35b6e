"""Deleting: options, preconditions, finalizers, pods' grace, namespaces and collections (Kubernetes API, DeleteOptions)."""

from __future__ import annotations

import calendar
import time
from dataclasses import dataclass
from typing import Any

import orjson

from pinnace.cloud.standalone.admission import CLEANUP
from pinnace.cloud.standalone.kinds import Kind
from pinnace.cloud.standalone.negotiation import content_type, negotiate, parse, rendered
from pinnace.cloud.standalone.objects import Objects, now_text
from pinnace.cloud.standalone.reading import Filter, Reading
from pinnace.cloud.standalone.requests import Answer, Request, Target
from pinnace.cloud.standalone.state import Item, Object
from pinnace.cloud.standalone.status import ApiError, Cause, bad_request, conflict, forbidden, invalid_option, not_found, success

PROTECTED = frozenset({"default", "kube-system", "kube-public"})
_POLICIES = ("Foreground", "Background", "Orphan")
_FINALIZERS = {"Foreground": "foregroundDeletion", "Orphan": "orphan"}


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """grace in seconds (None: the object's own), policy None or one of Foreground, Background, Orphan, preconditions "" when absent."""

    grace: int | None = None
    policy: str | None = None
    uid: str = ""
    version: str = ""
    dry_run: bool = False


def read_options(request: Request) -> DeleteOptions:
    """From the body (any or no content type) and the query. Raises 400 and 422 as the API does."""
    body: Any = parse(request.body, content_type(request), "DeleteOptions") if request.body.strip() else {}
    if not isinstance(body, dict):
        raise bad_request("json: cannot unmarshal a non-object into Go value of type v1.DeleteOptions")
    if body.get("kind") not in {None, "", "DeleteOptions"}:
        scheme = "k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme/register.go:27"
        raise bad_request(f'no kind "{body["kind"]}" is registered for version "{body.get("apiVersion", "")}" in scheme "{scheme}"')
    grace = body.get("gracePeriodSeconds")
    if grace is not None and (not isinstance(grace, int) or isinstance(grace, bool)):
        word = "string" if isinstance(grace, str) else "bool" if isinstance(grace, bool) else "number"
        raise bad_request(f"json: cannot unmarshal {word} into Go struct field DeleteOptions.gracePeriodSeconds of type int64")
    if not body and "gracePeriodSeconds" in request.query:
        text = request.query["gracePeriodSeconds"]
        if not text.lstrip("-").isdecimal():
            raise bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax')
        grace = int(text)
    policy = body.get("propagationPolicy") or (None if body else request.query.get("propagationPolicy"))
    orphan = body.get("orphanDependents")
    if policy is not None and orphan is not None:
        why = f'Invalid value: "{policy}": orphanDependents and deletionPropagation cannot be both set'
        raise invalid_option("DeleteOptions", Cause("FieldValueInvalid", why, "propagationPolicy"))
    if policy is not None and policy not in _POLICIES:
        why = f'Unsupported value: "{policy}": supported values: "Foreground", "Background", "Orphan", "nil"'
        raise invalid_option("DeleteOptions", Cause("FieldValueNotSupported", why, "propagationPolicy"))
    if orphan is not None:
        policy = "Orphan" if orphan else "Background"
    dry_run = body.get("dryRun") or ([request.query["dryRun"]] if request.query.get("dryRun") else [])
    if any(each != "All" for each in dry_run):
        why = f'Unsupported value: {orjson.dumps(dry_run).decode()}: supported values: "All"'
        raise invalid_option("DeleteOptions", Cause("FieldValueNotSupported", why, "dryRun"))
    before = body.get("preconditions") or {}
    return DeleteOptions(grace, policy, before.get("uid") or "", before.get("resourceVersion") or "", bool(dry_run))


class Deletion:
    """Answers delete and deletecollection, and deletes for the controllers."""

    def __init__(self, objects: Objects, reading: Reading) -> None:
        self._objects = objects
        self._reading = reading

    async def answer(self, request: Request, target: Target) -> Answer:
        _, as_yaml = negotiate(request)
        kind = target.kind
        obj, is_gone = await self.delete(kind, target.name, target.scope, read_options(request))
        if is_gone and kind.table != "pods":
            body = success(target.name, kind.group, kind.plural, obj["metadata"]["uid"])
        else:
            body = (await self._objects.views.converted(kind, [obj]))[0] if obj["apiVersion"] != kind.api_version else obj
        return rendered(request, body, as_yaml=as_yaml)

    async def collection(self, request: Request, target: Target) -> Answer:
        _, as_yaml = negotiate(request)
        kind, options, wanted = target.kind, read_options(request), Filter(request, target.kind)
        table = self._objects.state.table(kind.table)
        items = [item for item in table.items(target.namespace if kind.namespaced else "") if wanted.matches(item)]
        for item in items:
            try:
                await self.delete(kind, item.name, item.namespace, options)
            except ApiError as error:
                if error.code != 404:
                    raise
        bodies = [orjson.loads(body) for body in await self._objects.views.bodies(kind, items)]
        metadata = {"resourceVersion": str(self._objects.state.version)}
        return rendered(request, self._reading.list_object(kind, bodies, metadata), as_yaml=as_yaml)

    async def delete(self, kind: Kind, name: str, namespace: str, options: DeleteOptions) -> tuple[Object, bool]:
        """Begin or finish a deletion: the object (as stored) and whether it is gone. Raises ApiError: 404, 409, 403."""
        state = self._objects.state
        table = state.table(kind.table)
        item = table.latest(namespace, name)
        if item is None:
            raise not_found(kind.group, kind.plural, name)
        _check(kind, item, options)
        obj = item.decode()
        if kind.table == "namespaces":
            if name in PROTECTED:
                raise forbidden("", "namespaces", name, "this namespace may not be deleted")
            if not _begin_namespace(obj):
                return obj, False
        elif not _begin(kind, obj, options):
            await state.settled()
            return obj, False
        metadata = obj["metadata"]
        is_gone = kind.table != "namespaces" and not metadata.get("finalizers") and not metadata.get("deletionGracePeriodSeconds")
        if options.dry_run:
            return obj, is_gone
        if is_gone:
            if kind.table != "pods":
                for key in ("deletionTimestamp", "deletionGracePeriodSeconds"):
                    if key not in item.decode()["metadata"]:
                        metadata.pop(key, None)
            await state.remove(table, obj, namespace=namespace, name=name)[1]
        else:
            await state.put(table, obj, namespace=namespace, name=name)[1]
        self._objects.admission.stored(kind, obj)
        return obj, is_gone


def _check(kind: Kind, item: Item, options: DeleteOptions) -> None:
    if options.uid and options.uid != item.uid:
        why = f"the UID in the precondition ({options.uid}) does not match the UID in record ({item.uid}). "
        raise conflict(kind.group, kind.kind, item.name, why + "The object might have been deleted and then recreated")
    if options.version and options.version != str(item.version):
        why = f"the ResourceVersion in the precondition ({options.version}) does not match the ResourceVersion in record ({item.version}). "
        raise conflict(kind.group, kind.kind, item.name, why + "The object might have been modified")


def _begin_namespace(obj: Object) -> bool:
    if "deletionTimestamp" in obj["metadata"]:
        return False
    obj["metadata"]["deletionTimestamp"] = now_text()
    obj.setdefault("status", {})["phase"] = "Terminating"
    return True


def _begin(kind: Kind, obj: Object, options: DeleteOptions) -> bool:
    """Mark as being deleted; False when that changes nothing."""
    metadata = obj["metadata"]
    grace = _grace(kind, obj, options)
    if "deletionTimestamp" in metadata:
        before = metadata.get("deletionGracePeriodSeconds") or 0
        if metadata.get("finalizers") and before <= grace:
            return False
        if before <= grace and grace != 0:
            return False
        ends = calendar.timegm(time.strptime(metadata["deletionTimestamp"], "%Y-%m-%dT%H:%M:%SZ")) - before + grace
        metadata["deletionTimestamp"] = now_text(ends)
        metadata["deletionGracePeriodSeconds"] = grace
        return True
    is_definition = kind.group == "apiextensions.k8s.io"
    metadata["deletionTimestamp"] = now_text(time.time() + grace)
    if not is_definition:
        metadata["deletionGracePeriodSeconds"] = grace
    finalizers = [each for each in metadata.get("finalizers", []) if options.policy is None or each not in _FINALIZERS.values()]
    if options.policy in _FINALIZERS:
        finalizers.append(_FINALIZERS[options.policy])
    if is_definition and CLEANUP not in finalizers:
        finalizers.append(CLEANUP)
    if finalizers:
        metadata["finalizers"] = finalizers
    else:
        metadata.pop("finalizers", None)
    if kind.has_generation and "generation" in metadata and (finalizers or kind.table == "pods") and not is_definition:
        metadata["generation"] += 1
    return True


def _grace(kind: Kind, obj: Object, options: DeleteOptions) -> int:
    """Seconds a pod gets to end; nothing else waits."""
    if kind.table != "pods":
        return 0
    spec = obj.get("spec", {})
    if not spec.get("nodeName") or obj.get("status", {}).get("phase") in {"Succeeded", "Failed"}:
        return 0
    return max(0, options.grace if options.grace is not None else spec.get("terminationGracePeriodSeconds", 30))
