"""Label and field selectors: what matches, and the words for what cannot be read."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.cloud.standalone import selectors
from pinnace.cloud.standalone.kinds import Kind
from pinnace.cloud.standalone.registry import Registry
from pinnace.cloud.standalone.status import ApiError

OBJECTS: dict[str, dict[str, str]] = {"one": {"a": "1", "b": "x"}, "two": {"a": "2"}, "none": {}}


def kind(plural: str, group: str = "") -> Kind:
    found = Registry().get(group, "v1", plural)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a=1", "one"), ("a==1", "one"), ("a = 1", "one"), ("a!=1", "two none"), ("a in (1,2)", "one two"), ("a in (1, 3 )", "one"),
        ("a notin (1)", "two none"), ("b", "one"), ("!b", "two none"), ("a in (1,2),!b", "two"), ("a>1", "two"), ("a<2", "one"),
        ("a=", ""), ("a in (,1)", "one"), ("", "one two none"), ("in in (in)", ""), ("a,b=x", "one"), ("x.io/y!=z", "one two none"),
    ],
)  # fmt: skip
def test_labels(text: str, names: str) -> None:
    selector = selectors.parse_labels(text)
    assert [name for name, labels in OBJECTS.items() if selector.matches(labels)] == names.split()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a=1,", "found '', expected: identifier after ','"),
        ("=x", "found '=', expected: !, identifier, or 'end of string'"),
        ("a in 1", "unable to parse requirement: found '1' expected: '('"),
        ("a=b=c", "found '=', expected: ',' or 'end of string'"),
        ("Bad Key=1", "unable to parse requirement: found 'Key', expected: in, notin, =, ==, !=, gt, lt"),
        ("a in (", "unable to parse requirement: found '', expected: ',', ')' or identifier"),
        ("a in (b c)", "unable to parse requirement: found 'c', expected: ',' or ')'"),
        ("a>x", "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be an integer"),
        ("a in ()", "unable to parse requirement: values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty"),
    ],
)
def test_labels_that_cannot_be_read(text: str, why: str) -> None:
    with pytest.raises(ApiError) as caught:
        selectors.parse_labels(text)
    assert (caught.value.code, caught.value.message) == (400, why)


@pytest.mark.parametrize("text", ["-a=1", "a=b$", "a/b/c", "/x", "x/", "a=" + "v" * 64])
def test_labels_no_object_can_have(text: str) -> None:
    with pytest.raises(ApiError):
        selectors.parse_labels(text)


@pytest.mark.parametrize(
    ("plural", "text", "obj", "is_match"),
    [
        ("pods", "spec.nodeName=n", {"spec": {"nodeName": "n"}}, True),
        ("pods", "spec.nodeName=n,status.phase!=Failed", {"spec": {"nodeName": "n"}, "status": {"phase": "Failed"}}, False),
        ("pods", "spec.nodeName=", {"spec": {}}, True),
        ("pods", "spec.hostNetwork=false", {"spec": {}}, True),
        ("nodes", "spec.unschedulable=true", {"spec": {"unschedulable": True}}, True),
        ("events", "involvedObject.name==p,type=Warning", {"involvedObject": {"name": "p"}, "type": "Warning"}, True),
        ("events", "source=c", {"source": {}, "reportingComponent": "c"}, True),
        ("secrets", "type!=Opaque", {"type": "Opaque"}, False),
        ("namespaces", "status.phase=Active", {"status": {"phase": "Active"}}, True),
        ("secrets", r"type=a\,b\=c", {"type": "a,b=c"}, True),
    ],
)  # fmt: skip
def test_fields(plural: str, text: str, obj: dict[str, Any], is_match: bool) -> None:
    assert selectors.parse_fields(text, kind(plural)).matches(obj) is is_match


def test_name_and_namespace_need_no_decoding() -> None:
    selector = selectors.parse_fields("metadata.name=a,metadata.namespace==n", kind("configmaps"))
    assert (selector.name, selector.namespace, selector.is_simple) == ("a", "n", True)
    assert not selectors.parse_fields("metadata.name!=a,type=x", kind("secrets")).is_simple


@pytest.mark.parametrize(
    ("plural", "text", "why"),
    [
        ("configmaps", "data.a=1", '"data.a" is not a known field selector: only "metadata.name", "metadata.namespace"'),
        ("pods", "spec.foo=1", "field label not supported: spec.foo"),
        ("configmaps", "metadata.name>l1", "invalid selector: 'metadata.name>l1'; can't understand 'metadata.name>l1'"),
        ("configmaps", "metadata.name", "invalid selector: 'metadata.name'; can't understand 'metadata.name'"),
    ],
)
def test_fields_that_cannot_be_asked_for(plural: str, text: str, why: str) -> None:
    with pytest.raises(ApiError) as caught:
        selectors.parse_fields(text, kind(plural))
    assert (caught.value.code, caught.value.message) == (400, why)


def test_fields_of_custom_kinds() -> None:
    boat = Kind("x.io", "v1", "boats", "Boat", is_custom=True, definition={"selectableFields": [{"jsonPath": ".spec.color"}]})
    assert selectors.parse_fields("spec.color=red", boat).matches({"spec": {"color": "red"}})
    with pytest.raises(ApiError):
        selectors.parse_fields("spec.oars=1", boat)
