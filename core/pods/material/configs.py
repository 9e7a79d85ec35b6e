"""The runtime's records of a pod and its containers, from their specs. Pure (Kubernetes API, core/v1 PodSpec, Container)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import orjson

from pinnace.core.base import runtime
from pinnace.core.base.pod import Container, Pod
from pinnace.core.base.runtime import Dns, PortMapping, SandboxConfig
from pinnace.core.pods.material.binding import termination_path
from pinnace.core.pods.rules.hosts import hostname_of
from pinnace.core.pods.rules.security import is_privileged, namespaces_of, sysctls_of

DELETION_GRACE: Final = "io.kubernetes.pod.deletionGracePeriod"
PORTS: Final = "io.kubernetes.container.ports"


def sandbox_of(pod: Pod, attempt: int, *, dns: Dns, cluster_domain: str, cgroup_parent: str, logs: Path) -> SandboxConfig:
    """Raises ValueError for what this node cannot give."""
    if name := pod.spec.get("runtimeClassName"):
        raise ValueError(f"runtimeClassName {name!r}: this node has one runtime only; leave it out")
    return SandboxConfig(
        name=pod.name,
        namespace=pod.namespace,
        uid=pod.uid,
        attempt=attempt,
        hostname=hostname_of(pod, cluster_domain),
        log_directory=logs,
        dns=dns,
        ports=ports_of(pod),
        labels={**pod.labels, **pod_labels(pod)},
        annotations=dict(pod.annotations),
        cgroup_parent=cgroup_parent,
        sysctls=sysctls_of(pod),
        namespaces=namespaces_of(pod),
        privileged=any(is_privileged(each) for each in pod.all_containers),
    )


def ports_of(pod: Pod) -> tuple[PortMapping, ...]:
    """Every hostPort; on the host's network there is nothing to map."""
    if pod.host_network:
        return ()
    return tuple(
        PortMapping(int(port["containerPort"]), int(port["hostPort"]), str(port.get("protocol") or "TCP"), str(port.get("hostIP") or ""))
        for container in pod.all_containers
        for port in container.spec.get("ports") or ()
        if port.get("hostPort")
    )


def pod_labels(pod: Pod) -> dict[str, str]:
    """By which the runtime's things are found again."""
    return {runtime.POD_NAME_LABEL: pod.name, runtime.POD_NAMESPACE_LABEL: pod.namespace, runtime.POD_UID_LABEL: pod.uid}


def container_labels(pod: Pod, container: Container) -> dict[str, str]:
    return {**pod_labels(pod), runtime.CONTAINER_NAME_LABEL: container.name}


def container_annotations(pod: Pod, container: Container, attempt: int) -> Mapping[str, str]:
    """What must be known of it even when the pod's object is gone."""
    spec = container.spec
    found = {
        runtime.CONTAINER_HASH: container.hash,
        runtime.CONTAINER_RESTARTS: str(attempt),
        runtime.TERMINATION_PATH: termination_path(container),
        runtime.TERMINATION_POLICY: str(spec.get("terminationMessagePolicy") or "File"),
    }
    grace = pod.spec.get("terminationGracePeriodSeconds")
    if grace is not None:
        found[runtime.POD_GRACE] = str(grace)
    if pod.metadata.get("deletionGracePeriodSeconds") is not None:
        found[DELETION_GRACE] = str(pod.metadata["deletionGracePeriodSeconds"])
    if handler := (spec.get("lifecycle") or {}).get("preStop"):
        found[runtime.PRE_STOP] = orjson.dumps(handler).decode()
    if ports := spec.get("ports"):
        found[PORTS] = orjson.dumps(ports).decode()
    return found
