"""Table cells of the built-in kinds, one function a kind: what kubectl get shows between NAME and AGE and after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pinnace.cloud.standalone.ages import age, duration, seconds_of
from pinnace.cloud.standalone.defaults import is_default_class

NONE = "<none>"
UNSET = "<unset>"
Object = Mapping[str, Any]
_ROLE = "node-role.kubernetes.io/"
_SHOWN = 3
_MODES = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}


def _part(obj: Object, *path: str) -> Any:
    """A map inside the object, {} where there is none."""
    for name in path:
        obj = obj.get(name) or {}
    return obj


def _created(obj: Object, now: float) -> str:
    return age(obj["metadata"].get("creationTimestamp"), now)


def _labels(labels: Mapping[str, str] | None) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items())) or NONE


def _selector(selector: Object | None) -> str:
    """A label selector as text."""
    selector = selector or {}
    parts = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for each in selector.get("matchExpressions") or ():
        key, values = each.get("key", ""), ",".join(sorted(each.get("values") or ()))
        text = {"In": f"{key} in ({values})", "NotIn": f"{key} notin ({values})", "Exists": key, "DoesNotExist": f"!{key}"}
        parts.append(text.get(each.get("operator", ""), key))
    return ",".join(sorted(parts)) or NONE


def _containers(spec: Object) -> list[str]:
    found = _part(spec, "template", "spec").get("containers") or ()
    return [",".join(each.get("name", "") for each in found), ",".join(each.get("image", "") for each in found)]


def namespace(obj: Object, now: float) -> list[Any]:
    return [_part(obj, "status").get("phase", ""), _created(obj, now)]


def config_map(obj: Object, now: float) -> list[Any]:
    return [len(obj.get("data") or ()) + len(obj.get("binaryData") or ()), _created(obj, now)]


def secret(obj: Object, now: float) -> list[Any]:
    return [obj.get("type", ""), len(obj.get("data") or ()), _created(obj, now)]


def service_account(obj: Object, now: float) -> list[Any]:
    return [_created(obj, now)]


def lease(obj: Object, now: float) -> list[Any]:
    return [_part(obj, "spec").get("holderIdentity") or "", _created(obj, now)]


def definition(obj: Object, now: float) -> list[Any]:
    return [obj["metadata"].get("creationTimestamp")]


def controller_revision(obj: Object, now: float) -> list[Any]:
    owner = next((each for each in obj["metadata"].get("ownerReferences") or () if each.get("controller")), None)
    controller = NONE
    if owner is not None:
        group = owner["apiVersion"].rpartition("/")[0]
        controller = f"{owner['kind'].lower()}{'.' if group else ''}{group}/{owner['name']}"
    return [controller, obj.get("revision", 0), _created(obj, now)]


def node(obj: Object, now: float) -> list[Any]:
    status, metadata = _part(obj, "status"), obj["metadata"]
    ready = [each for each in status.get("conditions") or () if each.get("type") == "Ready"]
    states = ["Ready" if each.get("status") == "True" else "NotReady" for each in ready] or ["Unknown"]
    if _part(obj, "spec").get("unschedulable"):
        states.append("SchedulingDisabled")
    roles = set()
    for key, value in (metadata.get("labels") or {}).items():
        if key.startswith(_ROLE) and key != _ROLE:
            roles.add(key.removeprefix(_ROLE))
        elif key == "kubernetes.io/role" and value:
            roles.add(value)
    addresses = {each.get("type"): each.get("address") for each in reversed(status.get("addresses") or ())}
    info = _part(status, "nodeInfo")
    wide = [info.get(key) or "<unknown>" for key in ("osImage", "kernelVersion", "containerRuntimeVersion")]
    architecture = info.get("architecture")
    if info.get("kernelVersion") and architecture:
        wide[1] = f"{wide[1]} ({architecture})"
    shown = [",".join(states), ",".join(sorted(roles)) or NONE, _created(obj, now), info.get("kubeletVersion", "")]
    return [*shown, addresses.get("InternalIP") or NONE, addresses.get("ExternalIP") or NONE, *wide]


def service(obj: Object, now: float) -> list[Any]:
    spec = _part(obj, "spec")
    kind = spec.get("type") or "ClusterIP"
    outside = ",".join(spec.get("externalIPs") or ()) or NONE
    if kind == "ExternalName":
        outside = spec.get("externalName", "")
    elif kind == "LoadBalancer":
        ingress = [each.get("ip") or each.get("hostname") or "" for each in _part(obj, "status", "loadBalancer").get("ingress") or ()]
        given = [*filter(None, ingress), *(spec.get("externalIPs") or ())]
        outside = ",".join(given) or "<pending>"
    ports = []
    for each in spec.get("ports") or ():
        node_port = f":{each['nodePort']}" if each.get("nodePort") else ""
        ports.append(f"{each.get('port')}{node_port}/{each.get('protocol', 'TCP')}")
    address = (spec.get("clusterIPs") or [spec.get("clusterIP") or NONE])[0]
    return [kind, address, outside, ",".join(ports) or NONE, _created(obj, now), _labels(spec.get("selector"))]


def _shortened(listed: list[str]) -> str:
    more = f" + {len(listed) - _SHOWN} more..." if len(listed) > _SHOWN else ""
    return ",".join(listed[:_SHOWN]) + more


def endpoints(obj: Object, now: float) -> list[Any]:
    if not obj.get("subsets"):
        return [NONE, _created(obj, now)]
    listed: list[str] = []
    for subset in obj["subsets"]:
        hosts = [f"[{each['ip']}]" if ":" in each["ip"] else each["ip"] for each in subset.get("addresses") or ()]
        ports = subset.get("ports") or ()
        listed += [f"{host}:{port['port']}" for port in ports for host in hosts] if ports else [host.strip("[]") for host in hosts]
    return [_shortened(listed), _created(obj, now)]


def endpoint_slice(obj: Object, now: float) -> list[Any]:
    ports = [str(each.get("port", "*")) for each in obj.get("ports") or ()]
    addresses = [each for endpoint in obj.get("endpoints") or () for each in endpoint.get("addresses") or ()]
    return [obj.get("addressType", ""), _shortened(ports) or UNSET, _shortened(addresses) or UNSET, _created(obj, now)]


def deployment(obj: Object, now: float) -> list[Any]:
    spec, status = _part(obj, "spec"), _part(obj, "status")
    ready = f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}"
    counts = [status.get("updatedReplicas", 0), status.get("availableReplicas", 0)]
    return [ready, *counts, _created(obj, now), *_containers(spec), _selector(spec.get("selector"))]


def replica_set(obj: Object, now: float) -> list[Any]:
    spec, status = _part(obj, "spec"), _part(obj, "status")
    counts = [spec.get("replicas", 0), status.get("replicas", 0), status.get("readyReplicas", 0)]
    return [*counts, _created(obj, now), *_containers(spec), _selector(spec.get("selector"))]


def daemon_set(obj: Object, now: float) -> list[Any]:
    spec, status = _part(obj, "spec"), _part(obj, "status")
    names = ("desiredNumberScheduled", "currentNumberScheduled", "numberReady", "updatedNumberScheduled", "numberAvailable")
    chosen = _labels(_part(spec, "template", "spec").get("nodeSelector"))
    counts = [status.get(name, 0) for name in names]
    return [*counts, chosen, _created(obj, now), *_containers(spec), _selector(spec.get("selector"))]


def _modes(modes: list[str] | None) -> str:
    return ",".join(_MODES.get(each, each) for each in dict.fromkeys(modes or ()))


def volume(obj: Object, now: float) -> list[Any]:
    spec, status = _part(obj, "spec"), _part(obj, "status")
    phase = "Terminating" if "deletionTimestamp" in obj["metadata"] else status.get("phase", "")
    claim = spec.get("claimRef")
    bound = f"{claim.get('namespace', '')}/{claim.get('name', '')}" if claim else ""
    capacity = _part(spec, "capacity").get("storage", "")
    policy, classes = (
        spec.get("persistentVolumeReclaimPolicy", ""),
        [
            spec.get("storageClassName", ""),
            spec.get("volumeAttributesClassName") or UNSET,
        ],
    )
    modes = _modes(spec.get("accessModes"))
    shown = [capacity, modes, policy, phase, bound, *classes, status.get("reason", ""), _created(obj, now)]
    return [*shown, spec.get("volumeMode") or UNSET]


def claim(obj: Object, now: float) -> list[Any]:
    spec, status = _part(obj, "spec"), _part(obj, "status")
    phase = "Terminating" if "deletionTimestamp" in obj["metadata"] else status.get("phase", "")
    is_bound = bool(spec.get("volumeName"))
    capacity = _part(status, "capacity").get("storage", "") if is_bound else ""
    classes = [spec.get("storageClassName") or "", spec.get("volumeAttributesClassName") or UNSET]
    modes = _modes(status.get("accessModes")) if is_bound else ""
    return [phase, spec.get("volumeName", ""), capacity, modes, *classes, _created(obj, now), spec.get("volumeMode") or UNSET]


def storage_class(obj: Object, now: float) -> list[Any]:
    shown = [obj.get("provisioner", ""), obj.get("reclaimPolicy") or "Delete", obj.get("volumeBindingMode") or "Immediate"]
    return [*shown, bool(obj.get("allowVolumeExpansion")), _created(obj, now)]


def name(table: str, obj: Object) -> str:
    """The cell of the name."""
    is_default = table == "storageclasses.storage.k8s.io" and is_default_class(obj)
    return str(obj["metadata"].get("name", "")) + (" (default)" if is_default else "")


def event(obj: Object, now: float) -> list[Any]:
    """Of either API: core v1 or events.k8s.io/v1."""
    about = obj.get("involvedObject") or obj.get("regarding") or {}
    source = obj.get("source") or obj.get("deprecatedSource") or {}
    first = obj.get("firstTimestamp") or obj.get("deprecatedFirstTimestamp") or obj.get("eventTime")
    last = obj.get("lastTimestamp") or obj.get("deprecatedLastTimestamp") or first
    count = obj.get("count") or obj.get("deprecatedCount") or 1
    if obj.get("series"):
        last, count = obj["series"].get("lastObservedTime"), obj["series"].get("count", 0)
    name = about.get("name")
    target = about.get("kind", "").lower() + (f"/{name}" if name else "")
    component = source.get("component") or obj.get("reportingComponent") or obj.get("reportingController") or ""
    host = source.get("host") or obj.get("reportingInstance") or ""
    message = str(obj.get("message") or obj.get("note") or "").strip()
    shown = [age(last, now), obj.get("type", ""), obj.get("reason", ""), target, about.get("fieldPath", "")]
    return [*shown, f"{component}, {host}" if host else component, message, age(first, now), count, obj["metadata"].get("name", "")]


def _restarts(statuses: list[Object], now: float) -> str:
    count = sum(each.get("restartCount", 0) for each in statuses)
    ends = [seconds_of(_part(each, "lastState", "terminated").get("finishedAt")) for each in statuses]
    known = [each for each in ends if each is not None]
    return f"{count} ({duration(now - max(known))} ago)" if count and known else str(count)


def _ended(state: Object) -> str:
    if state.get("reason"):
        return str(state["reason"])
    return f"Signal:{state['signal']}" if state.get("signal") else f"ExitCode:{state.get('exitCode', 0)}"


def _initializing(spec: Object, statuses: list[Object]) -> str:
    """Why a pod's init containers are not done; "" when they are."""
    sidecars = {each.get("name") for each in spec.get("initContainers") or () if each.get("restartPolicy") == "Always"}
    for index, each in enumerate(statuses):
        ended, waiting = _part(each, "state").get("terminated"), _part(each, "state").get("waiting") or {}
        if ended is not None and not ended.get("exitCode"):
            continue
        if each.get("name") in sidecars and each.get("started"):
            continue
        if ended is not None:
            return f"Init:{_ended(ended)}"
        if waiting.get("reason") and waiting["reason"] != "PodInitializing":
            return f"Init:{waiting['reason']}"
        return f"Init:{index}/{len(spec.get('initContainers') or ())}"
    return ""


