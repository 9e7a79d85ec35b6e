"""The rules every write goes through, for clients and controllers alike: identity, versions, generation, status, finalizers, no-ops."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from pinnace.cloud.standalone.kinds import Kind
from pinnace.cloud.standalone.names import asked_name, random_suffix
from pinnace.cloud.standalone.registry import Registry
from pinnace.cloud.standalone.state import Item, Object, State
from pinnace.cloud.standalone.status import (
    ApiError,
    Cause,
    already_exists,
    bad_request,
    conflict,
    forbidden,
    internal,
    invalid,
    not_found,
    qualified,
)
from pinnace.cloud.standalone.views import Views

ATTEMPTS = 6
_KEPT = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "name", "namespace", "generation")


def now_text(seconds: float | None = None) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def canonical(obj: Object) -> bytes:
    return orjson.dumps(obj, option=orjson.OPT_SORT_KEYS)


def equal(left: Any, right: Any) -> bool:
    """The same JSON: unlike Python's ==, true is not 1."""
    return left is right or (
        left == right and orjson.dumps(left, option=orjson.OPT_SORT_KEYS) == orjson.dumps(right, option=orjson.OPT_SORT_KEYS)
    )


class Admission(Protocol):
    """What a kind asks of its objects: defaults and validation. `old` is None on create; warnings are for the client."""

    def unknown_fields(self, kind: Kind, obj: Object) -> list[str]:
        """Remove what the kind does not know; the paths removed. Raises ApiError 400 for a value of the wrong type."""
        ...

    def prepare(self, kind: Kind, obj: Object, old: Object | None, subresource: str) -> None:
        """Fill in defaults. Raises ApiError."""
        ...

    def validate(self, kind: Kind, obj: Object, old: Object | None, subresource: str) -> list[Cause]: ...

    def stored(self, kind: Kind, obj: Object) -> None:
        """Something was written that may change what is served (a custom resource definition)."""
        ...

    def is_terminating(self, kind: Kind) -> bool:
        """Whether the kind's definition is going away."""
        ...


Make = Callable[[Object], Object]
"""Computes the wanted object from the current one (a copy it may change); called again when another write came between."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a write left behind: the object in the asked version, and whether it is gone (its last finalizer went)."""

    obj: Object
    is_gone: bool = False


