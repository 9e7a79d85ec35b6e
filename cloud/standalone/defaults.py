"""What the API fills in for built-in kinds, so that a reader finds every field that means something (Kubernetes API, object defaults).

Defaults are filled in on create and on update alike; what only creation adds (a status) says so.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pinnace.cloud.standalone.kinds import Kind

Object = dict[str, Any]
DEFAULT_MODE = 0o644
_NODE_INFO = (
    "machineID", "systemUUID", "bootID", "kernelVersion", "osImage", "containerRuntimeVersion", "kubeletVersion", "kubeProxyVersion",
    "operatingSystem", "architecture",
)  # fmt: skip
_GIVEN_UP_AFTER = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_TOLERATION_SECONDS = 300
CLAIM_PROTECTION = "kubernetes.io/pvc-protection"
VOLUME_PROTECTION = "kubernetes.io/pv-protection"
_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")


def apply(kind: Kind, obj: Object, old: Object | None = None) -> None:
    """Fill in the defaults of a decoded object in place; `old` is None on create."""
    fill = _BY_TABLE.get(kind.table)
    if kind.table == "events" and kind.group:
        obj.setdefault("deprecatedSource", {})
    elif fill is not None:
        fill(obj, old)


def _set(obj: Object, **values: Any) -> None:
    """Set what is absent, None or ""."""
    for key, value in values.items():
        if obj.get(key) in (None, ""):
            obj[key] = value


def _map(obj: Object, key: str) -> Object:
    """A map inside the object, made when it is not there."""
    if not isinstance(obj.get(key), dict):
        obj[key] = {}
    inner: Object = obj[key]
    return inner


def _every(obj: Object, *keys: str) -> Iterable[Object]:
    for key in keys:
        yield from obj.get(key) or ()


def _port(port: Object) -> None:
    _set(port, protocol="TCP")


def _http(action: Object | None) -> None:
    if action is not None:
        _set(action, path="/", scheme="HTTP")


def _container(container: Object) -> None:
    image = str(container.get("image") or "")
    tag = image.partition("@")[0].rpartition("/")[2].partition(":")[2]
    is_fixed = "@" in image or (tag and tag != "latest")
    _set(
        container,
        resources={},
        terminationMessagePath="/dev/termination-log",
        terminationMessagePolicy="File",
        imagePullPolicy="IfNotPresent" if is_fixed else "Always",
    )
    for port in _every(container, "ports"):
        _port(port)
    for variable in _every(container, "env"):
        field = (variable.get("valueFrom") or {}).get("fieldRef")
        if field is not None:
            _set(field, apiVersion="v1")
    for probe in (container[name] for name in _PROBES if container.get(name)):
        for key, value in (("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)):
            probe[key] = probe.get(key) or value
        _http(probe.get("httpGet"))
        if probe.get("grpc") is not None:
            probe["grpc"].setdefault("service", "")
    for hook in ("postStart", "preStop"):
        _http(((container.get("lifecycle") or {}).get(hook) or {}).get("httpGet"))
    limits = (container.get("resources") or {}).get("limits")
    if limits:
        container["resources"]["requests"] = {**limits, **(container["resources"].get("requests") or {})}


def _volume(volume: Object) -> None:
    if not any(value is not None for key, value in volume.items() if key != "name"):
        volume["emptyDir"] = {}
    for source in ("secret", "configMap", "downwardAPI", "projected"):
        if isinstance(volume.get(source), dict):
            _set(volume[source], defaultMode=DEFAULT_MODE)
    if isinstance(volume.get("hostPath"), dict):
        volume["hostPath"].setdefault("type", "")
    if isinstance((volume.get("ephemeral") or {}).get("volumeClaimTemplate"), dict):
        _set(_map(volume["ephemeral"]["volumeClaimTemplate"], "spec"), volumeMode="Filesystem")
    projections = _every(volume.get("projected") or {}, "sources")
    for part in (volume.get("downwardAPI"), *projections):
        inner = (part or {}).get("downwardAPI") or part or {}
        for item in _every(inner, "items"):
            if item.get("fieldRef") is not None:
                _set(item["fieldRef"], apiVersion="v1")
        if (part or {}).get("serviceAccountToken") is not None:
            _set(inner["serviceAccountToken"], expirationSeconds=3600)


def pod_spec(spec: Object) -> None:
    """The defaults of a pod's spec, in a pod as in a template."""
    _set(
        spec,
        restartPolicy="Always",
        dnsPolicy="ClusterFirst",
        schedulerName="default-scheduler",
        terminationGracePeriodSeconds=30,
        securityContext={},
    )
    account = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if account:
        spec["serviceAccountName"] = spec["serviceAccount"] = account
    for container in _every(spec, "initContainers", "containers", "ephemeralContainers"):
        _container(container)
        for port in _every(container, "ports") if spec.get("hostNetwork") else ():
            port["hostPort"] = port.get("hostPort") or port.get("containerPort")
    for volume in _every(spec, "volumes"):
        _volume(volume)


