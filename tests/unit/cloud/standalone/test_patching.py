"""JSON, merge and strategic patches: results, order, directives, refusals."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from pinnace.cloud.standalone import patching
from pinnace.cloud.standalone.registry import Registry
from pinnace.cloud.standalone.status import ApiError


def strategic(obj: dict[str, Any], patch: dict[str, Any], plural: str = "pods", group: str = "") -> Any:
    kind = Registry().get(group, "v1", plural)
    assert kind is not None
    before, asked = copy.deepcopy(obj), copy.deepcopy(patch)
    result = patching.apply_strategic(obj, patch, kind)
    assert (obj, patch) == (before, asked), "what is given stays as it is"
    return result


def pod(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"spec": {"containers": list(containers), **spec}}


def c(name: str, **rest: Any) -> dict[str, Any]:
    return {"name": name, **rest}


@pytest.mark.parametrize(
    ("operations", "wanted"),
    [
        ([{"op": "replace", "path": "/data/new", "value": "1"}], {"data": {"m": "1", "new": "1"}, "list": [1, 2]}),
        ([{"op": "test", "path": "/data/m", "value": "1"}, {"op": "remove", "path": "/data/m"}], {"data": {}, "list": [1, 2]}),
        ([{"op": "add", "path": "/list/-", "value": 3}], {"data": {"m": "1"}, "list": [1, 2, 3]}),
        ([{"op": "add", "path": "/data/k~1s", "value": "1"}], {"data": {"m": "1", "k/s": "1"}, "list": [1, 2]}),
        ([{"op": "copy", "from": "/data/m", "path": "/data/n"}, {"op": "move", "from": "/data/n", "path": "/data/o"}],
         {"data": {"m": "1", "o": "1"}, "list": [1, 2]}),
    ],
)  # fmt: skip
def test_json_patch(operations: list[Any], wanted: dict[str, Any]) -> None:
    obj = {"data": {"m": "1"}, "list": [1, 2]}
    assert patching.apply_json(obj, operations) == wanted
    assert obj == {"data": {"m": "1"}, "list": [1, 2]}


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "test", "path": "/data/m", "value": "9"}, {"op": "add", "path": "/none/x", "value": 1}, {"op": "add", "path": "/a"},
        {"op": "bogus", "path": "/data/m"}, {"op": "replace", "path": "/list/9", "value": 1}, {"op": "remove", "path": "/data/zz"},
        {"path": "/data/m"}, {"op": "add", "path": 5, "value": 1}, {"op": "add", "path": "no-slash", "value": 1},
        {"op": "copy", "from": "/nope", "path": "/x"}, {"op": "copy", "path": "/x"}, {"op": "move", "from": "/data", "path": "/data/m"},
        {"op": "replace", "path": "/data/m/x", "value": 1},
    ],
)  # fmt: skip
def test_json_patch_that_cannot_be_done(operation: dict[str, Any]) -> None:
    with pytest.raises(ApiError) as caught:
        patching.apply_json({"data": {"m": "1"}, "list": []}, [operation])
    assert caught.value.status() == {
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Invalid", "details": {}, "code": 422,
        "message": "the server rejected our request due to an error in our request",
    }  # fmt: skip


def test_json_patch_has_bounds() -> None:
    with pytest.raises(ApiError) as caught:
        patching.apply_json({"data": "x" * 1000}, [{"op": "copy", "from": "", "path": f"/{index}"} for index in range(64)])
    assert caught.value.code == 422
    with pytest.raises(ApiError) as caught:
        patching.apply_json({}, [{"op": "test", "path": "", "value": {}}] * 10_001)
    assert caught.value.code == 413


def test_merge_patch() -> None:
    obj = {"a": {"b": 1, "c": 2}, "l": [1, 2]}
    assert patching.apply_merge(obj, {"a": {"b": None, "d": {"e": None}}, "l": [3]}) == {"a": {"c": 2, "d": {}}, "l": [3]}


@pytest.mark.parametrize(
    ("before", "patch", "after"),
    [
        (pod(c("a", image="1"), c("b")), pod(c("b", image="2")), pod(c("a", image="1"), c("b", image="2"))),
        (pod(c("a")), pod(c("new")), pod(c("new"), c("a"))),
        (pod(c("a"), c("b")), pod({"name": "a", "$patch": "delete"}), pod(c("b"))),
        (pod(c("a"), c("b")), pod({"$patch": "replace"}, c("z")), pod(c("z"))),
        (pod(c("a", env=[c("X", value="1")])), pod(c("a", env=[c("X", value=None), c("Y", value="2")])),
         pod(c("a", env=[c("X"), c("Y", value="2")]))),
        (pod(c("a"), tolerations=[{"key": "x"}]), {"spec": {"tolerations": [{"key": "y"}]}}, pod(c("a"), tolerations=[{"key": "y"}])),
        (pod(c("a", command=["x", "y"])), pod(c("a", command=["z"])), pod(c("a", command=["z"]))),
        (pod(c("a"), nodeSelector={"x": "1"}), {"spec": {"nodeSelector": {"$patch": "replace", "y": "2"}}},
         pod(c("a"), nodeSelector={"y": "2"})),
        (pod(c("a"), nodeSelector={"x": "1"}), {"spec": {"nodeSelector": None}}, pod(c("a"))),
        (pod(c("a"), c("b"), c("c")), {"spec": {"$setElementOrder/containers": [c("c"), c("a")]}}, pod(c("b"), c("c"), c("a"))),
        (pod(c("a", image="1"), c("b")),
         {"spec": {"$setElementOrder/containers": [c("b"), c("a"), c("n")], "containers": [c("n"), c("a", image="2")]}},
         pod(c("b"), c("a", image="2"), c("n"))),
        (pod(c("a")), {"spec": {"$setElementOrder/containers": [c("a")], "$setElementOrder/volumes": [c("v")], "volumes": [c("v")]}},
         pod(c("a"), volumes=[c("v")])),
        ({"metadata": {"finalizers": ["a/b"]}}, {"metadata": {"finalizers": ["c/d"]}}, {"metadata": {"finalizers": ["c/d", "a/b"]}}),
        ({"metadata": {"finalizers": ["a/b", "c/d"]}}, {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a/b"]}},
         {"metadata": {"finalizers": ["c/d"]}}),
        ({"metadata": {"finalizers": ["a/b", "c/d"]}},
         {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a/b"], "$setElementOrder/finalizers": ["e/f", "c/d"],
                       "finalizers": ["e/f"]}},
         {"metadata": {"finalizers": ["e/f", "c/d"]}}),
        ({"status": {"conditions": [{"type": "Ready", "status": "True"}]}},
         {"status": {"conditions": [{"type": "Ready", "status": "False"}]}},
         {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}),
        ({"spec": {}}, {"spec": {"volumes": [{"name": "v", "emptyDir": {"medium": None}, "$retainKeys": ["name", "emptyDir"]}]}},
         {"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}),
        ({"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}},
         {"spec": {"volumes": [{"name": "v", "emptyDir": {}, "$retainKeys": ["name", "emptyDir"]}]}},
         {"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}),
    ],
)  # fmt: skip
def test_strategic_merge_of_pods(before: dict[str, Any], patch: dict[str, Any], after: dict[str, Any]) -> None:
    assert strategic(before, patch) == after


def test_strategic_merge_follows_the_type_not_the_name() -> None:
    before = {"spec": {"template": pod(c("a"))}}
    assert strategic(before, {"spec": {"template": pod(c("b"))}}, "deployments", "apps") == {"spec": {"template": pod(c("b"), c("a"))}}
    ports = {"spec": {"ports": [{"port": 80, "name": "a"}, {"port": 81}]}}
    assert strategic(ports, {"spec": {"ports": [{"port": 81, "name": "b"}]}}, "services")["spec"]["ports"][1] == {"port": 81, "name": "b"}
    config = {"data": {"containers": "text"}}
    assert strategic(config, {"data": {"env": "x"}}, "configmaps") == {"data": {"containers": "text", "env": "x"}}


@pytest.mark.parametrize(
    ("patch", "why"),
    [
        ({"spec": {"nodeSelector": {"$patch": "bogus"}}}, "unknown patch type: bogus in map: map[$patch:bogus]"),
        (pod({"image": "x"}), "map: map[image:x] does not contain declared merge key: name"),
        (pod({"$patch": "delete"}), "map: map[$patch:delete] does not contain declared merge key: name"),
        (pod({"name": "a", "$patch": "odd"}), "unknown patch type: odd in map: map[$patch:odd name:a]"),
    ],
)
def test_strategic_merge_that_makes_no_sense(patch: dict[str, Any], why: str) -> None:
    with pytest.raises(ApiError) as caught:
        strategic(pod(c("a"), nodeSelector={"x": "y"}), patch)
    assert (caught.value.code, caught.value.message) == (500, why)
