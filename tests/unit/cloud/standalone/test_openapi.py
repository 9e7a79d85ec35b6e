"""The OpenAPI documents: references lead somewhere, kinds are named, and the protobuf form says what the JSON form does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pinnace.cloud.standalone import openapi
from pinnace.cloud.standalone.crds import kinds_of
from pinnace.cloud.standalone.kinds import Kind
from pinnace.cloud.standalone.registry import Registry

BOATS = json.loads((Path(__file__).parents[3] / "vectors" / "kube-apiserver" / "boats.json").read_text())


def served() -> list[Kind]:
    registry = Registry()
    registry.set_custom("boats.golden.io", kinds_of(BOATS))
    return list(registry.kinds())


def fields(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """The length-delimited fields of a protobuf message."""

    def number(at: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            byte = raw[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value, at

    at = 0
    while at < len(raw):
        tag, at = number(at)
        assert tag & 7 == 2
        size, at = number(at)
        yield tag >> 3, raw[at : at + size]
        at += size


def named(raw: bytes, number: int) -> dict[str, bytes]:
    pairs = [dict(fields(value)) for field, value in fields(raw) if field == number]
    return {pair[1].decode(): pair[2] for pair in pairs}


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref" and isinstance(value, str):
                yield value
            else:
                yield from references(value)
    elif isinstance(node, list):
        for each in node:
            yield from references(each)


def test_v2() -> None:
    document = dict(fields(openapi.v2(served())))
    assert document[1] == b"2.0"
    paths, definitions = named(document[8], 2), named(document[9], 1)
    operation = dict(fields(paths["/apis/golden.io/v1/namespaces/{namespace}/boats/{name}"]))[8]
    assert b"fieldValidation" in operation
    assert b'"kind":"Boat"' in operation
    boat = named(dict(fields(definitions["io.golden.v1.Boat"]))[25], 1)
    assert set(boat) == {"apiVersion", "kind", "metadata", "spec", "status"}
    spec = named(dict(fields(boat["spec"]))[25], 1)
    assert dict(fields(spec["color"]))[4] == b"hull colour"
    assert spec["port"] == b"", "int-or-string is left open: v2 cannot say it"
    containers = named(dict(fields(definitions["io.k8s.api.core.v1.PodSpec"]))[25], 1)["containers"]
    assert {dict(fields(each))[1] for number, each in fields(containers) if number == 31} == {
        b"x-kubernetes-patch-strategy",
        b"x-kubernetes-patch-merge-key",
    }


def test_v3() -> None:
    kinds = served()
    index = openapi.v3_index(kinds)["paths"]
    assert {"api/v1", "apis/apps/v1", "apis/golden.io/v1", "apis/golden.io/v1alpha1"} <= set(index)
    for name in index:
        own = [kind for kind in kinds if name.endswith(f"/{kind.api_version}")]
        document = openapi.v3(own, name)
        schemas = document["components"]["schemas"]
        assert {each.removeprefix("#/components/schemas/") for each in references(document)} <= set(schemas)
        marked = {each["kind"] for node in schemas.values() for each in node.get(openapi.GVK, ())}
        assert marked == {kind.kind for kind in own}
    boat = openapi.v3([kind for kind in kinds if kind.api_version == "golden.io/v1"], "x")["components"]["schemas"]["io.golden.v1.Boat"]
    assert boat["properties"]["spec"]["properties"]["oars"]["maximum"] == 8


def test_a_changed_schema_gives_other_documents() -> None:
    registry = Registry()
    registry.set_custom("boats.golden.io", kinds_of(BOATS))
    revision, index = registry.revision, openapi.v3_index(registry.kinds())["paths"]
    changed = json.loads(json.dumps(BOATS))
    changed["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["oars"]["maximum"] = 9
    registry.set_custom("boats.golden.io", kinds_of(changed))
    assert registry.revision != revision
    after = openapi.v3_index(registry.kinds())["paths"]
    assert {name for name in index if index[name] != after[name]} == {"apis/golden.io/v1"}