def quality(spec: Object) -> str:
    """A pod's QoS class, by the requests and limits of its containers."""
    limited, is_any = True, False
    for container in _every(spec, "containers", "initContainers"):
        resources = container.get("resources") or {}
        limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
        is_any = is_any or any(name in {"cpu", "memory"} for name in (*limits, *requests))
        limited = limited and all(limits.get(name) and requests.get(name, limits[name]) == limits[name] for name in ("cpu", "memory"))
    return "Guaranteed" if limited and is_any else "Burstable" if is_any else "BestEffort"


def _pod(obj: Object, old: Object | None) -> None:
    spec = _map(obj, "spec")
    pod_spec(spec)
    _set(spec, enableServiceLinks=True, preemptionPolicy="PreemptLowerPriority", priority=0)
    tolerations = spec["tolerations"] = list(spec.get("tolerations") or ())
    for key in _GIVEN_UP_AFTER:
        if not any(_tolerates(each, key) for each in tolerations):
            tolerations.append({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": _TOLERATION_SECONDS})
    if old is None:
        obj["status"] = {"phase": "Pending", "qosClass": quality(spec)}


def _tolerates(toleration: Object, key: str) -> bool:
    return (toleration.get("effect") or "NoExecute") == "NoExecute" and (toleration.get("key") or key) == key


def _template(spec: Object) -> None:
    template = _map(spec, "template")
    _map(template, "metadata")
    pod_spec(_map(template, "spec"))


def _deployment(obj: Object, old: Object | None) -> None:
    spec = _map(obj, "spec")
    _set(spec, replicas=1, revisionHistoryLimit=10, progressDeadlineSeconds=600)
    strategy = _map(spec, "strategy")
    _set(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _set(_map(strategy, "rollingUpdate"), maxUnavailable="25%", maxSurge="25%")
    _template(spec)
    if old is None:
        obj["status"] = {}


def _replica_set(obj: Object, old: Object | None) -> None:
    spec = _map(obj, "spec")
    _set(spec, replicas=1)
    _template(spec)
    if old is None:
        obj["status"] = {"replicas": 0}


def _daemon_set(obj: Object, old: Object | None) -> None:
    spec = _map(obj, "spec")
    _set(spec, revisionHistoryLimit=10)
    strategy = _map(spec, "updateStrategy")
    _set(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _set(_map(strategy, "rollingUpdate"), maxUnavailable=1, maxSurge=0)
    _template(spec)
    if old is None:
        counts = ("currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady")
        obj["status"] = dict.fromkeys(counts, 0)


def _service(obj: Object, old: Object | None) -> None:
    spec = _map(obj, "spec")
    _set(spec, type="ClusterIP", sessionAffinity="None")
    for port in _every(spec, "ports"):
        _port(port)
        if port.get("targetPort") in (None, 0, ""):
            port["targetPort"] = port.get("port")
    if spec["type"] != "ExternalName":
        _set(spec, internalTrafficPolicy="Cluster")
    if spec["type"] in {"NodePort", "LoadBalancer"}:
        _set(spec, externalTrafficPolicy="Cluster")
    if spec["type"] == "LoadBalancer":
        _set(spec, allocateLoadBalancerNodePorts=True)
    if spec["sessionAffinity"] == "ClientIP":
        _set(_map(_map(spec, "sessionAffinityConfig"), "clientIP"), timeoutSeconds=10800)
    before = (old or {}).get("spec") or {}
    if spec["type"] == before.get("type"):
        for key in ("clusterIP", "clusterIPs"):
            if not spec.get(key) and before.get(key):
                spec[key] = before[key]
    if spec.get("clusterIP") and not spec.get("clusterIPs"):
        spec["clusterIPs"] = [spec["clusterIP"]]
    if old is None:
        obj["status"] = {"loadBalancer": {}}


def _secret(obj: Object, old: Object | None) -> None:
    _set(obj, type="Opaque")
    texts = obj.pop("stringData", None) or {}
    if texts:
        obj["data"] = {**(obj.get("data") or {}), **{key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}}


def _node(obj: Object, old: Object | None) -> None:
    spec = _map(obj, "spec")
    if spec.get("podCIDR") and not spec.get("podCIDRs"):
        spec["podCIDRs"] = [spec["podCIDR"]]
    status = _map(obj, "status")
    endpoint = _map(_map(status, "daemonEndpoints"), "kubeletEndpoint")
    endpoint.setdefault("Port", 0)
    info = _map(status, "nodeInfo")
    for key in _NODE_INFO:
        info.setdefault(key, "")
    if not status.get("allocatable") and status.get("capacity"):
        status["allocatable"] = dict(status["capacity"])


def _protected(obj: Object, finalizer: str) -> None:
    """With a finalizer from the start."""
    held = obj["metadata"].get("finalizers") or []
    obj["metadata"]["finalizers"] = held if finalizer in held else [*held, finalizer]


def _volume_object(obj: Object, old: Object | None) -> None:
    spec = _map(obj, "spec")
    _set(spec, persistentVolumeReclaimPolicy="Retain", volumeMode="Filesystem")
    if isinstance(spec.get("hostPath"), dict):
        spec["hostPath"].setdefault("type", "")
    if old is None:
        _set(_map(obj, "status"), phase="Pending")
        _protected(obj, VOLUME_PROTECTION)


def _claim(obj: Object, old: Object | None) -> None:
    _set(_map(obj, "spec"), volumeMode="Filesystem")
    if old is None:
        obj["status"] = {"phase": "Pending"}
        _protected(obj, CLAIM_PROTECTION)


def _storage_class(obj: Object, old: Object | None) -> None:
    _set(obj, reclaimPolicy="Delete", volumeBindingMode="Immediate")


def is_default_class(storage_class: Mapping[str, Any]) -> bool:
    """Whether a storage class is marked as that of claims which name none."""
    return (storage_class["metadata"].get("annotations") or {}).get(_DEFAULT_CLASS) == "true"


def _event(obj: Object, old: Object | None) -> None:
    for key in ("eventTime", "firstTimestamp", "lastTimestamp"):
        obj.setdefault(key, None)
    obj.setdefault("source", {})
    for key in ("reportingComponent", "reportingInstance"):
        obj.setdefault(key, "")


def _ports(obj: Object, old: Object | None) -> None:
    for holder in (obj, *_every(obj, "subsets")):
        for port in _every(holder, "ports"):
            _port(port)


_BY_TABLE: Mapping[str, Callable[[Object, Object | None], None]] = {
    "daemonsets.apps": _daemon_set,
    "deployments.apps": _deployment,
    "endpoints": _ports,
    "endpointslices.discovery.k8s.io": _ports,
    "events": _event,
    "nodes": _node,
    "persistentvolumeclaims": _claim,
    "persistentvolumes": _volume_object,
    "pods": _pod,
    "replicasets.apps": _replica_set,
    "secrets": _secret,
    "services": _service,
    "storageclasses.storage.k8s.io": _storage_class,
}