def _is_true(conditions: list[Object], kind: str) -> bool:
    return any(each.get("type") == kind and each.get("status") == "True" for each in conditions)


def _pod_state(obj: Object, statuses: list[Object], why_not: str, *, is_initialized: bool) -> tuple[str, int]:
    """The STATUS cell and how many containers are ready."""
    status = _part(obj, "status")
    conditions = status.get("conditions") or []
    phase = status.get("phase", "")
    shown = status.get("reason") or phase
    if any(each.get("type") == "PodScheduled" and each.get("reason") == "SchedulingGated" for each in conditions):
        shown = "SchedulingGated"
    shown = why_not or shown
    ready, has_running = 0, False
    for each in reversed(statuses) if not why_not or is_initialized else ():
        state = _part(each, "state")
        waiting, ended = state.get("waiting") or {}, state.get("terminated")
        if waiting.get("reason"):
            shown = waiting["reason"]
        elif ended is not None:
            shown = _ended(ended)
        elif each.get("ready") and "running" in state:
            has_running = True
            ready += 1
    if shown == "Completed" and has_running:
        shown = "Running" if _is_true(conditions, "Ready") else "NotReady"
    if "deletionTimestamp" in obj["metadata"]:
        if status.get("reason") == "NodeLost":
            shown = "Unknown"
        elif phase not in {"Succeeded", "Failed"}:
            shown = "Terminating"
    return shown, ready


