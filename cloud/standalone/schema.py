"""Structural schemas of custom kinds at work: unknown fields pruned, defaults filled in, objects validated.

Source: Kubernetes API, CustomResourceDefinition: structural schemas, pruning, defaulting, ratcheting. The schema's own rules are in
`definitions`, the checks of single values in `schemachecks`. `x-kubernetes-validations` (CEL) is not evaluated.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from pinnace.cloud.standalone import schemachecks
from pinnace.cloud.standalone.schemachecks import ABSENT
from pinnace.cloud.standalone.status import Cause

Node = Mapping[str, Any]
_TYPE_MEMBERS = ("apiVersion", "kind", "metadata")
_MAX_INT32 = (1 << 31) - 1


class Schema:
    """The schema of one version. Objects are decoded JSON and are changed in place where a method says so."""

    def __init__(self, root: Node, subresources: Node) -> None:
        self._root = root
        self._has_status = "status" in subresources
        self._scale: Node = subresources.get("scale") or {}

    def prune(self, obj: dict[str, Any]) -> list[str]:
        """Remove what the schema does not know; the paths removed, sorted."""
        removed: list[str] = []
        _prune(obj, self._root, "", removed, is_resource=True)
        return sorted(removed)

    def default(self, obj: dict[str, Any]) -> None:
        """Fill in defaults; a null where none is allowed becomes the default, or goes."""
        _default(obj, self._root, is_root=True)

    def validate(self, obj: dict[str, Any], old: dict[str, Any] | None = None, subresource: str = "") -> list[Cause]:
        """What is wrong with the object. What an update leaves as it was is not held against it."""
        if subresource == "status":
            schema = (self._root.get("properties") or {}).get("status") or {}
            before = ABSENT if old is None else old.get("status", ABSENT)
            found = schemachecks.check(obj.get("status") or {}, schema, "status", "", before)
        else:
            found = schemachecks.check(obj, self._root, "", "", ABSENT if old is None else old)
        return [*found, *self._scale_causes(obj, subresource)]

    def _scale_causes(self, obj: dict[str, Any], subresource: str) -> Iterable[Cause]:
        for name, default in (("specReplicasPath", ".spec"), ("statusReplicasPath", ".status")):
            path = self._scale.get(name)
            if not path or (subresource == "status") is not (default == ".status"):
                continue
            value: Any = obj
            for part in path.lstrip(".").split("."):
                value = value.get(part) if isinstance(value, dict) else None
            if value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool):
                shown = f"{path} accessor error: {schemachecks.bare(value)} is of the type {schemachecks.go_type(value)}, expected int64"
                yield Cause("FieldValueInvalid", f"Invalid value: 0: {shown}", path)
            elif value < 0:
                yield Cause("FieldValueInvalid", f"Invalid value: {value}: should be a non-negative integer", path)
            elif value > _MAX_INT32:
                yield Cause("FieldValueInvalid", f"Invalid value: {value}: should be less than or equal to {_MAX_INT32}", path)


def compile(version: Mapping[str, Any]) -> Schema:
    """The schema of an entry of spec.versions."""
    root = (version.get("schema") or {}).get("openAPIV3Schema") or {"x-kubernetes-preserve-unknown-fields": True}
    return Schema(root, version.get("subresources") or {})


def _child(schema: Node, key: str) -> Node | bool:
    """The schema of a member; True for one that is allowed without, False for one the schema does not know."""
    properties = schema.get("properties") or {}
    if key in properties:
        found: Node = properties[key]
        return found
    rest = schema.get("additionalProperties")
    if isinstance(rest, Mapping):
        return rest
    return bool(rest)


def _prune(value: Any, schema: Node, path: str, removed: list[str], *, is_resource: bool) -> None:
    if isinstance(value, list):
        items = schema.get("items")
        for index, each in enumerate(value):
            _prune(each, items if isinstance(items, Mapping) else {}, f"{path}[{index}]", removed, is_resource=_is_resource(items))
        return
    if not isinstance(value, dict):
        return
    for key in list(value):
        if is_resource and key in _TYPE_MEMBERS:
            continue
        where = f"{path}.{key}" if path else key
        child = _child(schema, key)
        if isinstance(child, Mapping):
            _prune(value[key], child, where, removed, is_resource=_is_resource(child))
        elif not child and not schema.get("x-kubernetes-preserve-unknown-fields"):
            removed.append(where)
            del value[key]


def _is_resource(schema: Any) -> bool:
    return isinstance(schema, Mapping) and bool(schema.get("x-kubernetes-embedded-resource"))


def _default(value: Any, schema: Node, *, is_root: bool = False) -> None:
    if isinstance(value, list):
        items = schema.get("items")
        if not isinstance(items, Mapping):
            return
        for index, each in enumerate(value):
            if each is None and not items.get("nullable") and "default" in items:
                value[index] = copy.deepcopy(items["default"])
            _default(value[index], items)
        return
    if not isinstance(value, dict):
        return
    for key, child in (schema.get("properties") or {}).items():
        if is_root and key in _TYPE_MEMBERS:
            continue
        is_unwanted_null = key in value and value[key] is None and not child.get("nullable")
        if "default" in child and (key not in value or is_unwanted_null):
            value[key] = copy.deepcopy(child["default"])
        elif is_unwanted_null:
            del value[key]
    for key in list(value):
        below = _child(schema, key)
        if isinstance(below, Mapping) and not (is_root and key in _TYPE_MEMBERS):
            _default(value[key], below)