class Objects:
    """Creates and changes objects. Everything returned is durable."""

    def __init__(self, state: State, registry: Registry, views: Views, admission: Admission) -> None:
        self.state = state
        self.registry = registry
        self.views = views
        self.admission = admission

    async def create(self, kind: Kind, obj: Object, namespace: str = "", *, dry_run: bool = False) -> Object:
        """Raises ApiError: 404 without the namespace, 403 in one that ends, 409 when the name is taken, 422."""
        metadata = self._identity(kind, obj, namespace)
        if kind.namespaced:
            self._check_namespace(kind, metadata, namespace)
        if self.admission.is_terminating(kind):
            why = "create not allowed while custom resource definition is terminating"
            raise forbidden(kind.group, kind.plural, asked_name(metadata), why)
        if kind.has_status and kind.table not in {"namespaces", "nodes", "persistentvolumes"}:
            obj.pop("status", None)
        if kind.has_generation:
            metadata["generation"] = 1
        self.admission.prepare(kind, obj, None, "")
        causes = self.admission.validate(kind, obj, None, "")
        if causes:
            raise invalid(kind.group, kind.kind, metadata["name"], causes)
        stored = await self._to_storage(kind, obj)
        table = self.state.table(kind.table)
        for attempt in range(ATTEMPTS):
            taken = table.latest(namespace, metadata["name"])
            if taken is None:
                break
            if "generateName" not in metadata or attempt == ATTEMPTS - 1:
                is_ending = "deletionTimestamp" in taken.decode()["metadata"]
                raise already_exists(kind.group, kind.plural, metadata["name"], is_being_deleted=is_ending)
            metadata["name"] = stored["metadata"]["name"] = metadata["generateName"][:58] + random_suffix()
        if dry_run:
            return obj
        item, written = self.state.put(table, stored, namespace=namespace, name=metadata["name"])
        await written
        self.admission.stored(kind, stored)
        if stored is obj:
            return obj
        decoded: Object = await self.views.decoded(kind, item)
        return decoded

    async def change(
        self,
        kind: Kind,
        name: str,
        namespace: str,
        make: Make,
        *,
        subresource: str = "",
        dry_run: bool = False,
        is_patch: bool = True,
    ) -> Written:
        """Read, compute, check, write; again when another write came between and `make` did not insist on a resource version.

        Raises ApiError: 404, 409, 422.
        """
        table = self.state.table(kind.table)
        for _ in range(ATTEMPTS):
            item = table.latest(namespace, name)
            if item is None:
                raise not_found(kind.group, kind.plural, name)
            old = await self.views.decoded(kind, item)
            wanted = make(orjson.loads(orjson.dumps(old)))
            version = wanted.get("metadata", {}).get("resourceVersion", "")
            self._check_preconditions(kind, old, wanted, item, subresource, is_patch=is_patch)
            new = self._merged(kind, old, wanted, subresource)
            self.admission.prepare(kind, new, old, subresource)
            causes = [*_metadata_causes(old, new), *self.admission.validate(kind, new, old, subresource)]
            if causes:
                raise invalid(kind.group, kind.kind, name, causes)
            if subresource != "binding":
                self._set_generation(kind, old, new)
            stored = await self._to_storage(kind, new)
            if table.latest(namespace, name) is not item:
                if version and version != str(item.version):
                    raise conflict(kind.group, kind.plural, name)
                continue
            stored["metadata"]["resourceVersion"] = str(item.version)
            new["metadata"]["resourceVersion"] = str(item.version)
            if is_finished(kind, new):
                if not dry_run:
                    gone = orjson.loads(orjson.dumps(stored))
                    await self.state.remove(table, gone, namespace=namespace, name=name)[1]
                    self.admission.stored(kind, gone)
                return Written(new, is_gone=True)
            if item.api_version == stored["apiVersion"] and equal(stored, item.decode()):
                await self.state.settled()
                return Written(new)
            if dry_run:
                return Written(new)
            fresh, written = self.state.put(table, stored, namespace=namespace, name=name)
            await written
            self.admission.stored(kind, stored)
            return Written(new if stored is new else await self.views.decoded(kind, fresh))
        raise conflict(kind.group, kind.plural, name)

    def _identity(self, kind: Kind, obj: Object, namespace: str) -> Object:
        """Fill in what the server decides about a new object's metadata."""
        metadata: Object = obj.setdefault("metadata", {})
        if not isinstance(metadata, dict):
            raise bad_request(f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: metadata is not an object')
        if metadata.get("resourceVersion"):
            raise internal("resourceVersion should not be set on objects to be created")
        given = metadata.get("namespace") or namespace
        if given != namespace:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
        name = metadata.get("name") or ""
        if not isinstance(name, str) or not isinstance(metadata.get("generateName") or "", str):
            what = f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}'
            raise bad_request(f"{what}: json: cannot unmarshal into Go struct field ObjectMeta.metadata.name of type string")
        if not name and metadata.get("generateName"):
            name = metadata["generateName"][:58] + random_suffix()
        if not name:
            raise invalid(
                kind.group,
                kind.kind,
                "",
                [Cause("FieldValueRequired", "Required value: name or generateName is required", "metadata.name")],
            )
        kept = {
            key: value
            for key, value in metadata.items()
            if key not in {"managedFields", "selfLink", "resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds"}
            and value not in (None, {}, [])
        }
        fresh = {"name": name, **({"namespace": namespace} if namespace else {}), "uid": str(uuid.uuid4())}
        obj["metadata"] = metadata = kept | fresh | {"creationTimestamp": now_text()}
        obj["apiVersion"], obj["kind"] = kind.api_version, kind.kind
        return metadata

    def _check_namespace(self, kind: Kind, metadata: Object, namespace: str) -> None:
        found = self.state.table("namespaces").latest("", namespace)
        if found is None:
            raise not_found("", "namespaces", namespace)
        if found.decode().get("status", {}).get("phase") == "Terminating":
            cause = Cause("NamespaceTerminating", f"namespace {namespace} is being terminated", "metadata.namespace")
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            raise forbidden(kind.group, kind.plural, asked_name(metadata), why, [cause])

    def _check_preconditions(self, kind: Kind, old: Object, wanted: Object, item: Item, subresource: str, *, is_patch: bool) -> None:
        """What the client's object says about the one it means: name, namespace, uid, resource version."""
        metadata = wanted.get("metadata")
        if not isinstance(metadata, dict):
            metadata = wanted["metadata"] = {}
        name = metadata.get("name") or ""
        if not name:
            raise bad_request(f"the name of the object ({item.name} based on URL) was undeterminable: name must be provided")
        if name != item.name:
            raise bad_request(f"the name of the object ({name}) does not match the name on the URL ({item.name})")
        if kind.namespaced and metadata.get("namespace", item.namespace) not in {item.namespace, ""}:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
        uid = metadata.get("uid") or item.uid
        if uid != item.uid and not (kind.is_custom and subresource):
            if is_patch:
                cause = Cause("FieldValueInvalid", f'Invalid value: "{uid}": field is immutable', "metadata.uid")
                raise invalid(kind.group, kind.kind, item.name, [cause])
            why = (
                f"StorageError: invalid object, Code: 4, Key: /registry/{qualified(kind.group, kind.plural)}/{item.namespace}/{item.name}, "
            )
            why += (
                f"ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {uid}, UID in object meta: {item.uid}"
            )
            raise conflict(kind.group, kind.plural, item.name, why)
        version = metadata.get("resourceVersion") or ""
        if not version:
            if (kind.is_custom or kind.plural == "leases") and not is_patch:  # no unconditional update
                cause = Cause("FieldValueInvalid", "Invalid value: 0: must be specified for an update", "metadata.resourceVersion")
                raise invalid(kind.group, kind.plural, item.name, [cause])
            return
        if not str(version).isdecimal():
            raise internal(f'strconv.ParseUint: parsing "{version}": invalid syntax')
        if str(version) != str(item.version):
            raise conflict(kind.group, kind.plural, item.name)

    def _merged(self, kind: Kind, old: Object, wanted: Object, subresource: str) -> Object:
        """The new object: from the client what this write may change, from the old one the rest."""
        metadata = wanted["metadata"]
        if subresource == "status":
            new = {**old, "metadata": dict(old["metadata"])}
            new.pop("status", None)
            if wanted.get("status") is not None:
                new["status"] = wanted["status"]
            if not kind.is_custom:
                for key in ("labels", "annotations"):
                    new["metadata"].pop(key, None)
                    if metadata.get(key):
                        new["metadata"][key] = metadata[key]
            return new
        new = dict(wanted)
        if kind.has_status and subresource != "binding":
            new.pop("status", None)
            if "status" in old:
                new["status"] = old["status"]
        kept = {
            key: value
            for key, value in metadata.items()
            if key not in {*_KEPT, "managedFields", "selfLink"} and value not in (None, {}, [])
        }
        new["metadata"] = {key: old["metadata"][key] for key in ("name", "namespace", "uid") if key in old["metadata"]} | kept
        new["metadata"] |= {key: old["metadata"][key] for key in _KEPT if key in old["metadata"]}
        if "generateName" in old["metadata"]:
            new["metadata"]["generateName"] = old["metadata"]["generateName"]
        if kind.table == "namespaces" and subresource != "finalize":
            new["spec"] = {
                **(new.get("spec") or {}),
                **{key: value for key, value in (old.get("spec") or {}).items() if key == "finalizers"},
            }
        new["apiVersion"], new["kind"] = kind.api_version, kind.kind
        return new

    def _set_generation(self, kind: Kind, old: Object, new: Object) -> None:
        if not kind.has_generation:
            return
        if not equal(_counted(kind, old), _counted(kind, new)):
            new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1

    async def _to_storage(self, kind: Kind, obj: Object) -> Object:
        """The object in the version that is stored."""
        if kind.is_custom and kind.storage_version != kind.version:
            storage = self.registry.get(kind.group, kind.storage_version, kind.plural) or _unserved(kind)
            converted = (await self.views.converted(storage, [obj]))[0]
            if converted["metadata"].get("uid") != obj["metadata"].get("uid"):
                raise ApiError(500, f"conversion of {kind.kind} changed metadata.uid; the webhook must not", reason="InternalError")
            return converted
        if kind.table == "events" and kind.group:
            events = self.registry.get("", "v1", "events")
            assert events is not None
            return (await self.views.converted(events, [obj]))[0]
        return obj


