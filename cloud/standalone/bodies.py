"""Request bodies: JSON, YAML or protobuf, their type, and keys that occur twice; the words are the API's own."""

from __future__ import annotations

import json
from typing import Any

import orjson

from pinnace.cloud.standalone import protobuf
from pinnace.cloud.standalone.kinds import Kind
from pinnace.cloud.standalone.negotiation import JSON, PROTOBUF, YAML, content_type, parse, unknown_format
from pinnace.cloud.standalone.requests import Request
from pinnace.cloud.standalone.state import Object
from pinnace.cloud.standalone.status import ApiError, Cause, bad_request, go_word, invalid


def cannot_handle(kind: Kind, why: str) -> ApiError:
    return bad_request(f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: {why}')


def decode_body(request: Request, what: str) -> Any:
    """A body in any format the API takes. Raises 400 and 415."""
    media = content_type(request)
    if media == PROTOBUF:
        return protobuf.decode(request.body)
    if media not in {"", JSON, YAML, "application/x-yaml", "text/yaml"}:
        raise unknown_format(JSON, YAML, PROTOBUF)
    return parse(request.body, media, what)


def decode_patch(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        why = "unexpected end of JSON input" if error.pos >= len(body.rstrip()) else str(error)
        raise bad_request(f"error decoding patch: {why}") from None


def typed_object(request: Request, kind: Kind) -> Object:
    """The object in a body. apiVersion and kind may be absent for built-in kinds and must be right if there. Raises 400, 415 and 422."""
    obj = decode_body(request, kind.kind)
    if not isinstance(obj, dict):
        fields = 'struct { APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }'
        raise bad_request(
            f"the object provided is unrecognized (must be of type {kind.kind}): couldn't get version/kind; json parse error: "
            f"json: cannot unmarshal {go_word(obj)} into Go value of type {fields} ({request.body[:64].hex()})"
        )
    _check_type(request, kind, obj)
    return obj


def _check_type(request: Request, kind: Kind, obj: Object) -> None:
    version, name = obj.get("apiVersion") or "", obj.get("kind") or ""
    if not kind.is_custom:
        if name and version == kind.api_version and name != kind.kind:
            raise _wrong_kind(kind, version, name)
        if (name and name != kind.kind) or (version and version != kind.api_version):
            given, where = name or kind.kind, version or kind.api_version
            raise bad_request(
                f'{given} in version "{where.rpartition("/")[2]}" cannot be handled as a {kind.kind}: no kind "{given}" is registered for '
                f'version "{where}" in scheme "k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30"'
            )
        obj["apiVersion"], obj["kind"] = kind.api_version, kind.kind
        return
    for field, value in (("Kind", name), ("apiVersion", version)):
        if not value:
            text = request.body.decode("utf-8", "replace")
            what = f"the object provided is unrecognized (must be of type {kind.kind})"
            raise bad_request(f"{what}: Object '{field}' is missing in '{text}' ({text[:30]} ...)")
    if version != kind.api_version:
        raise bad_request(f"the API version in the data ({version}) does not match the expected API version ({kind.api_version})")
    if name != kind.kind:
        cause = Cause("FieldValueInvalid", f'Invalid value: "{name}": must be {kind.kind}', "kind")
        raise invalid(kind.group, name, (obj.get("metadata") or {}).get("name", ""), [cause])


def _wrong_kind(kind: Kind, version: str, name: str) -> ApiError:
    short = version.rpartition("/")[2]
    package = kind.group.split(".")[0] or "core"
    why = f"converting ({short}.{name}) to ({package}.{kind.kind}): unknown conversion"
    return bad_request(f'{name} in version "{short}" cannot be handled as a {kind.kind}: {why}')


def duplicate_keys(body: bytes) -> list[str]:
    """Paths of keys that occur twice in one object."""
    found: list[str] = []

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        twice = []
        for key, value in items:
            if key in kept:
                twice.append(key)
            kept[key] = value
        if twice:
            kept["\0"] = twice
        return kept

    def walk(value: Any, path: str) -> None:
        if isinstance(value, dict):
            found.extend(f"{path}{key}" for key in value.get("\0", ()))
            for key, each in value.items():
                if key != "\0":
                    walk(each, f"{path}{key}.")
        elif isinstance(value, list):
            for index, each in enumerate(value):
                walk(each, f"{path[:-1]}[{index}].")

    walk(json.loads(body, object_pairs_hook=pairs), "")
    return found
