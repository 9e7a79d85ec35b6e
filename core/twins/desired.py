"""What the cloud wants of a device, out of its Device object or a membership message. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson

from pinnace.core.base.contract.keys import DeviceId
from pinnace.core.base.contract.topics import parse_device_path
from pinnace.core.base.contract.twin import TWIN_TYPES

_TYPE_WORDS: Final = frozenset({*TWIN_TYPES.values(), "integer", "deleted"})


class Wanted(NamedTuple):
    """A Device object (devices.kubeedge.io v1beta1, or v1alpha1/2 as upstream sent it before 1.15). `version` is its resource version, -1
    when it has none that is a number; `payload` are all its desired values in the shape of a twin update."""

    uid: str
    description: str
    version: int
    payload: bytes


class Member(NamedTuple):
    """A device of a membership message; `payload` are the twins that came with it, b"" for none."""

    id: DeviceId
    description: str
    payload: bytes


def wanted_of(device: Mapping[str, Any], model: Mapping[str, Any] | None, *, version: str = "") -> Wanted:
    """Read a Device object; `version` stands in for a missing resource version. Raises ValueError when it is none."""
    metadata, spec = _part(device, "metadata"), _part(device, "spec")
    types = _model_types(model)
    twins: dict[str, Any] = {}
    for name, desired in _desired(device, spec):
        text = _text(desired.get("value"))
        if text is None:
            continue
        kind = str(_part(desired, "metadata").get("type") or "")
        word = TWIN_TYPES.get(kind.upper(), kind if kind in _TYPE_WORDS else types.get(name, "string"))
        twins[name] = {"expected": {"value": text}, "optional": False, "metadata": {"type": word}}
    number = str(metadata.get("resourceVersion") or version)
    return Wanted(
        uid=str(metadata.get("uid") or ""),
        description=str(_part(metadata, "labels").get("description") or ""),
        version=int(number) if number.isdecimal() and len(number) < 19 else -1,
        payload=orjson.dumps({"twin": twins}),
    )


def model_name(device: Mapping[str, Any]) -> str:
    """The name of a Device's model, "" when it names none."""
    return str(_part(_part(device, "spec"), "deviceModelRef").get("name") or "")


def members_of(devices: Any, event_id: str) -> tuple[list[Member], list[str]]:
    """The devices of a membership message, and a reason for each entry that is none."""
    found, refused = [], []
    for entry in devices if isinstance(devices, list) else ():
        if not isinstance(entry, dict):
            refused.append("a device must be an object")
            continue
        try:
            identity = parse_device_path(str(entry.get("id") or entry.get("name") or ""))
            twins = entry.get("twin")
            payload = orjson.dumps({"event_id": event_id, "twin": twins}) if isinstance(twins, dict) else b""
            found.append(Member(identity, str(entry.get("description") or ""), payload))
        except ValueError as error:
            refused.append(str(error))
    return found, refused


def _desired(device: Mapping[str, Any], spec: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    if isinstance(spec.get("properties"), list):
        listed, key = spec["properties"], "name"
    else:
        listed, key = _part(device, "status").get("twins"), "propertyName"
    return [
        (each[key], each["desired"])
        for each in (listed if isinstance(listed, list) else ())
        if isinstance(each, dict) and isinstance(each.get(key), str) and isinstance(each.get("desired"), dict)
    ]


def _model_types(model: Mapping[str, Any] | None) -> dict[str, str]:
    found = {}
    properties = _part(model or {}, "spec").get("properties")
    for each in properties if isinstance(properties, list) else ():
        if isinstance(each, dict) and isinstance(each.get("name"), str):
            kind = each.get("type")
            word = next(iter(kind), "") if isinstance(kind, dict) else str(kind or "")
            found[each["name"]] = TWIN_TYPES.get(word.upper(), "string")
    return found


def _text(value: Any) -> str | None:
    """A desired value as the text a twin holds; None when there is none."""
    if value is None or isinstance(value, str):
        return value
    return orjson.dumps(value).decode()


def _part(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = value.get(name)
    return part if isinstance(part, dict) else {}