def _counted(kind: Kind, obj: Object) -> Any:
    """The part of an object whose changes its generation counts."""
    if not kind.is_custom:
        return obj.get("spec")
    return {key: value for key, value in obj.items() if key != "metadata" and not (key == "status" and kind.has_status)}


def _unserved(kind: Kind) -> Kind:
    """The storage version of a kind, when that is not served."""
    return Kind(kind.group, kind.storage_version, kind.plural, kind.kind, namespaced=kind.namespaced, storage=kind.table,
                storage_version=kind.storage_version, is_custom=True)  # fmt: skip


def is_finished(kind: Kind, obj: Object) -> bool:
    """Whether an object on its way out has nothing left that holds it."""
    metadata = obj["metadata"]
    if "deletionTimestamp" not in metadata or metadata.get("finalizers"):
        return False
    if kind.table == "namespaces":
        return not (obj.get("spec") or {}).get("finalizers")
    return not metadata.get("deletionGracePeriodSeconds")


def _metadata_causes(old: Object, new: Object) -> list[Cause]:
    if "deletionTimestamp" not in old["metadata"]:
        return []
    added = [each for each in new["metadata"].get("finalizers", []) if each not in old["metadata"].get("finalizers", [])]
    if not added:
        return []
    shown = ", ".join(f'"{each}"' for each in added)
    why = f"Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{{{shown}}}"
    return [Cause("FieldValueForbidden", why, "metadata.finalizers")]
