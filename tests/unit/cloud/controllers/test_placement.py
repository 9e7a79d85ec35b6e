"""Which node a device belongs to: by name, by labels, and as KubeEdge 1.1 understood it."""

from __future__ import annotations

import random
from typing import Any

import pytest
from fakes.kube import FakeKube
from fakes.nodes import FakeHub

from pinnace.cloud.admission.conversion import convert
from pinnace.cloud.controllers import placement
from pinnace.cloud.controllers.devices import DeviceController
from pinnace.cloud.controllers.placement import matches, node_of, selector_of
from pinnace.cloud.controllers.sync import SyncController
from pinnace.cloud.kube.resources import CLUSTER_OBJECT_SYNCS, DEVICE_MODELS, DEVICES, OBJECT_SYNCS
from pinnace.cloud.kube.resources import NODES as NODE_KIND
from pinnace.cloud.ports import Object
from pinnace.cloud.watch import ObjectCache
from pinnace.cloud.watch.cache import Identity

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


class Fleet:
    """A DeviceController whose caches are told what to hold."""

    def __init__(self) -> None:
        kube, hub = FakeKube(), FakeHub()
        self.caches = {each: ObjectCache(kube, each) for each in (NODE_KIND, DEVICES, DEVICE_MODELS, OBJECT_SYNCS, CLUSTER_OBJECT_SYNCS)}
        nodes, devices, models, syncs, cluster_syncs = self.caches.values()
        sync = SyncController(kube, hub, object_syncs=syncs, cluster_syncs=cluster_syncs, nodes=nodes)
        self.controller = DeviceController(hub, sync, devices=devices, models=models, nodes=nodes)
        self.moves: list[tuple[Identity, str | None, str | None]] = []
        self.controller.on_placement(lambda *move: self.moves.append(move))

    def device(self, name: str, stored: Object) -> None:
        self.caches[DEVICES]._tell(Identity("default", name), {**stored, "metadata": {**stored["metadata"], "name": name}})

    def node(self, name: str, labels: dict[str, str] | None) -> None:
        self.caches[NODE_KIND]._tell(Identity("", name), None if labels is None else {"metadata": {"name": name, "labels": labels}})


def test_devices_follow_the_labels_of_nodes() -> None:
    """Whatever nodes come, go and are relabelled: each device is where a look at all nodes puts it."""
    dice = random.Random(7)
    fleet, labels, where = Fleet(), dict[str, dict[str, str]](), dict[str, str]()
    stored = {f"d{number}": device(expression("zone", "In", f"z{number % 3}", "z3")) for number in range(6)}
    for each in stored:
        fleet.device(each, stored[each])
        where[each] = node_of(stored[each], labels)
    for _ in range(300):
        name = dice.choice(["a", "b", "c", "z0"])
        found = dice.choice([None, {"zone": f"z{dice.randrange(5)}"}])
        fleet.node(name, found)
        labels.pop(name, None)
        if found is not None:
            labels[name] = found
        for each in stored:
            where[each] = node_of(stored[each], labels, current=where[each])
            assert fleet.controller.node_of("default", each) == where[each]
    last = {key.name: after for key, _, after in fleet.moves}
    assert last == where


def test_a_node_is_compared_with_each_device_and_not_with_all_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    count, compared = 40, 0

    def counting(expressions: Any, labels: Any) -> bool:
        nonlocal compared
        compared += 1
        return matches(expressions, labels)

    monkeypatch.setattr(placement, "matches", counting)
    fleet = Fleet()
    for number in range(count):
        fleet.device(f"d{number}", device(expression("hostname", "In", f"h{number}")))
    for number in range(count):
        fleet.node(f"n{number}", {"hostname": f"h{number}"})
    assert {fleet.controller.node_of("default", f"d{number}") for number in range(count)} == {f"n{number}" for number in range(count)}
    assert compared < 5 * count * count
