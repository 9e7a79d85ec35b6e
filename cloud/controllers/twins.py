"""The twins of a device as the wire carries them to a node. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson

from pinnace.cloud.ports import Downlink, Object
from pinnace.core.base.contract.envelopes import Group, Operation, Source, new_id, now_ms
from pinnace.core.base.contract.keys import DeviceId, ResourceKey

TYPES: Final = {
    "INT": "int",
    "FLOAT": "float",
    "DOUBLE": "float",
    "STRING": "string",
    "BOOLEAN": "boolean",
    "BYTES": "string",
    "STREAM": "string",
}
"""A model property's type → the twin's type on the wire."""
DELETED: Final = "deleted"


def desired_twins(device: Object, model: Object | None, *, now: int) -> dict[str, Any]:
    """Property → twin for each property with a desired value. The version is the device's, the time is now (Unix milliseconds)."""
    version = int(device["metadata"].get("resourceVersion") or 0)
    types = model_types(model)
    twins = {}
    for each in (device.get("spec") or {}).get("properties") or ():
        desired = each.get("desired")
        if not isinstance(desired, dict) or desired.get("value") is None:
            continue
        kind = (desired.get("metadata") or {}).get("type") or types.get(each["name"], "string")
        twins[each["name"]] = {
            "expected": {"value": desired["value"], "metadata": {"timestamp": now}},
            "optional": False,
            "metadata": {"type": kind},
            "expected_version": {"cloud": version, "edge": 0},
        }
    return twins


def deleted_twins(names: Iterable[str], version: int) -> dict[str, Any]:
    """Twins whose desired value was taken away."""
    return {name: {"metadata": {"type": DELETED}, "expected_version": {"cloud": version, "edge": 0}} for name in names}


def model_types(model: Object | None) -> Mapping[str, str]:
    properties = ((model or {}).get("spec") or {}).get("properties") or ()
    return {each["name"]: TYPES.get(str(each.get("type", "")).upper(), "string") for each in properties if "name" in each}


def device_entry(device: Object, twins: Mapping[str, Any]) -> dict[str, Any]:
    """A device as `membership` names it."""
    metadata = device["metadata"]
    entry: dict[str, Any] = {"id": str(DeviceId(metadata["namespace"], metadata["name"])), "name": metadata["name"]}
    description = (metadata.get("labels") or {}).get("description")
    if description:
        entry["description"] = description
    if twins:
        entry["twin"] = dict(twins)
    return entry


def membership(*, added: list[dict[str, Any]] | None = None, removed: list[dict[str, Any]] | None = None) -> Downlink:
    """The `membership` message; it is not acknowledged."""
    content = {"event_id": new_id(), "timestamp": now_ms(), "added_devices": added, "removed_devices": removed}
    return _twin_message("membership", Operation.UPDATE, content)


def membership_detail(devices: list[dict[str, Any]]) -> Downlink:
    """The full list, as the answer to a node's `get membership/detail`; it must not have a parent id."""
    content = {"event_id": new_id(), "timestamp": now_ms(), "devices": devices}
    return _twin_message("membership/detail", Operation.RESPONSE, content)


def confirmation(parent_id: str) -> Downlink:
    """The answer that lets a node forget a report."""
    return _twin_message("twin", Operation.RESPONSE, "OK", parent_id)


def _twin_message(kind: str, operation: str, content: Any, parent_id: str = "") -> Downlink:
    return Downlink(
        key=ResourceKey(kind), operation=operation, body=orjson.dumps(content), source=Source.DEVICECONTROLLER, group=Group.TWIN,
        parent_id=parent_id, acknowledged=False,
    )  # fmt: skip
