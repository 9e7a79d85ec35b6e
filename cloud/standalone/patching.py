"""The three kinds of patch: JSON Patch (RFC 6902), JSON Merge Patch (RFC 7386) and strategic merge patch (Kubernetes API, update in place).

Strategic patches know the types: lists of some fields merge by a key, the rest is replaced. Their directives are `$patch` (in maps and list
elements), `$retainKeys`, `$setElementOrder/FIELD` and `$deleteFromPrimitiveList/FIELD`. Nothing here changes what it is given.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import jsonpatch
import jsonpointer
import orjson

from pinnace.cloud.standalone.kinds import Kind
from pinnace.cloud.standalone.negotiation import MAX_BODY
from pinnace.cloud.standalone.status import ApiError, bad_request, internal
from pinnace.cloud.standalone.typetable import field_type, type_name

MAX_OPERATIONS = 10_000
_ORDER = "$setElementOrder/"
_DELETE = "$deleteFromPrimitiveList/"
_RETAIN = "$retainKeys"
_PATCH = "$patch"
_SET = ""
"""The merge key of a list of plain values that is merged as a set."""

_CONTAINER = {"ports": "containerPort", "env": "name", "volumeMounts": "mountPath", "volumeDevices": "devicePath"}
MERGE_KEYS: Mapping[str, Mapping[str, str]] = {
    "core.v1.PodSpec": {
        "containers": "name", "initContainers": "name", "ephemeralContainers": "name", "volumes": "name", "imagePullSecrets": "name",
        "hostAliases": "ip", "topologySpreadConstraints": "topologyKey", "resourceClaims": "name", "schedulingGates": "name",
    },
    "core.v1.Container": _CONTAINER,
    "core.v1.EphemeralContainer": _CONTAINER,
    "core.v1.PodStatus": {"conditions": "type", "podIPs": "ip", "hostIPs": "ip", "resourceClaimStatuses": "name"},
    "core.v1.ServiceSpec": {"ports": "port"},
    "core.v1.ServiceStatus": {"conditions": "type"},
    "core.v1.ServiceAccount": {"secrets": "name"},
    "core.v1.NodeSpec": {"podCIDRs": _SET},
    "core.v1.NodeStatus": {"conditions": "type", "addresses": "type"},
    "core.v1.NamespaceStatus": {"conditions": "type"},
    "core.v1.PersistentVolumeClaimStatus": {"conditions": "type"},
    "apps.v1.DeploymentStatus": {"conditions": "type"},
    "apps.v1.DaemonSetStatus": {"conditions": "type"},
    "apps.v1.ReplicaSetStatus": {"conditions": "type"},
    "meta.v1.ObjectMeta": {"ownerReferences": "uid", "finalizers": _SET},
}  # fmt: skip
"""Type → its lists that merge → the key their elements are told apart by."""


def apply_json(obj: dict[str, Any], operations: list[Any]) -> dict[str, Any]:
    """Raises ApiError 422 for an operation that cannot be done, 413 for too many of them."""
    if len(operations) > MAX_OPERATIONS:
        why = f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {len(operations)}"
        raise ApiError(413, f"Request entity is too large: {why}", reason="RequestEntityTooLarge", details={})
    if not all(isinstance(operation, dict) for operation in operations):
        raise bad_request(
            "error decoding patch: json: cannot unmarshal a value that is no object into Go value of type handlers.jsonPatchOp"
        )
    result: Any = copy.deepcopy(obj)
    copied = 0
    try:
        for operation in operations:
            if operation.get("op") == "copy":
                copied += len(orjson.dumps(jsonpointer.resolve_pointer(result, operation["from"])))
                if copied > MAX_BODY:
                    raise _cannot_be_done()
            result = jsonpatch.apply_patch(result, [_lenient(result, operation)], in_place=True)
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException, KeyError, TypeError, ValueError, AttributeError) as error:
        raise _cannot_be_done() from error
    return result  # type: ignore[no-any-return]  # what is no object is refused by the caller, in the API's words


def _cannot_be_done() -> ApiError:
    return ApiError(422, "the server rejected our request due to an error in our request", details={})


def _lenient(document: Any, operation: dict[str, Any]) -> dict[str, Any]:
    """`replace` of a member that is not there adds it, as Kubernetes does; values are copied, so that the patch stays as it is."""
    operation = copy.deepcopy(operation)
    if operation.get("op") != "replace" or not operation.get("path"):
        return operation
    parent, key = jsonpointer.JsonPointer(operation["path"]).to_last(document)
    return {**operation, "op": "add"} if isinstance(parent, dict) and key not in parent else operation


def apply_merge(obj: Any, patch: Any) -> Any:
    """RFC 7386: null deletes, maps merge, everything else is replaced."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(obj) if isinstance(obj, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = apply_merge(result.get(key), value)
    return result


def apply_strategic(obj: dict[str, Any], patch: dict[str, Any], kind: Kind) -> dict[str, Any]:
    """Raises ApiError 500 for a directive or list element the API cannot make sense of, in its words."""
    return _merge_maps(obj, copy.deepcopy(patch), type_name(kind))


def _merge_maps(original: Mapping[str, Any], patch: dict[str, Any], owner: str) -> dict[str, Any]:
    """`patch` is ours to change; `owner` is the type of both."""
    if _PATCH in patch:
        directive = patch.pop(_PATCH)
        if directive == "replace":
            return patch
        if directive == "delete":
            return {}
        raise _unknown_directive(directive, patch)
    result = dict(original)
    _retain(result, patch)
    for key in [key for key in patch if key.startswith(_ORDER)]:
        _reorder(result, patch, key, owner)
    for key, value in patch.items():
        if key.startswith(_DELETE):
            field = key.removeprefix(_DELETE)
            unwanted = value if isinstance(value, list) else []
            if isinstance(result.get(field), list):
                result[field] = [each for each in result[field] if each not in unwanted]
        elif value is None:
            result.pop(key, None)
        elif key not in result:
            result[key] = _cleaned(value)
        else:
            result[key] = _merge_values(result[key], value, owner, key)
    return result


