"""The node's Kubernetes objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from pinnace.core.base.contract.keys import NodeName
from pinnace.core.base.ports import PodHost
from pinnace.core.base.settings.edged import EdgedSettings, KubeletSettings
from pinnace.core.node import objects
from pinnace.core.node.machine import Load, Machine

NODE = NodeName("192.168.4.22-pi2")
MACHINE = Machine("arm64", "6.6", "Raspberry Pi OS", "m", "s", "b", 4, 927912 * 1024, 32 << 30)
LOAD = Load(400 << 20, 0.5, 0.5, 0.9, "192.0.2.7")
WALL = 1_800_000_000.25


def status(
    load: Load = LOAD, problems: dict[str, str] | None = None, live: dict[str, Any] | None = None, wall: float = WALL
) -> dict[str, Any]:
    return objects.status_of(NODE, MACHINE, load, problems or {}, live or {}, version="0.1.0", wall=wall)


class Host:
    """A PodHost of fixed facts."""

    runtime = "containerd://1.7.2"
    max_pods = 110

    def __init__(self, problem: str = "", *pressures: str) -> None:
        self.problem = problem
        self.pressures = frozenset(pressures)

    def allocatable(self, capacity: Mapping[str, str]) -> Mapping[str, str]:
        return {**capacity, "memory": "800000Ki"}

    def on_change(self, listener: Callable[[], None]) -> None: ...


def hosting(host: PodHost) -> dict[str, Any]:
    return objects.status_of(NODE, MACHINE, LOAD, {}, {}, version="0.1.0", wall=WALL, host=host)


def condition(found: dict[str, Any], kind: str) -> dict[str, Any]:
    (each,) = [each for each in found["conditions"] if each["type"] == kind]
    return dict(each)


def test_registers_as_an_edge_node_with_the_configured_labels_and_taints() -> None:
    settings = EdgedSettings(
        node_labels={"hostname": NODE, "kubernetes.io/os": "other"},
        register_schedulable=False,
        tailored_kubelet_config=KubeletSettings(register_with_taints=({"key": "k", "effect": "NoSchedule"},)),
    )
    node = objects.node_object(NODE, settings, MACHINE, status())
    labels = node["metadata"]["labels"]
    assert labels["node-role.kubernetes.io/edge"] == labels["node-role.kubernetes.io/agent"] == ""
    assert (labels["kubernetes.io/hostname"], labels["hostname"], labels["kubernetes.io/arch"]) == (NODE, NODE, "arm64")
    assert labels["kubernetes.io/os"] == "other"
    assert node["spec"] == {"taints": [{"key": "k", "effect": "NoSchedule"}], "unschedulable": True}
    assert node["metadata"]["name"] == NODE


def test_a_healthy_status() -> None:
    found = status()
    assert found["capacity"] == {"cpu": "4", "memory": "927912Ki", "ephemeral-storage": "33554432Ki", "pods": "0"}
    assert found["addresses"] == [{"type": "InternalIP", "address": "192.0.2.7"}, {"type": "Hostname", "address": NODE}]
    assert [(each["type"], each["status"]) for each in found["conditions"]] == [
        ("MemoryPressure", "False"),
        ("DiskPressure", "False"),
        ("PIDPressure", "False"),
        ("Ready", "True"),
    ]
    ready = condition(found, "Ready")
    assert (ready["reason"], ready["lastHeartbeatTime"], ready["lastTransitionTime"]) == (
        "EdgeReady",
        "2027-01-15T08:00:00Z",
        "2027-01-15T08:00:00Z",
    )
    assert found["nodeInfo"]["kubeletVersion"] == "v1.32.10-kubeedge-v1.23.1-pinnace.0.1.0"


def test_a_node_that_runs_pods_offers_room_and_names_its_runtime() -> None:
    found = hosting(Host())
    assert (found["capacity"]["pods"], found["allocatable"]["memory"]) == ("110", "800000Ki")
    assert found["capacity"]["memory"] == "927912Ki"
    assert found["nodeInfo"]["containerRuntimeVersion"] == "containerd://1.7.2"
    assert condition(found, "Ready")["status"] == "True"


def test_a_node_whose_runtime_is_down_is_not_ready_and_says_why() -> None:
    ready = condition(hosting(Host("the container runtime is down: start containerd")), "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "KubeletNotReady")
    assert ready["message"] == "the container runtime is down: start containerd"


def test_the_pressures_are_those_that_pods_are_evicted_by() -> None:
    found = hosting(Host("", "DiskPressure"))
    assert [each["type"] for each in found["conditions"] if each["status"] == "True"] == ["DiskPressure", "Ready"]


@pytest.mark.parametrize(
    ("load", "kind"),
    [
        (Load(99 << 20, 0.5, 0.5, 0.9, ""), "MemoryPressure"),
        (Load(400 << 20, 0.09, 0.5, 0.9, ""), "DiskPressure"),
        (Load(400 << 20, 0.5, 0.04, 0.9, ""), "DiskPressure"),
        (Load(400 << 20, 0.5, 0.5, 0.01, ""), "PIDPressure"),
    ],
)
def test_pressure(load: Load, kind: str) -> None:
    under = [each["type"] for each in status(load)["conditions"] if each["status"] == "True" and each["type"] != "Ready"]
    assert under == [kind]


def test_a_condition_keeps_the_time_of_its_transition_while_it_stays_the_same() -> None:
    first = status()
    live = {"status": first}
    later = status(Load(99 << 20, 0.5, 0.5, 0.9, "192.0.2.7"), live=live, wall=WALL + 60)
    assert condition(later, "Ready")["lastTransitionTime"] == "2027-01-15T08:00:00Z"
    assert condition(later, "Ready")["lastHeartbeatTime"] == "2027-01-15T08:01:00Z"
    assert condition(later, "MemoryPressure")["lastTransitionTime"] == "2027-01-15T08:01:00Z"
    assert objects.without_heartbeats(later) != objects.without_heartbeats(first)
    assert objects.without_heartbeats(status(live=live, wall=WALL + 60)) == objects.without_heartbeats(first)


def test_a_problem_is_a_condition_and_its_end_is_one_too() -> None:
    sick = status(problems={"store": "the database is damaged: set aside as x", "eventbus.external": "no broker"})
    assert condition(sick, "StoreHealthy") | {"lastHeartbeatTime": "", "lastTransitionTime": ""} == {
        "type": "StoreHealthy",
        "status": "False",
        "reason": "Degraded",
        "message": "the database is damaged: set aside as x",
        "lastHeartbeatTime": "",
        "lastTransitionTime": "",
    }
    assert condition(sick, "EventbusExternalHealthy")["status"] == "False"
    well = status(live={"status": sick}, problems={"eventbus.external": "no broker"})
    assert (condition(well, "StoreHealthy")["status"], condition(well, "StoreHealthy")["reason"]) == ("True", "Recovered")
    assert condition(well, "EventbusExternalHealthy")["status"] == "False"
    assert condition(status(live={"status": well}), "StoreHealthy")["status"] == "True"


def test_other_peoples_conditions_are_left_to_them() -> None:
    live = {"status": {"conditions": [{"type": "KernelHealthy", "status": "True", "reason": "ByAnother"}, {"type": "Other"}]}}
    assert {each["type"] for each in status(live=live)["conditions"]} == {"MemoryPressure", "DiskPressure", "PIDPressure", "Ready"}


def test_the_last_address_is_that_of_the_last_status() -> None:
    told = [{"type": "Hostname", "address": "pi"}, {"type": "InternalIP", "address": "192.168.4.22"}]
    assert objects.last_address({"status": {"addresses": told}}) == "192.168.4.22"
    lacking: list[objects.Object] = [{}, {"status": {}}, {"status": {"addresses": told[:1]}}]
    assert [objects.last_address(live) for live in lacking] == ["", "", ""]


def test_leases() -> None:
    lease = objects.lease_object(NODE, "uid-1", 40, WALL)
    assert lease["spec"] == {"holderIdentity": NODE, "leaseDurationSeconds": 40, "renewTime": "2027-01-15T08:00:00.250000Z"}
    assert lease["metadata"]["ownerReferences"] == [{"apiVersion": "v1", "kind": "Node", "name": NODE, "uid": "uid-1"}]
    assert "ownerReferences" not in objects.lease_object(NODE, "", 40, WALL)["metadata"]
    found = {"metadata": {"resourceVersion": "7"}, "spec": {"holderIdentity": "x", "acquireTime": "t"}}
    renewed = objects.renewed(found, NODE, 40, WALL + 10)
    assert renewed["metadata"] == {"resourceVersion": "7"}
    assert renewed["spec"]["renewTime"] == "2027-01-15T08:00:10.250000Z"
    assert renewed["spec"]["acquireTime"] == "t"
    assert found["spec"]["holderIdentity"] == "x"
