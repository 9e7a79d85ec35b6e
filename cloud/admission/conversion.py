"""Device and DeviceModel between v1alpha1 (KubeEdge 1.1) and v1beta1 (stored). Pure, and lossless both ways.

What a version has no field for travels in an annotation (`residue.py`) and comes back when the object is read in its own version, as
long as the part it belongs to was not changed in the other one.

| v1alpha1 Device | v1beta1 Device |
|---|---|
| spec.deviceModelRef | spec.deviceModelRef |
| spec.nodeSelector, its first value | spec.nodeName (the selector stays in the annotation) |
| spec.protocol.modbus.tcp ... | spec.protocol {protocolName, configData} |
| status.twins[].desired | spec.properties[].desired |
| status.twins[].reported | status.twins[].reported |
| presence in status.twins | spec.properties[].reportToCloud: true |
| status.state and what else stands in status | the same |

| v1alpha1 DeviceModel | v1beta1 DeviceModel |
|---|---|
| properties[].type.int{accessMode, minimum, maximum, unit} | properties[].{type: INT, ...the same} (bounds as texts, 0 is absent) |
| properties[].type.*.defaultValue, propertyVisitors | the annotation |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from pinnace.cloud.admission.residue import V1ALPHA1, V1BETA1, read_residue, with_residue
from pinnace.cloud.ports import Object

GROUP: Final = "devices.kubeedge.io"
_TYPES: Final = {"int": "INT", "string": "STRING", "double": "DOUBLE", "float": "FLOAT", "boolean": "BOOLEAN", "bytes": "BYTES"}
_WORDS: Final = {word: key for key, word in _TYPES.items()}
_REPORTED_ONLY: Final[Object] = {"reportToCloud": True}
"""What a v1beta1 property says besides name and desired when it only stands for a v1alpha1 twin."""
_HOST_KEY: Final = "kubernetes.io/hostname"


def convert(obj: Object, version: str) -> Object:
    """`obj` (Device or DeviceModel) in another version of the group; itself when it is in that version. Raises ValueError."""
    source = str(obj.get("apiVersion", ""))
    target = f"{GROUP}/{version}"
    if source == target:
        return obj
    step = _STEPS.get((str(obj.get("kind", "")), source.removeprefix(f"{GROUP}/"), version))
    if step is None:
        raise ValueError(f"{obj.get('kind')} cannot be converted from {source} to {target}")
    return step(obj)


def _made(obj: Object, version: str, metadata: Object, **parts: Object | None) -> Object:
    made: Object = {"apiVersion": f"{GROUP}/{version}", "kind": obj["kind"], "metadata": metadata}
    return made | {name: part for name, part in parts.items() if part is not None}


def _part(obj: Mapping[str, Any], name: str) -> dict[str, Any]:
    part = obj.get(name)
    return part if isinstance(part, dict) else {}


def _without(part: Mapping[str, Any], *names: str) -> Object:
    return {name: value for name, value in part.items() if name not in names}


# ---------------------------------------------------------------------------------------------------------------- Device


def device_to_v1beta1(obj: Object) -> Object:
    old, status = _part(obj, "spec"), _part(obj, "status")
    back = read_residue(obj, V1BETA1)
    kept: Object = {name: old[name] for name in old if name not in {"deviceModelRef"}}
    spec: Object = dict(_part(back, "spec"))
    if "deviceModelRef" in old:
        spec["deviceModelRef"] = old["deviceModelRef"]
    _node_to_v1beta1(old, spec, kept, back)
    _protocol_to_v1beta1(old, spec, kept, back)
    twins = [each for each in status.get("twins") or () if isinstance(each, dict)]
    properties, shown, extra = _twins_to_v1beta1(twins, back)
    if properties or "properties" in _part(back, "spec") or back.get("hasProperties"):
        spec["properties"] = properties
    new_status: Object = _without(status, "twins")
    if shown or ("twins" in status and status["twins"] == []) or back.get("hasTwins"):
        new_status["twins"] = shown
    residue: Object = kept | ({"twins": extra} if extra else {})
    if "spec" not in obj:
        residue["hasNoSpec"] = True
    if "status" in obj and not new_status:
        residue["hasEmptyStatus"] = True
    if status.get("twins") == []:
        residue["hasEmptyTwins"] = True
    metadata = with_residue(obj["metadata"], V1ALPHA1, V1BETA1, residue)
    has_spec = bool(spec) or "spec" in obj
    has_status = bool(new_status) or bool(back.get("hasStatus"))
    return _made(obj, "v1beta1", metadata, spec=spec if has_spec else None, status=new_status if has_status else None)


def _node_to_v1beta1(old: Object, spec: Object, kept: Object, back: Object) -> None:
    selector = old.get("nodeSelector")
    name = _first_value(selector)
    if name and selector == _selector_for(name) and back.get("nodeName") == name:
        kept.pop("nodeSelector", None)
        spec["nodeName"] = name
    elif name:
        spec["nodeName"] = name
    elif "nodeName" in back and selector is None:
        spec["nodeName"] = back["nodeName"]


def _protocol_to_v1beta1(old: Object, spec: Object, kept: Object, back: Object) -> None:
    protocol = old.get("protocol")
    if isinstance(protocol, dict) and "protocol" in back and protocol_to_v1alpha1(back["protocol"]) == protocol:
        kept.pop("protocol", None)
        spec["protocol"] = back["protocol"]
    elif isinstance(protocol, dict):
        made = protocol_to_v1beta1(protocol)
        if made is not None:
            spec["protocol"] = made
    elif "protocol" in back and protocol_to_v1alpha1(back["protocol"]) is None:
        spec["protocol"] = back["protocol"]


def _twins_to_v1beta1(twins: list[Object], back: Object) -> tuple[list[Object], list[Object], Object]:
    """spec.properties, status.twins, and name → what v1alpha1 says of a twin besides (fields that neither version knows)."""
    rest: Object = _part(back, "properties")
    status_only = set(back.get("statusOnly") or ())
    bare = status_only | set(back.get("bare") or ())
    status_rest: Object = _part(back, "twins")
    properties: list[Object] = []
    shown: list[Object] = []
    extra: Object = {}
    names = [str(each.get("propertyName")) for each in twins]
    hidden = [name for name in back.get("order") or () if name not in names and _part(rest, name).get("isHidden")]
    properties += [{"name": name, **_part(rest[name], "fields")} for name in hidden]
    for twin in twins:
        name = twin.get("propertyName")
        desired, reported = twin.get("desired"), twin.get("reported")
        others = _without(twin, "propertyName", "desired", "reported")
        if others:
            extra[str(name)] = others
        if name not in status_only or desired is not None:
            entry: Object = {"name": name}
            if desired is not None:
                entry["desired"] = desired
            fields = _part(rest[str(name)], "fields") if isinstance(rest.get(str(name)), dict) else _REPORTED_ONLY
            properties.append(entry | fields)
        entry = {"propertyName": name} | _part(status_rest, str(name))
        if reported is not None:
            entry["reported"] = reported
        if len(entry) > 1 or name in bare:
            shown.append(entry)
    for name, each in rest.items():  # configured, and its twin taken away in v1alpha1: it stays without a desired value
        if name not in names and not each.get("isHidden") and each.get("fields") not in ({}, _REPORTED_ONLY):
            properties.append({"name": name, **_part(each, "fields")})
    order = {name: index for index, name in enumerate(back.get("order") or ())}
    properties.sort(key=lambda each: order.get(str(each["name"]), len(order)))
    return properties, shown, extra


def device_to_v1alpha1(obj: Object) -> Object:
    new, status = _part(obj, "spec"), _part(obj, "status")
    back = read_residue(obj, V1ALPHA1)
    own = {"twins", "hasNoSpec", "hasEmptyStatus", "hasEmptyTwins"}
    spec: Object = {name: value for name, value in back.items() if name not in {*own, "nodeSelector", "protocol"}}
    residue: Object = {}
    if "deviceModelRef" in new:
        spec["deviceModelRef"] = new["deviceModelRef"]
    _node_to_v1alpha1(new, spec, residue, back)
    _protocol_to_v1alpha1(new, spec, residue, back)
    twins = _twins_to_v1alpha1(new, status, residue, back)
    others = _without(new, "deviceModelRef", "nodeName", "protocol", "properties")
    if others:
        residue["spec"] = others
    if "properties" in new and not new["properties"]:
        residue["hasProperties"] = True
    if "twins" in status and not status["twins"] and not back.get("hasEmptyTwins"):
        residue["hasTwins"] = True
    new_status: Object = _without(status, "twins") | ({"twins": twins} if twins or back.get("hasEmptyTwins") else {})
    has_status = bool(new_status) or bool(back.get("hasEmptyStatus"))
    if "status" in obj and not status:
        residue["hasStatus"] = True
    has_spec = bool(spec) or ("spec" in obj and not back.get("hasNoSpec"))
    metadata = with_residue(obj["metadata"], V1BETA1, V1ALPHA1, residue)
    return _made(obj, "v1alpha1", metadata, spec=spec if has_spec else None, status=new_status if has_status else None)


def _node_to_v1alpha1(new: Object, spec: Object, residue: Object, back: Object) -> None:
    name = new.get("nodeName")
    selector = back.get("nodeSelector")
    if selector is not None and _first_value(selector) == (name or ""):
        spec["nodeSelector"] = selector
    elif name:
        spec["nodeSelector"] = _selector_for(name)
        residue["nodeName"] = name
    elif name is not None:
        residue["nodeName"] = name


def _protocol_to_v1alpha1(new: Object, spec: Object, residue: Object, back: Object) -> None:
    protocol = new.get("protocol")
    kept = back.get("protocol")
    if "protocol" in back and (protocol_to_v1beta1(kept) if isinstance(kept, dict) else None) == protocol:
        spec["protocol"] = kept
    elif isinstance(protocol, dict):
        residue["protocol"] = protocol
        made = protocol_to_v1alpha1(protocol)
        if made is not None:
            spec["protocol"] = made


def _twins_to_v1alpha1(new: Object, status: Object, residue: Object, back: Object) -> list[Object]:
    reported = {each.get("propertyName"): each for each in status.get("twins") or ()}
    extra = _part(back, "twins")
    twins: list[Object] = []
    rest: Object = {}
    properties = [each for each in new.get("properties") or () if isinstance(each, dict)]
    for each in properties:
        name = each.get("name")
        fields = _without(each, "name", "desired")
        entry = reported.pop(name, {})
        if entry.keys() == {"propertyName"}:
            residue.setdefault("bare", []).append(name)
        is_hidden = "desired" not in each and not entry and not each.get("reportToCloud")
        if fields != _REPORTED_ONLY:
            rest[str(name)] = {"fields": fields} | ({"isHidden": True} if is_hidden else {})
        if not is_hidden:
            twins.append(_twin(name, each.get("desired"), entry, residue) | _part(extra, str(name)))
    if reported:
        residue["statusOnly"] = list(reported)
        twins += [_twin(name, None, entry, residue) | _part(extra, str(name)) for name, entry in reported.items()]
    if rest:
        residue["properties"] = rest
        residue["order"] = [each.get("name") for each in properties]
    return twins


def _twin(name: Any, desired: Any, entry: Object, residue: Object) -> Object:
    twin: Object = {"propertyName": name}
    if desired is not None:
        twin["desired"] = desired
    if "reported" in entry:
        twin["reported"] = entry["reported"]
    others = _without(entry, "propertyName", "reported")
    if others:
        residue.setdefault("twins", {})[str(name)] = others
    return twin


def _first_value(selector: Any) -> str:
    for term in _part({"selector": selector}, "selector").get("nodeSelectorTerms") or ():
        for expression in term.get("matchExpressions") or ():
            for value in expression.get("values") or ():
                return str(value)
    return ""


def _selector_for(name: str) -> Object:
    return {"nodeSelectorTerms": [{"matchExpressions": [{"key": _HOST_KEY, "operator": "In", "values": [name]}]}]}


def protocol_to_v1beta1(protocol: Mapping[str, Any]) -> Object | None:
    """A v1alpha1 protocol section as protocol name and flat settings; None when it names none."""
    modbus = protocol.get("modbus")
    if isinstance(modbus, dict):
        way = next((each for each in ("rtu", "tcp") if isinstance(modbus.get(each), dict)), "")
        return {"protocolName": f"modbus-{way}" if way else "modbus", "configData": dict(_part(modbus, way))}
    for name in ("opcua", "bluetooth"):
        if isinstance(protocol.get(name), dict):
            return {"protocolName": name, "configData": dict(protocol[name])}
    return None


def protocol_to_v1alpha1(protocol: Any) -> Object | None:
    """The inverse; None for a protocol that v1alpha1 does not know."""
    if not isinstance(protocol, dict):
        return None
    name, settings = str(protocol.get("protocolName", "")), dict(_part(protocol, "configData"))
    match name:
        case "modbus-rtu" | "modbus-tcp":
            return {"modbus": {name.removeprefix("modbus-"): settings}}
        case "modbus":
            return {"modbus": {"tcp" if "ip" in settings else "rtu": settings}} if settings else {"modbus": {}}
        case "opcua" | "bluetooth":
            return {name: settings}
        case _:
            return None


# ----------------------------------------------------------------------------------------------------------- DeviceModel


def model_to_v1beta1(obj: Object) -> Object:
    old = _part(obj, "spec")
    back = read_residue(obj, V1BETA1)
    spec: Object = dict(_part(back, "spec"))
    rest: Object = _part(back, "properties")
    types: Object = {}
    others: Object = {}
    properties = []
    for each in old.get("properties") or ():
        name = str(each.get("name"))
        entry = _without(each, "type")
        known: Object = {field: entry[field] for field in ("name", "description") if field in entry}
        unknown = _without(entry, "name", "description")
        if unknown:
            others[name] = unknown
        was = rest.get(name)
        if isinstance(was, dict) and type_to_v1alpha1(was) == each.get("type"):
            properties.append(known | was)
            continue
        properties.append(known | type_to_v1beta1(each.get("type")))
        if "type" in each:
            types[name] = each["type"]
    if "properties" in old:
        spec["properties"] = properties
    residue = _without(old, "properties") | ({"types": types} if types else {}) | ({"others": others} if others else {})
    if "spec" not in obj:
        residue["hasNoSpec"] = True
    metadata = with_residue(obj["metadata"], V1ALPHA1, V1BETA1, residue)
    return _made(obj, "v1beta1", metadata, spec=spec if spec or "spec" in obj else None, status=obj.get("status"))


def model_to_v1alpha1(obj: Object) -> Object:
    new = _part(obj, "spec")
    back = read_residue(obj, V1ALPHA1)
    types, others = _part(back, "types"), _part(back, "others")
    spec: Object = {name: value for name, value in back.items() if name not in {"types", "others", "hasNoSpec"}}
    rest: Object = {}
    properties = []
    for each in new.get("properties") or ():
        name = str(each.get("name"))
        entry: Object = {field: each[field] for field in ("name", "description") if field in each}
        fields = _without(each, "name", "description")
        if name in types and type_to_v1beta1(types[name]) == fields:
            entry["type"] = types[name]
        elif fields:
            rest[name] = fields
            made = type_to_v1alpha1(fields)
            if made is not None:
                entry["type"] = made
        properties.append(entry | _part(others, name))
    if "properties" in new:
        spec["properties"] = properties
    residue: Object = {"properties": rest} if rest else {}
    unknown = _without(new, "properties")
    if unknown:
        residue["spec"] = unknown
    metadata = with_residue(obj["metadata"], V1BETA1, V1ALPHA1, residue)
    has_spec = bool(spec) or ("spec" in obj and not back.get("hasNoSpec"))
    return _made(obj, "v1alpha1", metadata, spec=spec if has_spec else None, status=obj.get("status"))


def type_to_v1beta1(section: Any) -> Object:
    """A v1alpha1 `type` as v1beta1's flat fields; the default value has none."""
    found = [(key, value) for key, value in section.items() if key in _TYPES] if isinstance(section, dict) else []
    if len(found) != 1:
        return {}
    key, value = found[0]
    settings = value if isinstance(value, dict) else {}
    made: Object = {"type": _TYPES[key]}
    if settings.get("accessMode"):
        made["accessMode"] = settings["accessMode"]
    for bound in ("minimum", "maximum"):
        if settings.get(bound):
            made[bound] = str(settings[bound])
    if settings.get("unit"):
        made["unit"] = settings["unit"]
    return made


def type_to_v1alpha1(fields: Mapping[str, Any]) -> Object | None:
    """The inverse for the types v1alpha1's mappers know; numbers that are none are left out."""
    word = _WORDS.get(str(fields.get("type", "")))
    if word is None:
        return None
    settings: Object = {"accessMode": fields["accessMode"]} if fields.get("accessMode") else {}
    if word in {"int", "double", "float"}:
        for bound in ("minimum", "maximum"):
            number = _number(fields.get(bound), word)
            if number is not None:
                settings[bound] = number
        if fields.get("unit"):
            settings["unit"] = fields["unit"]
    return {word: settings}


def _number(text: Any, word: str) -> int | float | None:
    try:
        return int(text) if word == "int" else float(text)
    except (TypeError, ValueError):
        return None


_STEPS: Final[Mapping[tuple[str, str, str], Callable[[Object], Object]]] = {
    ("Device", "v1alpha1", "v1beta1"): device_to_v1beta1,
    ("Device", "v1beta1", "v1alpha1"): device_to_v1alpha1,
    ("DeviceModel", "v1alpha1", "v1beta1"): model_to_v1beta1,
    ("DeviceModel", "v1beta1", "v1alpha1"): model_to_v1alpha1,
}