def _merge_values(original: Any, value: Any, owner: str, field: str) -> Any:
    kind = field_type(owner, field)
    if isinstance(original, dict) and isinstance(value, dict):
        return _merge_maps(original, value, kind.removeprefix("{}"))
    key = MERGE_KEYS.get(owner, {}).get(field)
    if isinstance(original, list) and isinstance(value, list) and key is not None:
        return _merge_lists(original, value, key, kind.removeprefix("[]"))
    return value


def _merge_lists(original: list[Any], patch: list[Any], key: str, owner: str) -> list[Any]:
    if key == _SET:
        merged = list(original)
        merged += [each for each in patch if each not in original]
        return _ordered(merged, patch, original, key)
    original, patch = _without_directives(original, patch, key)
    merged = list(original)
    for each in patch:
        identity = _identity(each, key)
        index = next((index for index, old in enumerate(merged) if isinstance(old, dict) and old.get(key) == identity), None)
        if index is None:
            merged.append(_cleaned(each))
        else:
            merged[index] = _merge_maps(merged[index], dict(each), owner)
    return _ordered(merged, patch, original, key)


def _without_directives(original: list[Any], patch: list[Any], key: str) -> tuple[list[Any], list[Any]]:
    """Carry out the elements that are directives; what is left of both lists."""
    plain = []
    is_replaced = False
    for each in patch:
        directive = each.get(_PATCH) if isinstance(each, dict) else None
        if directive is None:
            plain.append(each)
        elif directive == "delete":
            unwanted = _identity(each, key)
            original = [old for old in original if not (isinstance(old, dict) and old.get(key) == unwanted)]
        elif directive == "replace":
            is_replaced = True
        elif directive == "merge":
            raise internal("merging lists cannot yet be specified in the patch")
        else:
            raise _unknown_directive(directive, {name: value for name, value in each.items() if name != _PATCH})
    return ([], plain) if is_replaced else (original, plain)


def _identity(element: Any, key: str) -> Any:
    if not isinstance(element, dict) or key not in element:
        raise internal(f"map: {_go(element)} does not contain declared merge key: {key}")
    return element[key]


def _ordered(merged: list[Any], order: list[Any], server: list[Any], key: str) -> list[Any]:
    """Elements the patch names in its order, the rest in the server's; where neither says which is first, the patch's come first."""

    def name(element: Any) -> Any:
        return element.get(key) if key and isinstance(element, dict) else element

    wanted = [name(each) for each in order]
    before = [name(each) for each in server]
    named = sorted((each for each in merged if name(each) in wanted), key=lambda each: wanted.index(name(each)))
    others = [each for each in merged if name(each) not in wanted]
    result = []
    while named and others:
        is_other_first = name(named[0]) in before and before.index(name(others[0])) < before.index(name(named[0]))
        result.append((others if is_other_first else named).pop(0))
    return [*result, *named, *others]


def _reorder(result: dict[str, Any], patch: dict[str, Any], directive: str, owner: str) -> None:
    """Carry out one `$setElementOrder/FIELD` together with the patch's own list of that field; both leave the patch."""
    order = patch.pop(directive)
    field = directive.removeprefix(_ORDER)
    key = MERGE_KEYS.get(owner, {}).get(field)
    if key is None or not isinstance(order, list):
        return
    server = result.get(field)
    wanted = patch.pop(field, None)
    removed = patch.pop(_DELETE + field, None) or []
    server = [each for each in server if each not in removed] if isinstance(server, list) else None
    if server is None and wanted is None:
        return
    if not isinstance(wanted, list):
        merged = server or []
    elif server is None:
        merged = _cleaned(wanted)
    else:
        merged = _merge_lists(server, wanted, key, field_type(owner, field).removeprefix("[]"))
    for each in order if key else ():
        _identity(each, key)
    result[field] = _ordered(merged, order, server or [], key)


def _retain(result: dict[str, Any], patch: dict[str, Any]) -> None:
    """Drop from the result what `$retainKeys` does not name."""
    kept = patch.pop(_RETAIN, None)
    if kept is None:
        return
    if not isinstance(kept, list) or any(key not in kept for key, value in patch.items() if not key.startswith("$") and value is not None):
        raise internal("invalid patch format of $retainKeys: it must name every field that the patch sets")
    for key in [key for key in result if key not in kept]:
        del result[key]


def _cleaned(value: Any) -> Any:
    """A value taken over as new: without directives and nulls."""
    if isinstance(value, dict):
        return {key: _cleaned(each) for key, each in value.items() if each is not None and not _is_directive(key)}
    if isinstance(value, list):
        return [_cleaned(each) for each in value if not (isinstance(each, dict) and each.get(_PATCH) in {"delete", "replace"})]
    return value


def _is_directive(key: str) -> bool:
    return key in {_PATCH, _RETAIN} or key.startswith((_ORDER, _DELETE))


def _unknown_directive(directive: Any, rest: dict[str, Any]) -> ApiError:
    return internal(f"unknown patch type: {_go(directive)} in map: {_go({_PATCH: directive, **rest})}")


def _go(value: Any) -> str:
    """A value as Go prints it with %v."""
    match value:
        case dict():
            return f"map[{' '.join(f'{key}:{_go(value[key])}' for key in sorted(value))}]"
        case list():
            return f"[{' '.join(map(_go, value))}]"
        case bool():
            return "true" if value else "false"
        case None:
            return "<nil>"
        case _:
            return str(value)