def pod(obj: Object, now: float) -> list[Any]:
    spec, status = _part(obj, "spec"), _part(obj, "status")
    init, own = status.get("initContainerStatuses") or [], status.get("containerStatuses") or []
    sidecars = {each.get("name") for each in spec.get("initContainers") or () if each.get("restartPolicy") == "Always"}
    beside = [each for each in init if each.get("name") in sidecars]
    why_not = _initializing(spec, init)
    is_initialized = _is_true(status.get("conditions") or [], "Initialized")
    shown, ready = _pod_state(obj, own, why_not, is_initialized=is_initialized)
    ready += sum(bool(each.get("ready") and each.get("started")) for each in beside)
    counted = init if why_not and not is_initialized else [*beside, *own]
    total = len(spec.get("containers") or ()) + len(sidecars)
    address = (status.get("podIPs") or [{"ip": status.get("podIP")}])[0].get("ip") or NONE
    gates = [each.get("conditionType", "") for each in spec.get("readinessGates") or ()]
    passed = sum(_is_true(status.get("conditions") or [], each) for each in gates)
    wide = [address, spec.get("nodeName") or NONE, status.get("nominatedNodeName") or NONE, f"{passed}/{len(gates)}" if gates else NONE]
    return [f"{ready}/{total}", shown, _restarts(counted, now), _created(obj, now), *wide]


BY_TABLE: Mapping[str, Callable[[Object, float], list[Any]]] = {
    "configmaps": config_map,
    "controllerrevisions.apps": controller_revision,
    "customresourcedefinitions.apiextensions.k8s.io": definition,
    "daemonsets.apps": daemon_set,
    "deployments.apps": deployment,
    "endpoints": endpoints,
    "endpointslices.discovery.k8s.io": endpoint_slice,
    "leases.coordination.k8s.io": lease,
    "namespaces": namespace,
    "nodes": node,
    "persistentvolumeclaims": claim,
    "persistentvolumes": volume,
    "pods": pod,
    "replicasets.apps": replica_set,
    "secrets": secret,
    "serviceaccounts": service_account,
    "services": service,
    "storageclasses.storage.k8s.io": storage_class,
}
"""Table → its cells after the name, in the order of printing.COLUMNS. Events, which do not begin with a name, are `event`."""
