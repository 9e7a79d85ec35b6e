"""Which node a device belongs to: by name, by labels, and as KubeEdge 1.1 understood it."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.cloud.admission.conversion import convert
from pinnace.cloud.controllers.placement import matches, node_of, selector_of
from pinnace.cloud.ports import Object

NODES = {"pi-1": {"hostname": "lamp", "zone": "a", "size": "3"}, "pi-2": {"hostname": "fan", "zone": "a"}}


def device(*expressions: dict[str, Any]) -> Object:
    """A v1alpha1 device as it is stored."""
    old = {
        "apiVersion": "devices.kubeedge.io/v1alpha1", "kind": "Device", "metadata": {"name": "d", "namespace": "default"},
        "spec": {"nodeSelector": {"nodeSelectorTerms": [{"matchExpressions": list(expressions)}]}},
    }  # fmt: skip
    return convert(old, "v1beta1")


def expression(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"key": key, "operator": operator} | ({"values": list(values)} if values else {})


@pytest.mark.parametrize(
    ("expressions", "holds"),
    [
        ([expression("zone", "In", "a", "b")], True),
        ([expression("zone", "In", "b")], False),
        ([expression("zone", "NotIn", "b")], True),
        ([expression("absent", "NotIn", "b")], True),
        ([expression("zone", "Exists")], True),
        ([expression("absent", "Exists")], False),
        ([expression("absent", "DoesNotExist")], True),
        ([expression("size", "Gt", "2")], True),
        ([expression("size", "Lt", "2")], False),
        ([expression("zone", "Gt", "2")], False),
        ([expression("size", "Gt")], False),
        ([expression("zone", "Resembles", "a")], False),
        ([expression("zone", "In", "a"), expression("hostname", "In", "fan")], False),
        ([], False),
    ],
)
def test_expressions_hold_as_in_kubernetes(expressions: list[dict[str, Any]], holds: bool) -> None:
    assert matches(expressions, NODES["pi-1"]) is holds


def test_a_selector_matches_labels() -> None:
    assert node_of(device(expression("hostname", "In", "lamp")), NODES) == "pi-1"


def test_where_none_matches_the_first_value_is_a_name() -> None:
    assert node_of(device(expression("hostname", "In", "192.168.4.22-pi2")), NODES) == "192.168.4.22-pi2"
    assert node_of(device(expression("hostname", "In", "192.168.4.22-pi2")), {}) == "192.168.4.22-pi2"


def test_of_several_it_stays_where_it_is() -> None:
    shared = device(expression("zone", "In", "a"))
    assert node_of(shared, NODES) == "pi-1"
    assert node_of(shared, NODES, current="pi-2") == "pi-2"
    assert node_of(shared, NODES, current="gone") == "pi-1"


def test_a_node_named_since_wins_over_the_selector() -> None:
    moved = device(expression("hostname", "In", "lamp"))
    moved["spec"]["nodeName"] = "pi-2"
    assert selector_of(moved) is None
    assert node_of(moved, NODES) == "pi-2"


@pytest.mark.parametrize("spec", [{}, {"nodeName": ""}, {"nodeName": None}])
def test_a_device_of_nobody(spec: Object) -> None:
    assert node_of({"metadata": {"name": "d"}, "spec": spec}, NODES) == ""
    assert node_of({"metadata": {"name": "d"}}, NODES) == ""
