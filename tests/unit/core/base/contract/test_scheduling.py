"""Node selection, taints, resources and ports, against the API's own examples and by property."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.core.base.contract import scheduling as rules
from pinnace.core.base.contract.scheduling import HostPort

LABELS = {"disk": "ssd", "zone": "b", "cores": "8"}
keys = st.sampled_from(["disk", "zone", "cores", "none"])
values = st.lists(st.sampled_from(["ssd", "b", "8", "9", "x"]), max_size=3)


def required(*terms: dict[str, Any]) -> dict[str, Any]:
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}}}


@pytest.mark.parametrize(
    ("key", "operator", "values", "expected"),
    [
        ("disk", "In", ["hdd", "ssd"], True),
        ("none", "In", ["ssd"], False),
        ("disk", "NotIn", ["ssd"], False),
        ("none", "NotIn", ["ssd"], True),
        ("disk", "Exists", [], True),
        ("none", "Exists", [], False),
        ("none", "DoesNotExist", [], True),
        ("cores", "Gt", ["7"], True),
        ("cores", "Gt", ["8"], False),
        ("cores", "Lt", ["9"], True),
        ("disk", "Gt", ["1"], False),
        ("none", "Lt", ["9"], False),
        ("cores", "Gt", ["1", "2"], False),
        ("disk", "Like", ["ssd"], False),
    ],
)
def test_requirements(key: str, operator: str, values: list[str], expected: bool) -> None:
    assert rules.matches_requirement({"key": key, "operator": operator, "values": values}, LABELS) is expected


@given(keys, values)
def test_in_and_not_in_are_opposites(key: str, values: list[str]) -> None:
    one, other = ({"key": key, "operator": operator, "values": values} for operator in ("In", "NotIn"))
    assert rules.matches_requirement(one, LABELS) is not rules.matches_requirement(other, LABELS)


def test_selector_and_terms() -> None:
    assert rules.selects_node({}, LABELS, "pi")
    assert rules.selects_node({"nodeSelector": {"disk": "ssd"}}, LABELS, "pi")
    assert not rules.selects_node({"nodeSelector": {"disk": "ssd", "zone": "a"}}, LABELS, "pi")
    right, wrong = {"key": "zone", "operator": "In", "values": ["b"]}, {"key": "zone", "operator": "In", "values": ["a"]}
    assert rules.selects_node(required({"matchExpressions": [wrong]}, {"matchExpressions": [right]}), LABELS, "pi")
    assert not rules.selects_node(required({"matchExpressions": [right, wrong]}), LABELS, "pi")
    assert not rules.selects_node(required({}), LABELS, "pi"), "an empty term matches nothing"
    assert not rules.selects_node(required(), LABELS, "pi")
    named = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["pi"]}]}
    assert rules.selects_node(required(named), LABELS, "pi")
    assert not rules.selects_node(required(named), LABELS, "other")
    assert not rules.selects_node({**required(named), "nodeSelector": {"zone": "a"}}, LABELS, "pi")


@pytest.mark.parametrize(
    ("toleration", "expected"),
    [
        ({"operator": "Exists"}, True),
        ({"key": "a", "operator": "Exists"}, True),
        ({"key": "a", "value": "1"}, True),
        ({"key": "a", "value": "2"}, False),
        ({"key": "b", "operator": "Exists"}, False),
        ({"key": "a", "value": "1", "effect": "NoExecute"}, True),
        ({"key": "a", "value": "1", "effect": "NoSchedule"}, False),
        ({"value": "1"}, False),
        ({"key": "a", "operator": "Near"}, False),
    ],
)
def test_tolerations(toleration: dict[str, str], expected: bool) -> None:
    taint = {"key": "a", "value": "1", "effect": "NoExecute"}
    assert rules.tolerates(toleration, taint) is expected
    assert (rules.untolerated([taint], [toleration], {rules.NO_EXECUTE}) is None) is expected


def test_only_the_asked_effects_count() -> None:
    taint = {"key": "a", "effect": "NoSchedule"}
    assert rules.untolerated([taint], (), {rules.NO_EXECUTE}) is None
    assert rules.untolerated([taint], (), {rules.NO_EXECUTE, rules.NO_SCHEDULE}) == taint


def part(cpu: str, memory: str, **more: Any) -> dict[str, Any]:
    return {"resources": {"requests": {"cpu": cpu, "memory": memory}}, **more}


def test_requests_of_a_pod() -> None:
    spec = {
        "containers": [part("100m", "10Mi"), {"resources": {"limits": {"cpu": "1", "example.com/gpu": 2}}}],
        "initContainers": [part("2", "1Mi"), part("50m", "5Mi", restartPolicy="Always"), part("1200m", "1Mi")],
        "overhead": {"cpu": "10m"},
    }
    assert rules.requests(spec) == {"cpu": 2010, "memory": 15 << 20, "example.com/gpu": 2}
    assert rules.requests({**spec, "resources": {"requests": {"cpu": "3", "pods": "1"}}})["cpu"] == 3010
    assert rules.requests({}) == {}
    with pytest.raises(ValueError, match="quantity"):
        rules.requests({"containers": [part("much", "1")]})


@given(st.lists(st.tuples(st.integers(0, 4000), st.booleans()), max_size=5), st.lists(st.integers(0, 4000), max_size=4))
def test_requests_cover_every_moment_of_the_pod(inits: list[tuple[int, bool]], mains: list[int]) -> None:
    """Simulate the start: at no moment do the running containers ask for more than the pod does, and at one they ask for as much."""
    spec = {
        "initContainers": [part(f"{cpu}m", "0", **({"restartPolicy": "Always"} if is_sidecar else {})) for cpu, is_sidecar in inits],
        "containers": [part(f"{cpu}m", "0") for cpu in mains],
    }
    running, moments = 0, [0]
    for cpu, is_sidecar in inits:
        moments.append(running + cpu)
        running += cpu if is_sidecar else 0
    moments.append(running + sum(mains))
    assert rules.requests(spec).get("cpu", 0) == max(moments)


def test_shortage_names_the_first_resource() -> None:
    capacity = rules.amounts({"cpu": "2", "memory": "1Gi", "pods": 2})
    assert rules.shortage({"cpu": 1000, "pods": 1}, {"cpu": 1000, "pods": 1}, capacity) is None
    assert rules.shortage({"cpu": 1001, "pods": 1}, {"cpu": 1000, "pods": 1}, capacity) == ("cpu", 1001, 1000, 2000)
    assert rules.shortage({"cpu": 1001, "pods": 1}, {"cpu": 1000, "pods": 2}, capacity) == ("pods", 1, 2, 2)
    assert rules.shortage({"example.com/gpu": 1}, {}, capacity) == ("example.com/gpu", 1, 0, 0)
    assert rules.shortage({"example.com/gpu": 0}, {}, capacity) is None
    assert rules.shortage({"cpu": 0}, {"cpu": 9000}, capacity) is None, "who asks for nothing takes nothing"


def test_ports() -> None:
    spec = {"containers": [{"ports": [{"containerPort": 80, "hostPort": 8080}, {"containerPort": 53, "protocol": "UDP"}]}]}
    assert rules.host_ports(spec) == {HostPort("", "TCP", 8080)}
    assert rules.host_ports({"hostNetwork": True, **spec}) == {HostPort("", "TCP", 8080), HostPort("", "UDP", 53)}
    one, everywhere = HostPort("10.0.0.1", "TCP", 80), HostPort("", "TCP", 80)
    assert rules.ports_collide([one], [everywhere])
    assert rules.ports_collide([everywhere], [one])
    assert not rules.ports_collide([one], [HostPort("10.0.0.2", "TCP", 80), HostPort("", "UDP", 80), HostPort("", "TCP", 81)])
    assert not rules.ports_collide([one], [])
