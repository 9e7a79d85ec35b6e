"""A node's Kubernetes objects: Node, its status, its lease. Pure; times are Unix seconds (Kubernetes API, core/v1 and coordination/v1)."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from typing import Any, Final

from pinnace.core.base.contract.keys import EDGE_NODE_LABEL, NodeName
from pinnace.core.base.contract.moments import moment
from pinnace.core.base.ports import PodHost
from pinnace.core.base.settings.edged import EdgedSettings
from pinnace.core.node.machine import Load, Machine

Object = dict[str, Any]

AGENT_LABEL: Final = "node-role.kubernetes.io/agent"
_ATTACH_ANNOTATION: Final = "volumes.kubernetes.io/controller-managed-attach-detach"
_SPOKEN: Final = "v1.32.10-kubeedge-v1.23.1"
"""The Kubernetes and KubeEdge versions we speak like; a cloudcore looks at the latter to choose its dialect."""

MEMORY_PRESSURE: Final = "MemoryPressure"
DISK_PRESSURE: Final = "DiskPressure"
PID_PRESSURE: Final = "PIDPressure"

_MEMORY_RESERVE: Final = 100 << 20
_DISK_SHARE: Final = 0.10
_INODE_SHARE: Final = 0.05
_TASK_SHARE: Final = 0.05
"""Below these a node is under pressure, as for a kubelet with its default thresholds."""

_FACT: Final = re.compile(r"[^A-Za-z0-9]+")
_DEGRADED: Final = "Degraded"
_RECOVERED: Final = "Recovered"
_HEALTHY: Final = "Healthy"
_MESSAGE_CHARACTERS: Final = 1024


def micro_moment(wall: float) -> str:
    """RFC 3339 with microseconds, as Kubernetes' MicroTime."""
    return datetime.datetime.fromtimestamp(wall, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def labels(node: NodeName, settings: EdgedSettings, machine: Machine) -> dict[str, str]:
    """What the node registers with; the configured ones win."""
    return {
        "beta.kubernetes.io/arch": machine.architecture,
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": machine.architecture,
        "kubernetes.io/hostname": node,
        "kubernetes.io/os": "linux",
        AGENT_LABEL: "",
        EDGE_NODE_LABEL: "",
        **settings.node_labels,
    }


def node_object(node: NodeName, settings: EdgedSettings, machine: Machine, status: Object) -> Object:
    """The Node to register."""
    spec: Object = {}
    if settings.tailored_kubelet_config.register_with_taints:
        spec["taints"] = [dict(taint) for taint in settings.tailored_kubelet_config.register_with_taints]
    if not settings.register_schedulable:
        spec["unschedulable"] = True
    metadata = {
        "name": node,
        "creationTimestamp": None,
        "labels": labels(node, settings, machine),
        "annotations": {_ATTACH_ANNOTATION: "true"},
    }
    return {"metadata": metadata, "spec": spec, "status": status}


def status_of(
    node: NodeName,
    machine: Machine,
    load: Load,
    problems: Mapping[str, str],
    live: Object,
    *,
    version: str,
    wall: float,
    host: PodHost | None = None,
) -> Object:
    """The Node's status now. `live` is the Node as the cloud has it ({} when unknown): a condition that did not change keeps the time
    of its last transition, and a fact that was once stated as a problem is stated as recovered. `problems` are those of Health. Without a
    `host` no pods run here, and none may be scheduled to it."""
    resources = {
        "cpu": str(machine.cpus),
        "memory": f"{machine.memory >> 10}Ki",
        "ephemeral-storage": f"{machine.disk >> 10}Ki",
        "pods": str(host.max_pods if host is not None else 0),
    }
    addresses = [{"type": "InternalIP", "address": load.address}] if load.address else []
    return {
        "capacity": resources,
        "allocatable": dict(resources if host is None else host.allocatable(resources)),
        "conditions": _conditions(_pressures(load) if host is None else host.pressures, problems, live, moment(wall), host),
        "addresses": [*addresses, {"type": "Hostname", "address": node}],
        "nodeInfo": {
            "machineID": machine.machine_id,
            "systemUUID": machine.system_uuid,
            "bootID": machine.boot_id,
            "kernelVersion": machine.kernel,
            "osImage": machine.os_image,
            "containerRuntimeVersion": f"pinnace://{version}" if host is None else host.runtime,
            "kubeletVersion": f"{_SPOKEN}-pinnace.{version}",
            "kubeProxyVersion": "",
            "operatingSystem": "linux",
            "architecture": machine.architecture,
        },
    }


def without_heartbeats(status: Object) -> Object:
    """What two statuses are compared by."""
    conditions = [{key: value for key, value in each.items() if key != "lastHeartbeatTime"} for each in status["conditions"]]
    return {**status, "conditions": conditions}


def lease_object(node: NodeName, node_uid: str, seconds: int, wall: float) -> Object:
    """A new lease; it goes with its Node when that one is deleted."""
    metadata: Object = {"name": node, "namespace": "kube-node-lease", "creationTimestamp": None}
    if node_uid:
        metadata["ownerReferences"] = [{"apiVersion": "v1", "kind": "Node", "name": node, "uid": node_uid}]
    return {"metadata": metadata, "spec": {"holderIdentity": node, "leaseDurationSeconds": seconds, "renewTime": micro_moment(wall)}}


def renewed(lease: Object, node: NodeName, seconds: int, wall: float) -> Object:
    """The lease as last seen, renewed."""
    spec = {**(lease.get("spec") or {}), "holderIdentity": node, "leaseDurationSeconds": seconds, "renewTime": micro_moment(wall)}
    return {**lease, "spec": spec}


def fact_condition(fact: str) -> str:
    """The condition's type of a health fact: `store` → StoreHealthy, `eventbus.external` → EventbusExternalHealthy."""
    return "".join(part[:1].upper() + part[1:] for part in _FACT.split(fact)) + _HEALTHY


def _pressures(load: Load) -> frozenset[str]:
    """Under what a node without pods is."""
    found = {
        MEMORY_PRESSURE: load.memory_available < _MEMORY_RESERVE,
        DISK_PRESSURE: min(load.disk_free / _DISK_SHARE, load.inodes_free / _INODE_SHARE) < 1.0,
        PID_PRESSURE: load.tasks_free < _TASK_SHARE,
    }
    return frozenset(kind for kind, is_so in found.items() if is_so)


def last_address(live: Object) -> str:
    """The address that a Node had when its status was last told; "" when it had none."""
    told = (live.get("status") or {}).get("addresses") or ()
    return next((str(each.get("address") or "") for each in told if each.get("type") == "InternalIP"), "")


def _conditions(pressures: frozenset[str], problems: Mapping[str, str], live: Object, now: str, host: PodHost | None) -> list[Object]:
    before: dict[str, Object] = {each.get("type", ""): each for each in (live.get("status") or {}).get("conditions") or ()}
    problem = host.problem if host is not None else ""
    found = [
        _pressure(pressures, MEMORY_PRESSURE, "KubeletHasInsufficientMemory", "KubeletHasSufficientMemory", "memory available"),
        _pressure(pressures, DISK_PRESSURE, "KubeletHasDiskPressure", "KubeletHasNoDiskPressure", "disk space"),
        _pressure(pressures, PID_PRESSURE, "KubeletHasInsufficientPID", "KubeletHasSufficientPID", "process ids available"),
        _condition("Ready", not problem, "KubeletNotReady" if problem else "EdgeReady", problem or "edge is posting ready status"),
    ]
    stated = {fact_condition(fact): problem for fact, problem in sorted(problems.items())}
    found += [_condition(kind, False, _DEGRADED, problem[:_MESSAGE_CHARACTERS]) for kind, problem in stated.items()]
    for kind, old in before.items():
        if kind.endswith(_HEALTHY) and kind not in stated and old.get("reason") in (_DEGRADED, _RECOVERED):
            found.append(_condition(kind, True, _RECOVERED, "all is well again"))
    for each in found:
        old = before.get(each["type"], {})
        is_same = old.get("status") == each["status"]
        each["lastHeartbeatTime"] = now
        each["lastTransitionTime"] = (old.get("lastTransitionTime") if is_same else None) or now
    return found


def _pressure(pressures: frozenset[str], kind: str, bad: str, good: str, what: str) -> Object:
    is_under = kind in pressures
    return _condition(kind, is_under, bad if is_under else good, f"the node has {'too little' if is_under else 'enough'} {what}")


def _condition(kind: str, value: bool, reason: str, message: str) -> Object:
    return {"type": kind, "status": "True" if value else "False", "reason": reason, "message": message}
