"""Server-side tables: the columns of each kind and one object's cells (Kubernetes API, meta.k8s.io/v1 Table)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from pinnace.cloud.standalone import cells as built_in
from pinnace.cloud.standalone import jsonpath
from pinnace.cloud.standalone.ages import age
from pinnace.cloud.standalone.kinds import Kind

_WORKLOAD = "Age Containers* Images* Selector*"
COLUMNS: Mapping[str, str] = {
    "configmaps": "Data Age",
    "controllerrevisions.apps": "Controller Revision Age",
    "customresourcedefinitions.apiextensions.k8s.io": "Created_At:date",
    "daemonsets.apps": "Desired:integer Current:integer Ready:integer Up-to-date:integer Available:integer Node_Selector " + _WORKLOAD,
    "deployments.apps": "Ready Up-to-date Available " + _WORKLOAD,
    "endpoints": "Endpoints Age",
    "endpointslices.discovery.k8s.io": "AddressType Ports Endpoints Age",
    "leases.coordination.k8s.io": "Holder Age",
    "namespaces": "Status Age",
    "nodes": "Status Roles Age Version Internal-IP* External-IP* OS-Image* Kernel-Version* Container-Runtime*",
    "persistentvolumeclaims": "Status Volume Capacity Access_Modes StorageClass VolumeAttributesClass Age VolumeMode*",
    "persistentvolumes": "Capacity Access_Modes Reclaim_Policy Status Claim StorageClass VolumeAttributesClass Reason Age VolumeMode*",
    "pods": "Ready Status Restarts Age IP* Node* Nominated_Node* Readiness_Gates*",
    "replicasets.apps": "Desired:integer Current:integer Ready:integer " + _WORKLOAD,
    "secrets": "Type Data Age",
    "serviceaccounts": "Age",
    "services": "Type Cluster-IP External-IP Port(s) Age Selector*",
    "storageclasses.storage.k8s.io": "Provisioner ReclaimPolicy VolumeBindingMode AllowVolumeExpansion Age",
}
"""Table → its columns after Name: `_` is a space, `*` marks those of -o wide, `:` begins a type other than string."""

EVENTS = "Last_Seen Type Reason Object Subobject* Source* Message First_Seen* Count*"
_NAME = {"name": "Name", "type": "string", "format": "name", "description": "", "priority": 0}
_AGE = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}


def _column(text: str) -> dict[str, Any]:
    name, _, kind = text.rstrip("*").partition(":")
    priority = 1 if text.endswith("*") else 0
    return {"name": name.replace("_", " "), "type": kind or "string", "format": "", "description": "", "priority": priority}


def _printed(kind: Kind) -> Sequence[Mapping[str, Any]]:
    """A custom version's additionalPrinterColumns; Age when it names none."""
    return kind.definition.get("additionalPrinterColumns") or (_AGE,)


def columns(kind: Kind) -> list[dict[str, Any]]:
    """The columnDefinitions of a kind's table."""
    if kind.is_custom:
        listed = []
        for each in _printed(kind):
            default = f"Custom resource definition column (in JSONPath format): {each.get('jsonPath', '')}"
            description = each.get("description") or default
            shape = {"type": each.get("type", ""), "format": each.get("format", ""), "description": description}
            listed.append({"name": each.get("name", ""), **shape, "priority": each.get("priority", 0)})
        return [_NAME, *listed]
    if kind.table == "events":
        return [*map(_column, EVENTS.split()), {**_NAME, "priority": 1}]
    return [_NAME, *map(_column, COLUMNS.get(kind.table, "Age").split())]


def cells(kind: Kind, obj: dict[str, Any], now: float) -> list[Any]:
    """The cells of one object's row; `now` in seconds since 1970. Never raises for an object that passed validation."""
    if kind.is_custom:
        return [obj["metadata"].get("name", ""), *(_custom(obj, each, now) for each in _printed(kind))]
    if kind.table == "events":
        return built_in.event(obj, now)
    make = built_in.BY_TABLE.get(kind.table)
    rest = make(obj, now) if make is not None else [age(obj["metadata"].get("creationTimestamp"), now)]
    return [built_in.name(kind.table, obj), *rest]


def _custom(obj: dict[str, Any], column: Mapping[str, Any], now: float) -> Any:
    """The cell of a printer column: the first value at its path, null where the type does not fit."""
    try:
        values = jsonpath.compiled(column.get("jsonPath", ""))(obj)
    except jsonpath.BadPath:
        return None
    value = values[0] if values else None
    match column.get("type"):
        case "date":
            return age(value, now) if isinstance(value, str) else None
        case "string":
            return None if not values else _text(value)
        case "integer":
            return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
        case "number":
            return value if isinstance(value, int | float) and not isinstance(value, bool) else None
        case "boolean":
            return value if isinstance(value, bool) else None
        case _:
            return None


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else orjson.dumps(value).decode()
