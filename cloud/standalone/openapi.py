"""OpenAPI v2 and v3 of what is served: for client-side validation and `kubectl explain`, and for clients to see what the server supports.

v2 is a protobuf document (gnostic's openapi.v2, the only form clients ask for); v3 is one JSON document for each API version. Neither
describes built-in fields in words. Source: Kubernetes API, OpenAPI; openapi_v2.proto for the field numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from pinnace.cloud.standalone.kinds import Kind
from pinnace.cloud.standalone.patching import MERGE_KEYS
from pinnace.cloud.standalone.typetable import table, type_name

Node = Mapping[str, Any]
GVK = "x-kubernetes-group-version-kind"
_META = "meta.v1.ObjectMeta"
_PACKAGES = {
    "apiextensions.v1": "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1",
    "meta.v1": "io.k8s.apimachinery.pkg.apis.meta.v1",
}
_PLAIN: Mapping[str, Node] = {
    "string": {"type": "string"},
    "bytes": {"type": "string", "format": "byte"},
    "bool": {"type": "boolean"},
    "int32": {"type": "integer", "format": "int32"},
    "int64": {"type": "integer", "format": "int64"},
    "double": {"type": "number", "format": "double"},
    "time": {"type": "string", "format": "date-time"},
    "microtime": {"type": "string", "format": "date-time"},
    "quantity": {"type": "string"},
    "int-or-string": {"type": "string", "format": "int-or-string"},
    "any": {"description": "Any value."},
}
_QUERY = ("dryRun", "fieldManager", "fieldValidation")
_OPEN = ("x-kubernetes-preserve-unknown-fields", "x-kubernetes-int-or-string", "nullable")


def v2(kinds: Sequence[Kind]) -> bytes:
    """The v2 document of all served kinds, in protobuf."""
    names = _reachable(kind for kind in kinds if not kind.is_custom)
    definitions = {_name(each): _type_node(each, "#/definitions/") for each in sorted(names)}
    for kind in kinds:
        definitions |= _custom_node(kind, "#/definitions/", is_v2=True) if kind.is_custom else {}
        _mark(definitions, kind)
    return _document(_paths(kinds), definitions)


def v3_index(kinds: Sequence[Kind]) -> dict[str, Any]:
    """The list of v3 documents, each with a hash that changes with it."""
    versions = sorted({(kind.group, kind.version) for kind in kinds})
    paths = {}
    for group, version in versions:
        name = f"apis/{group}/{version}" if group else f"api/{version}"
        own = [kind for kind in kinds if (kind.group, kind.version) == (group, version)]
        digest = hashlib.sha256(orjson.dumps(v3(own, name), option=orjson.OPT_SORT_KEYS)).hexdigest().upper()
        paths[name] = {"serverRelativeURL": f"/openapi/v3/{name}?hash={digest}"}
    return {"paths": paths}


def v3(kinds: Sequence[Kind], group_version: str) -> dict[str, Any]:
    """The v3 document of one API version, whose kinds these are."""
    prefix = "#/components/schemas/"
    names = _reachable(kind for kind in kinds if not kind.is_custom) | _reach([_META])
    schemas = {_name(each): _type_node(each, prefix) for each in sorted(names)}
    for kind in kinds:
        schemas |= _custom_node(kind, prefix, is_v2=False) if kind.is_custom else {}
        _mark(schemas, kind)
    paths = {path: {"patch": {"parameters": [{"name": each, "in": "query"} for each in _QUERY], GVK: gvk}} for path, gvk in _paths(kinds)}
    info = {"title": "Kubernetes", "version": group_version}
    return {"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": schemas}}


def _paths(kinds: Sequence[Kind]) -> Iterator[tuple[str, dict[str, str]]]:
    """The path of one object of each kind that can be patched, and the kind's name in the documents."""
    for kind in kinds:
        if "patch" in kind.verbs:
            base = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
            inside = "/namespaces/{namespace}" if kind.namespaced else ""
            yield f"{base}{inside}/{kind.plural}/{{name}}", _gvk(kind)


def _gvk(kind: Kind) -> dict[str, str]:
    return {"group": kind.group, "kind": kind.kind, "version": kind.version}


def _mark(definitions: dict[str, Any], kind: Kind) -> None:
    name = _custom_name(kind) if kind.is_custom else _name(type_name(kind))
    if name in definitions:
        definitions[name] = {**definitions[name], GVK: [_gvk(kind)]}


def _name(type_: str) -> str:
    """A type's name in the documents: `core.v1.Pod` is `io.k8s.api.core.v1.Pod`."""
    package, _, name = type_.rpartition(".")
    return f"{_PACKAGES.get(package, f'io.k8s.api.{package}')}.{name}"


def _custom_name(kind: Kind) -> str:
    return f"{'.'.join(reversed(kind.group.split('.')))}.{kind.version}.{kind.kind}"


def _bare(kind: str) -> str:
    while kind[:2] in {"[]", "{}"}:
        kind = kind[2:]
    return kind


def _reachable(kinds: Iterable[Kind]) -> set[str]:
    return _reach(filter(None, map(type_name, kinds)))


