"""Whether the node takes a pod (the kubelet's admission): a refused one becomes Failed with this reason and runs nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

from pinnace.core.base.contract import scheduling
from pinnace.core.base.pod import Object, Pod

MEMORY_PRESSURE: Final = "MemoryPressure"
DISK_PRESSURE: Final = "DiskPressure"
PID_PRESSURE: Final = "PIDPressure"

_MEMORY_TAINT: Final = {"key": "node.kubernetes.io/memory-pressure", "effect": "NoSchedule"}
_SAFE_SYSCTLS: Final = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.tcp_wmem",
    }
)
"""Namespaced, and harmless to the other pods (Kubernetes, sysctls in a cluster)."""
_IPC: Final = ("kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue.")


class Refusal(NamedTuple):
    """Why not: the pod's status.reason, and status.message."""

    reason: str
    message: str


def admit(
    pod: Pod,
    others: Sequence[Pod],
    node: Object | None,
    *,
    allocatable: Mapping[str, int],
    pressure: Collection[str] = (),
    allowed_sysctls: Collection[str] = (),
    node_name: str = "",
) -> Refusal | None:
    """None when the node takes it.

    `others` are the pods that are here and have not ended; `node` the Node object, None when never seen (then labels and taints are not
    looked at: offline, what ran before runs again); `allocatable` whole numbers as in base/contract/scheduling.py; `pressure` the
    pressure conditions that hold. Critical pods are taken under pressure, static ones in spite of taints.
    """
    return (
        _under_pressure(pod, pressure)
        or _operating_system(pod)
        or _sysctls(pod, allowed_sysctls)
        or _place(pod, node, node_name)
        or _ports(pod, others)
        or _room(pod, others, allocatable)
    )


def sysctl_is_allowed(name: str, allowed: Collection[str]) -> bool:
    """`allowed` holds names of unsafe sysctls, or prefixes that end in `*`."""
    name = dotted(name)
    if name in _SAFE_SYSCTLS:
        return True
    return any(name.startswith(dotted(each[:-1])) if each.endswith("*") else name == dotted(each) for each in allowed)


def dotted(sysctl: str) -> str:
    """The one form of a sysctl's name: kernel.shm_rmid_forced for kernel/shm_rmid_forced. A dot after a slash is a dot in the name."""
    first = next((each for each in sysctl if each in "./"), ".")
    return sysctl if first == "." else sysctl.translate(str.maketrans("./", "/."))


def _under_pressure(pod: Pod, pressure: Collection[str]) -> Refusal | None:
    if not pressure or pod.is_critical:
        return None
    if set(pressure) == {MEMORY_PRESSURE}:
        asks = any((each.spec.get("resources") or {}).get(kind) for each in pod.all_containers for kind in ("requests", "limits"))
        tolerations = pod.spec.get("tolerations") or ()
        if asks or any(scheduling.tolerates(each, _MEMORY_TAINT) for each in tolerations):
            return None
    return Refusal("Evicted", f"Pod was rejected: The node had condition: [{' '.join(sorted(pressure))}]. ")


def _operating_system(pod: Pod) -> Refusal | None:
    if (pod.spec.get("os") or {}).get("name", "linux") == "linux":
        return None
    return _rejected("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS")


def _sysctls(pod: Pod, allowed: Collection[str]) -> Refusal | None:
    for each in (pod.spec.get("securityContext") or {}).get("sysctls") or ():
        name = dotted(str(each.get("name", "")))
        if not sysctl_is_allowed(name, allowed):
            return _rejected("SysctlForbidden", f'forbidden sysctl: "{name}" not allowlisted')
        if pod.host_network and name.startswith("net."):
            return _rejected("SysctlForbidden", f'forbidden sysctl: "{name}" not allowed with host net enabled')
        if pod.spec.get("hostIPC") and name.startswith(_IPC):
            return _rejected("SysctlForbidden", f'forbidden sysctl: "{name}" not allowed with host ipc enabled')
    return None


def _place(pod: Pod, node: Object | None, node_name: str) -> Refusal | None:
    name = node_name or str(((node or {}).get("metadata") or {}).get("name", ""))
    wanted = pod.spec.get("nodeName") or ""
    if name and wanted and wanted != name:
        return _failed("NodeName", "node(s) didn't match the requested node name")
    if node is None:
        return None
    labels = (node.get("metadata") or {}).get("labels") or {}
    if not scheduling.selects_node(pod.spec, labels, name):
        return _failed("NodeAffinity", "node(s) didn't match Pod's node affinity/selector")
    taints = (node.get("spec") or {}).get("taints") or ()
    tolerations = pod.spec.get("tolerations") or ()
    if not pod.is_static and scheduling.untolerated(taints, tolerations, {scheduling.NO_EXECUTE}):
        return _failed("TaintToleration", "node(s) had taints that the pod didn't tolerate")
    return None


def _ports(pod: Pod, others: Sequence[Pod]) -> Refusal | None:
    ports = scheduling.host_ports(pod.spec)
    if ports and any(scheduling.ports_collide(ports, scheduling.host_ports(each.spec)) for each in others):
        return _failed("NodePorts", "node(s) didn't have free ports for the requested pod ports")
    return None


def _room(pod: Pod, others: Sequence[Pod], allocatable: Mapping[str, int]) -> Refusal | None:
    used: Counter[str] = Counter(pods=len(others))
    for each in others:
        try:
            used.update(scheduling.requests(each.spec))
        except ValueError:
            continue  # it is refused itself, and takes nothing
    try:
        asked = {**scheduling.requests(pod.spec), "pods": 1}
    except ValueError as error:
        return _rejected("UnexpectedAdmissionError", f"a resource is no quantity: {error}")
    short = scheduling.shortage(asked, used, allocatable)
    if short is None:
        return None
    return _rejected(
        f"OutOf{short.resource}",
        f"Node didn't have enough resource: {short.resource}, requested: {short.requested}, used: {short.used}, capacity: {short.capacity}",
    )


def _failed(predicate: str, why: str) -> Refusal:
    return _rejected(predicate, f"Predicate {predicate} failed: {why}")


def _rejected(reason: str, message: str) -> Refusal:
    return Refusal(reason, f"Pod was rejected: {message}")
