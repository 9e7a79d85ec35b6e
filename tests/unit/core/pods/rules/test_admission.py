"""Admission in the kubelet's words."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.core.base.pod import Pod
from pinnace.core.pods.rules.admission import admit, dotted, sysctl_is_allowed

ROOM = {"cpu": 1000, "memory": 1 << 30, "pods": 3}


def pod(name: str = "web", requests: dict[str, str] | None = None, **spec: Any) -> Pod:
    container = {"name": "c", "resources": {"requests": requests or {}}}
    return Pod({"metadata": {"name": name}, "spec": {"containers": [container], **spec}})


def node(**more: Any) -> dict[str, Any]:
    return {"metadata": {"name": "pi", "labels": {"disk": "ssd"}}, "spec": more}


def reason(*args: Any, **more: Any) -> str:
    refusal = admit(*args, allocatable=ROOM, **more)
    return refusal.reason if refusal else ""


def test_a_plain_pod_is_taken_with_and_without_a_node() -> None:
    assert admit(pod(), [], None, allocatable=ROOM) is None
    assert admit(pod(requests={"cpu": "1"}), [pod()], node(), allocatable=ROOM) is None


def test_out_of_a_resource() -> None:
    refusal = admit(pod(requests={"cpu": "800m"}), [pod(requests={"cpu": "300m"})], node(), allocatable=ROOM)
    assert refusal == (
        "OutOfcpu",
        "Pod was rejected: Node didn't have enough resource: cpu, requested: 800, used: 300, capacity: 1000",
    )
    assert reason(pod(requests={"memory": "2Gi"}), [], None) == "OutOfmemory"
    assert reason(pod(), [pod(), pod(), pod()], None) == "OutOfpods"
    assert reason(pod(requests={"example.com/fpga": "1"}), [], None) == "OutOfexample.com/fpga"
    assert reason(pod(requests={"cpu": "many"}), [], None) == "UnexpectedAdmissionError"
    assert reason(pod(), [pod(requests={"cpu": "many"})], None) == "", "another pod's mistake is not this one's"


def test_place() -> None:
    assert reason(pod(nodeSelector={"disk": "hdd"}), [], node()) == "NodeAffinity"
    assert reason(pod(nodeSelector={"disk": "hdd"}), [], None) == "", "a node never seen has no labels to compare"
    assert reason(pod(nodeName="other"), [], node()) == "NodeName"
    assert reason(pod(nodeName="other"), [], None, node_name="pi") == "NodeName"
    assert reason(pod(nodeName="pi"), [], node()) == ""
    tainted = node(taints=[{"key": "a", "effect": "NoExecute"}])
    assert reason(pod(), [], tainted) == "TaintToleration"
    assert reason(pod(), [], node(taints=[{"key": "a", "effect": "NoSchedule"}])) == ""
    assert reason(pod(tolerations=[{"operator": "Exists"}]), [], tainted) == ""
    static = pod()
    static.metadata["annotations"] = {"kubernetes.io/config.source": "file"}
    assert reason(static, [], tainted) == ""


def test_ports() -> None:
    taken = pod(containers=[{"name": "c", "ports": [{"containerPort": 1, "hostPort": 80}]}])
    assert reason(taken, [], None) == ""
    refusal = admit(taken, [taken], None, allocatable=ROOM)
    assert refusal is not None
    assert refusal.message == "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"


def test_operating_system_and_sysctls() -> None:
    assert reason(pod(os={"name": "windows"}), [], None) == "PodOSNotSupported"
    unsafe: dict[str, Any] = {"securityContext": {"sysctls": [{"name": "net/core/somaxconn", "value": "1"}]}}
    assert reason(pod(**unsafe), [], None) == "SysctlForbidden"
    assert reason(pod(**unsafe), [], None, allowed_sysctls=["net.core.*"]) == ""
    assert reason(pod(**unsafe, hostNetwork=True), [], None, allowed_sysctls=["net.core.*"]) == "SysctlForbidden"
    shared: dict[str, Any] = {"securityContext": {"sysctls": [{"name": "kernel.shm_rmid_forced", "value": "1"}]}}
    assert reason(pod(**shared), [], None) == ""
    assert reason(pod(**shared, hostIPC=True), [], None) == "SysctlForbidden"


@pytest.mark.parametrize(
    ("written", "name"),
    [("net.core.a", "net.core.a"), ("net/core/a", "net.core.a"), ("net/ipv4/conf/eth0.1/b", "net.ipv4.conf.eth0/1.b"), ("", "")],
)
def test_sysctl_names(written: str, name: str) -> None:
    assert dotted(written) == name


def test_a_name_is_no_prefix() -> None:
    assert not sysctl_is_allowed("kernel.msgmax2", ["kernel.msgmax"])
    assert sysctl_is_allowed("kernel.msgmax", ["kernel.msg*"])


def test_pressure() -> None:
    best_effort, burstable = pod(), pod(requests={"memory": "1Mi"})
    refusal = admit(best_effort, [], None, allocatable=ROOM, pressure={"MemoryPressure"})
    assert refusal == ("Evicted", "Pod was rejected: The node had condition: [MemoryPressure]. ")
    assert reason(burstable, [], None, pressure={"MemoryPressure"}) == ""
    assert reason(burstable, [], None, pressure={"MemoryPressure", "DiskPressure"}) == "Evicted"
    assert reason(pod(priority=2_000_000_000), [], None, pressure={"DiskPressure"}) == ""
    tolerant = pod(tolerations=[{"key": "node.kubernetes.io/memory-pressure", "operator": "Exists", "effect": "NoSchedule"}])
    assert reason(tolerant, [], None, pressure={"MemoryPressure"}) == ""


@given(st.lists(st.integers(1, 700), max_size=8))
def test_what_was_admitted_one_after_another_fits_together(cpus: list[int]) -> None:
    here: list[Pod] = []
    for number, cpu in enumerate(cpus):
        asked = pod(f"p{number}", {"cpu": f"{cpu}m"})
        if admit(asked, here, None, allocatable=ROOM) is None:
            here.append(asked)
        else:
            assert len(here) == 3 or cpu + sum(_cpu(each) for each in here) > 1000
    assert sum(_cpu(each) for each in here) <= 1000


def _cpu(asked: Pod) -> int:
    return int(asked.containers[0].spec["resources"]["requests"]["cpu"].removesuffix("m"))
