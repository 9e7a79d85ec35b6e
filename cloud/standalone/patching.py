"""Patches (interim)."""

from __future__ import annotations

from typing import Any

import jsonpatch

from pinnace.cloud.standalone.kinds import Kind
from pinnace.cloud.standalone.status import ApiError

_KEYS = {"containers": "name", "initContainers": "name", "volumes": "name", "env": "name", "conditions": "type", "addresses": "type"}


def apply_json(obj: dict[str, Any], operations: list[Any]) -> dict[str, Any]:
    try:
        result: dict[str, Any] = jsonpatch.apply_patch(obj, operations)
    except Exception as error:
        raise ApiError(422, "the server rejected our request due to an error in our request", details={}) from error
    return result


def apply_merge(obj: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    result = dict(obj) if isinstance(obj, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = apply_merge(result.get(key), value)
    return result


def apply_strategic(obj: Any, patch: Any, kind: Kind, field: str = "") -> Any:
    if isinstance(patch, list) and field in _KEYS and isinstance(obj, list):
        key = _KEYS[field]
        merged = {each[key]: each for each in obj}
        for each in patch:
            if each.get("$patch") == "delete":
                merged.pop(each[key], None)
            else:
                merged[each[key]] = apply_strategic(merged.get(each[key]), each, kind)
        return list(merged.values())
    if not isinstance(patch, dict):
        return patch
    result = dict(obj) if isinstance(obj, dict) else {}
    for key, value in patch.items():
        if key.startswith("$"):
            continue
        if value is None:
            result.pop(key, None)
        else:
            result[key] = apply_strategic(result.get(key), value, kind, key)
    return result