def _reach(names: Iterable[str]) -> set[str]:
    """The types and all types their fields lead to."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [bare for kind in table()[name].fields.values() if (bare := _bare(kind)) not in _PLAIN]
    return found


def _type_node(name: str, prefix: str) -> dict[str, Any]:
    known = table()[name]
    properties = {}
    for field, kind in known.fields.items():
        node = _field_node(kind, prefix)
        key = MERGE_KEYS.get(name, {}).get(field)
        if key is not None:
            node["x-kubernetes-patch-strategy"] = "merge,retainKeys" if field in {"volumes", "resourceClaims"} else "merge"
            if key:
                node["x-kubernetes-patch-merge-key"] = key
        elif (name, field) == ("apps.v1.DeploymentSpec", "strategy"):
            node["x-kubernetes-patch-strategy"] = "retainKeys"
        properties[field] = node
    made: dict[str, Any] = {"type": "object", "properties": properties}
    if known.required:
        made["required"] = sorted(known.required)
    return made


def _field_node(kind: str, prefix: str) -> dict[str, Any]:
    if kind.startswith("[]"):
        return {"type": "array", "items": _field_node(kind[2:], prefix)}
    if kind.startswith("{}"):
        return {"type": "object", "additionalProperties": _field_node(kind[2:], prefix)}
    return dict(_PLAIN[kind]) if kind in _PLAIN else _reference(_name(kind), prefix)


def _reference(name: str, prefix: str) -> dict[str, Any]:
    """v3 wraps references, so that members may stand beside them."""
    reference = {"$ref": f"{prefix}{name}"}
    return reference if prefix == "#/definitions/" else {"allOf": [reference]}


def _custom_node(kind: Kind, prefix: str, *, is_v2: bool) -> dict[str, Any]:
    root: Node = (kind.definition.get("schema") or {}).get("openAPIV3Schema") or {}
    node = _plainer(root, is_root=True) if is_v2 else dict(root)
    own = {
        "apiVersion": {"type": "string", "description": "The API version of this object."},
        "kind": {"type": "string", "description": "The kind of this object."},
        "metadata": _reference(_name(_META), prefix),
    }
    if node.get("properties") or not root.get("x-kubernetes-preserve-unknown-fields"):
        node["properties"] = {**(node.get("properties") or {}), **own}
    return {_custom_name(kind): node}


def _plainer(schema: Node, *, is_root: bool = False) -> dict[str, Any]:
    """A v3 schema as far as v2 can say it; what it cannot say is left open."""
    node: dict[str, Any] = {"description": schema["description"]} if schema.get("description") else {}
    if any(schema.get(each) for each in _OPEN):
        return {**node, "type": "object"} if is_root else node
    for key in ("type", "format", "required"):
        if schema.get(key):
            node[key] = schema[key]
    if schema.get("properties"):
        node["properties"] = {name: _plainer(each) for name, each in schema["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), Mapping):
            node[key] = _plainer(schema[key])
    return node


# The v2 document in protobuf: field numbers of openapi_v2.proto beside the JSON names.


def _number(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _field(number: int, payload: bytes | str) -> bytes:
    raw = payload.encode() if isinstance(payload, str) else payload
    return _number(number << 3 | 2) + _number(len(raw)) + raw


def _named(name: str, payload: bytes) -> bytes:
    return _field(1, name) + _field(2, payload)


def _extension(name: str, value: Any) -> bytes:
    return _named(name, _field(2, orjson.dumps(value)))


def _document(paths: Iterable[tuple[str, Node]], definitions: Mapping[str, Node]) -> bytes:
    parameters = b"".join(_field(8, _field(1, _field(2, _field(3, _field(2, "query") + _field(4, name))))) for name in _QUERY)
    items = []
    for path, gvk in paths:
        operation = parameters + _field(13, _extension(GVK, gvk))
        items.append(_field(2, _named(path, _field(8, operation))))
    schemas = b"".join(_field(1, _named(name, _schema(node))) for name, node in definitions.items())
    info = _field(1, "Kubernetes") + _field(2, "v1")
    return _field(1, "2.0") + _field(2, info) + _field(8, b"".join(items)) + _field(9, schemas)


def _schema(node: Node) -> bytes:
    parts = [_field(number, node[key]) for number, key in ((1, "$ref"), (2, "format"), (4, "description")) if node.get(key)]
    parts += [_field(19, each) for each in node.get("required") or ()]
    if isinstance(node.get("additionalProperties"), Mapping):
        parts.append(_field(21, _field(1, _schema(node["additionalProperties"]))))
    if node.get("type"):
        parts.append(_field(22, _field(1, node["type"])))
    if isinstance(node.get("items"), Mapping):
        parts.append(_field(23, _field(1, _schema(node["items"]))))
    if node.get("properties"):
        listed = b"".join(_field(1, _named(name, _schema(each))) for name, each in node["properties"].items())
        parts.append(_field(25, listed))
    parts += [_field(31, _extension(key, value)) for key, value in node.items() if key.startswith("x-")]
    return b"".join(parts)
