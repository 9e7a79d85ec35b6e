"""What one version of an object has and the other has no field for, kept in an annotation so that nothing is lost on the way back."""

from __future__ import annotations

from typing import Any, Final

import orjson

from pinnace.cloud.ports import Object

V1ALPHA1: Final = "devices.kubeedge.io/v1alpha1"
"""Annotation of a v1beta1 object: what only v1alpha1 says, as JSON text."""
V1BETA1: Final = "devices.kubeedge.io/v1beta1"
"""Annotation of a v1alpha1 object: what only v1beta1 says, as JSON text."""


def read_residue(obj: Object, key: str) -> dict[str, Any]:
    """The residue under an annotation; {} when there is none or somebody spoiled it."""
    text = (obj.get("metadata") or {}).get("annotations", {}) or {}
    try:
        value = orjson.loads(text.get(key) or "{}")
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def with_residue(metadata: Object, key: str, other: str, residue: dict[str, Any]) -> Object:
    """The metadata with the residue under `key` (no annotation when it is empty) and without the annotation `other`."""
    annotations = {name: value for name, value in (metadata.get("annotations") or {}).items() if name not in {key, other}}
    if residue:
        annotations[key] = orjson.dumps(residue, option=orjson.OPT_SORT_KEYS).decode()
    made = {name: value for name, value in metadata.items() if name != "annotations"}
    if annotations or metadata.get("annotations") == {}:
        made["annotations"] = annotations
    return made
