"""Structural schemas: pruning, defaults, validation in the API's words, ratcheting; and definitions that are refused."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from pinnace.cloud.standalone import definitions, schema, schemachecks

BOATS = json.loads((Path(__file__).parents[3] / "vectors" / "kube-apiserver" / "boats.json").read_text())
"""The definition the recorded answers belong to."""


def boat(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "golden.io/v1", "kind": "Boat", "metadata": {"name": "b"}, "spec": {"color": "red", **spec}}


def compiled() -> schema.Schema:
    return schema.compile(BOATS["spec"]["versions"][0])


def told(causes: Any) -> dict[str, tuple[str, str]]:
    return {each.field: (each.reason, each.message) for each in causes}


def of(node: dict[str, Any], value: Any, old: Any = schemachecks.ABSENT) -> list[str]:
    return [each.message for each in schemachecks.check(value, node, "spec.x", "spec.x", old)]


def test_unknown_fields_go() -> None:
    obj = boat(unknown="x", extra={"any": {"deep": 1}}, props=[{"name": "a", "odd": 1}], a_first=1)
    obj["status"] = {"phase": "A", "bogus": 1}
    assert compiled().prune(obj) == ["spec.a_first", "spec.props[0].odd", "spec.unknown", "status.bogus"]
    assert obj["spec"] == {"color": "red", "extra": {"any": {"deep": 1}}, "props": [{"name": "a"}]}
    assert obj["metadata"] == {"name": "b"}


def test_embedded_resources_keep_their_type_members() -> None:
    node = {"type": "object", "properties": {"t": {"type": "object", "x-kubernetes-embedded-resource": True, "properties": {"a": {}}}}}
    obj = {"t": {"apiVersion": "v1", "kind": "K", "metadata": {"name": "n"}, "a": 1, "b": 2}}
    assert schema.compile({"schema": {"openAPIV3Schema": node}}).prune(obj) == ["t.b"]


def test_defaults() -> None:
    obj = boat(oars=None, props=[{"name": "a", "value": None}], name=None)
    compiled().default(obj)
    assert obj["spec"] == {"color": "red", "oars": 2, "props": [{"name": "a", "value": None}]}
    node = {
        "type": "object",
        "properties": {"a": {"type": "object", "default": {}, "properties": {"b": {"type": "integer", "default": 3}}}},
    }
    obj = {}
    schema.compile({"schema": {"openAPIV3Schema": node}}).default(obj)
    assert obj == {"a": {"b": 3}}
    assert node["properties"]["a"]["default"] == {}, "the schema's own value is not handed out"  # type: ignore[index]


def test_what_is_wrong_in_the_words_of_the_real_server() -> None:
    bad = boat(color="pink", oars=99, name="TOOLONGNAME", tags=["a", "b", "c", "d"], port=[1])
    assert told(compiled().validate(bad)) == {
        "spec.tags": ("FieldValueTooMany", "Too many: 4: must have at most 3 items"),
        "spec.color": ("FieldValueNotSupported", 'Unsupported value: "pink": supported values: "red", "blue", "green"'),
        "spec.name": ("FieldValueTooLong", "Too long: may not be more than 5 bytes"),
        "spec.oars": ("FieldValueInvalid", "Invalid value: 99: spec.oars in body should be less than or equal to 8"),
        "spec.port": ("FieldValueTypeInvalid", 'Invalid value: "array": spec.port in body must be of type integer,string: "array"'),
    }
    bad = boat(oars="three", tags="notalist")
    del bad["spec"]["color"]
    assert told(compiled().validate(bad)) == {
        "spec.tags": ("FieldValueTypeInvalid", 'Invalid value: "string": spec.tags in body must be of type array: "string"'),
        "spec.oars": ("FieldValueTypeInvalid", 'Invalid value: "string": spec.oars in body must be of type integer: "string"'),
        "spec.color": ("FieldValueRequired", "Required value"),
        ".spec.oars": ("FieldValueInvalid", "Invalid value: 0: .spec.oars accessor error: three is of the type string, expected int64"),
    }
    assert told(compiled().validate(boat(props=[{"name": "a"}, {"name": "a"}]))) == {
        "spec.props[1]": ("FieldValueDuplicate", 'Duplicate value: {"name":"a"}')
    }
    bad = {**boat(), "status": {"oars": "x"}}
    assert told(compiled().validate(bad, None, "status")) == {
        "status.oars": ("FieldValueTypeInvalid", 'Invalid value: "string": oars in body must be of type integer: "string"'),
        ".status.oars": ("FieldValueInvalid", "Invalid value: 0: .status.oars accessor error: x is of the type string, expected int64"),
    }
    assert not compiled().validate(boat(port="http", oars=8, name="abc"))


@pytest.mark.parametrize(
    ("node", "value", "message"),
    [
        ({"type": "string", "pattern": "^[a-z]+$"}, "A", "Invalid value: \"A\": spec.x in body should match '^[a-z]+$'"),
        ({"type": "string", "pattern": "^[[:alpha:]]+$"}, "a1", "Invalid value: \"a1\": spec.x in body should match '^[[:alpha:]]+$'"),
        ({"type": "string", "pattern": "^a$"}, "a\n", "Invalid value: \"a\\n\": spec.x in body should match '^a$'"),
        ({"type": "string", "minLength": 2}, "a", 'Invalid value: "a": spec.x in body should be at least 2 chars long'),
        ({"type": "string", "format": "date-time"}, "a", 'Invalid value: "a": spec.x in body must be of type date-time: "a"'),
        ({"type": "string", "format": "ipv4"}, "::1", 'Invalid value: "::1": spec.x in body must be of type ipv4: "::1"'),
        ({"type": "integer", "maximum": 3, "exclusiveMaximum": True}, 3, "Invalid value: 3: spec.x in body should be less than 3"),
        ({"type": "number", "minimum": 0.5}, 0.25, "Invalid value: 0.25: spec.x in body should be greater than or equal to 0.5"),
        ({"type": "integer", "multipleOf": 3}, 4, "Invalid value: 4: spec.x in body should be a multiple of 3"),
        ({"type": "integer"}, 1.5, 'Invalid value: "number": spec.x in body must be of type integer: "number"'),
        ({"type": "integer"}, True, 'Invalid value: "boolean": spec.x in body must be of type integer: "boolean"'),
        ({"type": "object"}, None, 'Invalid value: "null": spec.x in body must be of type object: "null"'),
        ({"type": "array", "minItems": 1}, [], "Invalid value: 0: spec.x in body should have at least 1 items"),
        ({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}}, ["a", "a"], 'Duplicate value: "a"'),
        ({"type": "object", "maxProperties": 1}, {"a": 1, "b": 1}, "Too many: 2: must have at most 1 items"),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, {"a": "b"},
         'Invalid value: "string": spec.x.a in body must be of type integer: "string"'),
        ({"anyOf": [{"required": ["a"]}, {"required": ["b"]}]}, {},
         'Invalid value: "": "spec.x" must validate at least one schema (anyOf)'),
        ({"oneOf": [{"required": ["a"]}, {"required": ["b"]}]}, {},
         'Invalid value: "": "spec.x" must validate one and only one schema (oneOf). Found none valid'),
        ({"not": {"required": ["a"]}}, {"a": 1}, 'Invalid value: "": "spec.x" must not validate the schema (not)'),
        ({"enum": [1, True]}, 2, "Unsupported value: 2: supported values: 1, true"),
    ],
)  # fmt: skip
def test_single_checks(node: dict[str, Any], value: Any, message: str) -> None:
    assert of(node, value) == [message]


@pytest.mark.parametrize(
    ("node", "value"),
    [
        ({"type": "number"}, 3), ({"type": "integer"}, 3.0), ({"type": "string", "nullable": True}, None), ({}, None),
        ({"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]}, "5%"),
        ({"type": "string", "format": "duration"}, "anything"), ({"type": "string", "pattern": "[]a]"}, "]"),
        ({"type": "string", "format": "byte"}, "AP8="),
    ],
)  # fmt: skip
def test_what_fits(node: dict[str, Any], value: Any) -> None:
    assert of(node, value) == []


def test_an_update_is_not_blamed_for_what_it_found() -> None:
    old = boat(color="mauve", tags=["1", "2", "3", "4"], props=[{"name": "a", "value": 5}])
    new = copy.deepcopy(old)
    new["metadata"]["labels"] = {"q": "1"}
    new["spec"]["oars"] = 1
    new["spec"]["props"].insert(0, {"name": "b"})
    assert compiled().validate(new, old) == []
    new["spec"]["color"] = "pink"
    new["spec"]["tags"].append("5")
    new["spec"]["props"][1]["value"] = 6
    assert set(told(compiled().validate(new, old))) == {"spec.color", "spec.tags", "spec.props[1].value"}


def definition(**changes: Any) -> dict[str, Any]:
    crd: dict[str, Any] = copy.deepcopy(BOATS)
    crd["status"] = {"storedVersions": ["v1"]}
    crd["spec"] |= changes
    definitions.default_definition(crd)
    return crd


def test_a_good_definition() -> None:
    crd = definition()
    assert definitions.check_definition(crd) == []
    assert (crd["spec"]["names"]["listKind"], crd["spec"]["conversion"]) == ("BoatList", {"strategy": "None"})


def broken(path: str, value: Any, **changes: Any) -> Any:
    crd = definition(**changes)
    *parents, last = [int(each) if each.isdecimal() else each for each in path.split("/")]
    part: Any = crd
    for each in parents:
        part = part[each]
    if value is None:
        del part[last]
    else:
        part[last] = value
    return told(definitions.check_definition(crd))


SCHEMA = "spec/versions/0/schema/openAPIV3Schema"
FIELD = "spec.versions[0].schema.openAPIV3Schema"
SPEC = f"{FIELD}.properties[spec]"
COLUMN = "spec.versions[0].additionalPrinterColumns[0]"
SCALE = "spec.versions[0].subresources.scale"


@pytest.mark.parametrize(
    ("path", "value", "field", "message"),
    [
        ("metadata/name", "foo", "metadata.name", 'Invalid value: "foo": must be spec.names.plural+"."+spec.group'),
        ("spec/scope", "Galaxy", "spec.scope", 'Unsupported value: "Galaxy": supported values: "Cluster", "Namespaced"'),
        ("spec/versions/0/schema", None, "spec.versions[0].schema.openAPIV3Schema", "Required value"),
        (f"{SCHEMA}/properties/spec/type", None, f"{SPEC}.type",
         "Required value: must not be empty for specified object fields"),
        (f"{SCHEMA}/type", None, "spec.versions[0].schema.openAPIV3Schema.type", "Required value: must not be empty at the root"),
        (f"{SCHEMA}/properties/spec/properties/tags/items", {}, f"{SPEC}.properties[tags].items.type",
         "Required value: must not be empty for specified array items"),
        (f"{SCHEMA}/properties/spec/properties/oars/default", "x",
         f"{SPEC}.properties[oars].default",
         'Invalid value: "string": default in body must be of type integer: "string"'),
        (f"{SCHEMA}/properties/spec/properties/name/pattern", "(", f"{SPEC}.properties[name].pattern", None),
        ("spec/versions/0/additionalPrinterColumns/0/jsonPath", "spec.color", f"{COLUMN}.JSONPath",
         'Invalid value: "spec.color": must be a simple json path starting with .'),
        ("spec/versions/0/subresources/scale/specReplicasPath", None, f"{SCALE}.specReplicasPath", "Required value"),
        ("spec/versions/1/storage", True, "status.storedVersions", 'Invalid value: ["v1"]: must have the storage version v1alpha1'),
        ("spec/names/plural", "Boats", "spec.names.plural", None),
        ("spec/conversion/strategy", "Odd", "spec.conversion.strategy", 'Unsupported value: "Odd": supported values: "None", "Webhook"'),
    ],
)  # fmt: skip
def test_definitions_that_are_refused(path: str, value: Any, field: str, message: str | None) -> None:
    causes = broken(path, value)
    assert field in causes
    assert message is None or causes[field][1] == message


def test_a_stored_version_stays() -> None:
    old = definition()
    new = copy.deepcopy(old)
    del new["spec"]["versions"][0]
    causes = told(definitions.check_definition(new, old))
    assert causes["spec.versions"][1].endswith(": must have exactly one version marked as storage version")
    assert causes["status.storedVersions[0]"][1].startswith('Invalid value: "v1": missing from spec.versions; v1 was previously')


def test_what_is_established_does_not_move() -> None:
    old = definition()
    old["status"]["conditions"] = [{"type": "Established", "status": "True"}]
    assert "spec.scope" in told(definitions.check_definition(definition(scope="Cluster"), old))
