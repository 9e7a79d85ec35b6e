"""Custom resource definitions as objects: their defaults, and what is refused (Kubernetes API, CustomResourceDefinition v1)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pinnace.cloud.standalone import names, schemachecks
from pinnace.cloud.standalone.causes import forbidden, invalid, required, unsupported
from pinnace.cloud.standalone.status import Cause

Node = Mapping[str, Any]
_COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
_TYPES = ("array", "boolean", "integer", "number", "object", "string")
_IMMUTABLE = (("scope", "spec.scope"), ("group", "spec.group"))
_SIMPLE_PATH = re.compile(r"^(\.[A-Za-z0-9_-]+)+$")


def default_definition(crd: dict[str, Any]) -> None:
    """Fill in names and the conversion strategy. What has the wrong shape is left to `check_definition`."""
    spec = crd.get("spec")
    if not isinstance(spec, dict):
        return
    given = spec.setdefault("names", {})
    if isinstance(given.get("kind"), str) and given["kind"]:
        if not given.get("singular"):
            given["singular"] = given["kind"].lower()
        if not given.get("listKind"):
            given["listKind"] = given["kind"] + "List"
    conversion = spec.setdefault("conversion", {"strategy": "None"})
    if not conversion.get("strategy"):
        conversion["strategy"] = "None"
    service = ((conversion.get("webhook") or {}).get("clientConfig") or {}).get("service")
    if isinstance(service, dict) and not service.get("port"):
        service["port"] = 443


def check_definition(crd: dict[str, Any], old: dict[str, Any] | None = None) -> list[Cause]:
    """What is wrong with a definition, whose fields have the right types."""
    spec = crd.get("spec") or {}
    given, versions = spec.get("names") or {}, spec.get("versions") or []
    known = (crd.get("status") or {}).get("storedVersions") or []
    causes = [*_check_names(crd["metadata"]["name"], spec, given), *_check_versions(spec, versions, known)]
    for index, version in enumerate(versions):
        causes += _check_version(version, f"spec.versions[{index}]")
    causes += _check_conversion(spec.get("conversion") or {})
    if old is not None:
        causes += _check_update(crd, spec, versions, old)
    return causes


def _check_names(name: str, spec: Node, given: Node) -> Iterator[Cause]:
    group, plural = spec.get("group") or "", given.get("plural") or ""
    if name != f"{plural}.{group}":
        yield invalid("metadata.name", name, 'must be spec.names.plural+"."+spec.group')
    if not group:
        yield required("spec.group")
    else:
        yield from (invalid("spec.group", group, each) for each in names.subdomain(group))
        if "." not in group:
            yield invalid("spec.group", group, "should be a domain with at least one dot")
    if not spec.get("scope"):
        yield required("spec.scope")
    elif spec["scope"] not in {"Cluster", "Namespaced"}:
        yield unsupported("spec.scope", spec["scope"], "Cluster", "Namespaced")
    for field in ("plural", "singular", "kind", "listKind"):
        word, where = given.get(field) or "", f"spec.names.{field}"
        if not word:
            yield required(where)
        elif field in {"plural", "singular"}:
            yield from (invalid(where, word, each) for each in names.dns1035(word))
        else:
            yield from (
                invalid(where, word, f"may have mixed case, but should otherwise match: {each}") for each in names.dns1035(word.lower())
            )
    if given.get("kind") and given.get("kind") == given.get("listKind"):
        yield invalid("spec.names.listKind", given["listKind"], "kind and listKind may not be the same")
    for field in ("shortNames", "categories"):
        for index, word in enumerate(given.get(field) or ()):
            yield from (invalid(f"spec.names.{field}[{index}]", word, each) for each in names.dns1035(word))


def _check_versions(spec: Node, versions: list[Node], known: list[str]) -> Iterator[Cause]:
    if not versions:
        yield required("spec.versions", "must have at least one version")
        return
    stored = [each for each in versions if each.get("storage")]
    if len(stored) != 1:
        yield invalid("spec.versions", versions, "must have exactly one version marked as storage version")
    if not known:
        yield invalid("status.storedVersions", None, "must have at least one stored version")
    elif stored and stored[-1].get("name") not in known:
        yield invalid("status.storedVersions", known, f"must have the storage version {stored[-1].get('name')}")
    listed = [each.get("name") for each in versions]
    if len(set(listed)) != len(listed):
        yield invalid("spec.versions", versions, "must contain unique version names")
    if spec.get("preserveUnknownFields"):
        yield invalid("spec.preserveUnknownFields", True, "must be false in order to use defaults in the schema")


def _check_version(version: Node, path: str) -> Iterator[Cause]:
    yield from (invalid(f"{path}.name", version.get("name", ""), each) for each in names.dns1035(version.get("name") or ""))
    schema = (version.get("schema") or {}).get("openAPIV3Schema")
    where = f"{path}.schema.openAPIV3Schema"
    if schema is None:
        yield required(where)
        if version.get("selectableFields"):
            yield invalid(f"{path}.selectableFields", "", "may only be set when `version.schema.openAPIV3Schema` is not included")
    else:
        yield from _check_node(schema, where, "root")
    for index, column in enumerate(version.get("additionalPrinterColumns") or ()):
        yield from _check_column(column, f"{path}.additionalPrinterColumns[{index}]")
    scale = (version.get("subresources") or {}).get("scale")
    if scale is not None:
        yield from _check_scale(scale, f"{path}.subresources.scale")
    for index, field in enumerate((version.get("selectableFields") or ()) if schema is not None else ()):
        if not _SIMPLE_PATH.match(field.get("jsonPath") or ""):
            yield invalid(
                f"{path}.selectableFields[{index}].jsonPath", field.get("jsonPath", ""), "is an invalid path: must be a simple json path"
            )


def _check_column(column: Node, path: str) -> Iterator[Cause]:
    if not column.get("name"):
        yield required(f"{path}.name")
    if not column.get("type"):
        yield required(f"{path}.type", f"must be one of {','.join(_COLUMN_TYPES)}")
    elif column["type"] not in _COLUMN_TYPES:
        yield invalid(f"{path}.type", column["type"], f"must be one of {','.join(_COLUMN_TYPES)}")
    text = column.get("jsonPath") or ""
    if not text:
        yield required(f"{path}.JSONPath")
    elif not text.startswith("."):
        yield invalid(f"{path}.JSONPath", text, "must be a simple json path starting with .")


def _check_scale(scale: Node, path: str) -> Iterator[Cause]:
    paths = (("specReplicasPath", ".spec.", True), ("statusReplicasPath", ".status.", True), ("labelSelectorPath", "", False))
    for field, start, is_required in paths:
        text, where = scale.get(field) or "", f"{path}.{field}"
        if not text:
            if is_required:
                yield required(where)
        elif not _SIMPLE_PATH.match(text):
            yield invalid(where, text, "must be a simple json path")
        elif not text.startswith(start or (".spec.", ".status.")):
            yield invalid(where, text, f"should be a json path under {start.rstrip('.') or 'either .spec or .status'}")


def _check_conversion(conversion: Node) -> Iterator[Cause]:
    strategy, webhook = conversion.get("strategy"), conversion.get("webhook")
    if strategy not in {"None", "Webhook"}:
        yield unsupported("spec.conversion.strategy", strategy, "None", "Webhook")
    if strategy == "None" and webhook:
        yield forbidden("spec.conversion.webhook", "should not be set when strategy is not set to Webhook")
    if strategy == "Webhook":
        client = (webhook or {}).get("clientConfig")
        if not client:
            yield required("spec.conversion.webhook.clientConfig", "required when strategy is set to Webhook")
        elif bool(client.get("url")) is bool(client.get("service")):
            yield required("spec.conversion.webhook.clientConfig", "exactly one of url or service is required")
        if not (webhook or {}).get("conversionReviewVersions"):
            yield required("spec.conversion.webhook.conversionReviewVersions")


def _check_update(crd: Node, spec: Node, versions: list[Node], old: Node) -> Iterator[Cause]:
    before = old.get("spec") or {}
    status = crd.get("status") or old.get("status") or {}
    for index, stored in enumerate(status.get("storedVersions") or ()):
        if all(each.get("name") != stored for each in versions):
            why = (
                f"missing from spec.versions; {stored} was previously a storage version, and must remain in spec.versions until a storage "
            )
            why += f"migration ensures no data remains persisted in {stored} and removes {stored} from status.storedVersions"
            yield invalid(f"status.storedVersions[{index}]", stored, why)
    conditions = (old.get("status") or {}).get("conditions") or ()
    if any(each.get("type") == "Established" and each.get("status") == "True" for each in conditions):
        for field, where in _IMMUTABLE:
            if spec.get(field) != before.get(field):
                yield invalid(where, spec.get(field), "field is immutable")
        for field in ("plural", "kind"):
            if (spec.get("names") or {}).get(field) != (before.get("names") or {}).get(field):
                yield invalid(f"spec.names.{field}", (spec.get("names") or {}).get(field), "field is immutable")


_LEVELS = {
    "root": "must not be empty at the root",
    "item": "must not be empty for specified array items",
    "field": "must not be empty for specified object fields",
}
_REFUSED = {
    "$ref": "$ref is not supported",
    "definitions": "definitions is not supported",
    "dependencies": "dependencies is not supported",
    "patternProperties": "patternProperties is not supported",
    "additionalItems": "additionalItems is not supported",
    "id": "id is not supported",
}


def _check_node(schema: Any, path: str, level: str) -> Iterator[Cause]:
    """The rules of structural schemas, for one node and all below it."""
    if not isinstance(schema, Mapping):
        yield required(path)
        return
    kind = schema.get("type") or ""
    if not kind and not schema.get("x-kubernetes-int-or-string") and not schema.get("x-kubernetes-preserve-unknown-fields"):
        yield required(f"{path}.type", _LEVELS[level])
    elif kind and kind not in _TYPES:
        yield unsupported(f"{path}.type", kind, *_TYPES)
    elif level == "root" and kind and kind != "object":
        yield invalid(f"{path}.type", kind, "must be object at the root")
    if schema.get("x-kubernetes-int-or-string") and kind:
        yield invalid(f"{path}.type", kind, "must be empty if x-kubernetes-int-or-string is true")
    if schema.get("x-kubernetes-embedded-resource") and kind != "object":
        yield invalid(f"{path}.type", kind, "must be object if x-kubernetes-embedded-resource is true")
    yield from (forbidden(f"{path}.{field}", why) for field, why in _REFUSED.items() if schema.get(field))
    if schema.get("uniqueItems"):
        yield forbidden(f"{path}.uniqueItems", "uniqueItems cannot be set to true since the runtime complexity becomes quadratic")
    if schema.get("pattern"):
        try:
            schemachecks.pattern(schema["pattern"])
        except re.error as error:
            yield invalid(f"{path}.pattern", schema["pattern"], f"must be a valid regular expression, but isn't: {error}")
    yield from _check_list_type(schema, path, kind)
    properties, rest = schema.get("properties"), schema.get("additionalProperties")
    if kind == "array" and "items" not in schema:
        yield required(f"{path}.items", "must be specified")
    if rest is False:
        yield forbidden(f"{path}.additionalProperties", "additionalProperties cannot be set to false")
    if rest and properties:
        yield forbidden(f"{path}.additionalProperties", "additionalProperties and properties are mutual exclusive")
    for name, each in (properties or {}).items():
        is_metadata = level == "root" and name == "metadata"
        yield from () if is_metadata and not each.get("type") else _check_node(each, f"{path}.properties[{name}]", "field")
    if isinstance(rest, Mapping):
        yield from _check_node(rest, f"{path}.additionalProperties", "field")
    if "items" in schema:
        yield from _check_node(schema["items"], f"{path}.items", "item")
    if schema.get("default") is not None:
        yield from schemachecks.check(schema["default"], schema, f"{path}.default", "default")


def _check_list_type(schema: Node, path: str, kind: str) -> Iterator[Cause]:
    list_type, keys = schema.get("x-kubernetes-list-type"), schema.get("x-kubernetes-list-map-keys")
    if list_type is None:
        if keys:
            yield required(f"{path}.x-kubernetes-list-type", "must be map if x-kubernetes-list-map-keys is non-empty")
        return
    if kind != "array":
        yield invalid(f"{path}.type", kind, "must be array if x-kubernetes-list-type is specified")
    if list_type not in {"atomic", "set", "map"}:
        yield unsupported(f"{path}.x-kubernetes-list-type", list_type, "atomic", "set", "map")
    items = schema.get("items")
    properties = (items.get("properties") or {}) if isinstance(items, Mapping) else {}
    if list_type == "map" and not keys:
        yield required(f"{path}.x-kubernetes-list-map-keys", "must not be empty if x-kubernetes-list-type is map")
    for index, key in enumerate(keys or ()):
        if key not in properties:
            yield invalid(f"{path}.x-kubernetes-list-map-keys[{index}]", key, "must be a property of items")
