"""What is refused with 422: names, labels and owners of every kind, and of built-in kinds what their clients rely on."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pinnace.cloud.standalone import names, podchecks
from pinnace.cloud.standalone.causes import (
    at_least,
    duplicate,
    forbidden,
    immutable,
    in_range,
    invalid,
    quoted,
    required,
    too_long,
    unsupported,
)
from pinnace.cloud.standalone.kinds import Kind
from pinnace.cloud.standalone.status import Cause
from pinnace.cloud.standalone.typetable import field_type

Object = Mapping[str, Any]
MAX_DATA = 1 << 20
MAX_ANNOTATIONS = 256 << 10
_STANDARD_FINALIZERS = frozenset({"orphan", "foregroundDeletion", "kubernetes"})
_SECRET_KEYS: Mapping[str, tuple[str, ...]] = {
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
}


def validate(kind: Kind, obj: dict[str, Any], old: dict[str, Any] | None = None, subresource: str = "") -> list[Cause]:
    """The causes for which a decoded object, its defaults filled in, is refused. `old` is None on create."""
    causes = list(_check_metadata(kind, obj["metadata"], old))
    check = _BY_TABLE.get(kind.table)
    if subresource == "ephemeralcontainers":
        return [*causes, *podchecks.check_spec(obj.get("spec") or {}, "spec")]
    if check is None or subresource or (kind.table == "events" and kind.group):
        return causes
    return [*causes, *check(obj, old)]


def _check_metadata(kind: Kind, metadata: Object, old: Object | None) -> Iterator[Cause]:
    if old is None:
        rule = names.RULES[kind.name_rule]
        yield from (invalid("metadata.name", metadata["name"], each) for each in rule(metadata["name"]))
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    for key, value in labels.items():
        yield from (invalid("metadata.labels", key, each) for each in names.qualified_name(key))
        yield from (invalid("metadata.labels", value, each) for each in names.label_value(value))
    for key in annotations:
        yield from (invalid("metadata.annotations", key, each) for each in names.qualified_name(key.lower()))
    if sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items()) > MAX_ANNOTATIONS:
        yield too_long("metadata.annotations", MAX_ANNOTATIONS)
    has_standard_names = not kind.is_custom and kind.group != "apiextensions.k8s.io"
    for index, finalizer in enumerate(metadata.get("finalizers") or ()):
        where = f"metadata.finalizers[{index}]"
        yield from (invalid(where, finalizer, each) for each in names.qualified_name(finalizer))
        if has_standard_names and "/" not in finalizer and finalizer not in _STANDARD_FINALIZERS:
            yield invalid(where, finalizer, "name is neither a standard finalizer name nor is it fully qualified")
    yield from _check_owners(metadata.get("ownerReferences") or ())


def _check_owners(owners: Any) -> Iterator[Cause]:
    path = "metadata.ownerReferences"
    for owner in owners:
        if not owner.get("apiVersion"):
            yield invalid(f"{path}.apiVersion", "", "version must not be empty")
        for field in ("kind", "name", "uid"):
            if not owner.get(field):
                yield invalid(f"{path}.{field}", "", "must not be empty")
    controllers = [owner.get("name", "") for owner in owners if owner.get("controller")]
    if len(controllers) > 1:
        why = f'Only one reference can have Controller set to true. Found "true" in references for {controllers[0]} and {controllers[1]}'
        yield invalid(path, list(owners), why)


def _check_data(obj: Object, *fields: str) -> Iterator[Cause]:
    total = 0
    for field in fields:
        for key, value in (obj.get(field) or {}).items():
            yield from (invalid(f"{field}[{key}]", key, each) for each in names.config_key(key))
            total += len(value) * 3 // 4 if field == "binaryData" else len(value.encode())
    if total > MAX_DATA:
        yield too_long("[]", MAX_DATA)


def _check_fixed(obj: Object, old: Object | None, *fields: str) -> Iterator[Cause]:
    """`immutable: true` keeps the data and itself."""
    if old is None or not old.get("immutable"):
        return
    why = "field is immutable when `immutable` is set"
    if not obj.get("immutable"):
        yield forbidden("immutable", why)
    yield from (forbidden(field, why) for field in fields if (obj.get(field) or {}) != (old.get(field) or {}))


def _config_map(obj: Object, old: Object | None) -> Iterator[Cause]:
    yield from _check_data(obj, "data", "binaryData")
    for key in (obj.get("data") or {}).keys() & (obj.get("binaryData") or {}).keys():
        yield invalid(f"data[{key}]", key, "duplicate of key present in binaryData")
    yield from _check_fixed(obj, old, "data", "binaryData")


def _secret(obj: Object, old: Object | None) -> Iterator[Cause]:
    yield from _check_data(obj, "data")
    data = obj.get("data") or {}
    for key in _SECRET_KEYS.get(obj.get("type", ""), ()):
        if key not in data:
            yield required(f"data[{key}]")
    if obj.get("type") == "kubernetes.io/basic-auth" and not {"username", "password"} & data.keys():
        yield from (required(f"data[{key}]") for key in ("username", "password"))
    if old is not None and obj.get("type") != old.get("type"):
        yield immutable("type", obj.get("type"))
    yield from _check_fixed(obj, old, "data")


def _pod(obj: Object, old: Object | None) -> Iterator[Cause]:
    spec = obj.get("spec") or {}
    yield from podchecks.check_spec(spec, "spec")
    if old is not None:
        yield from podchecks.check_update(spec, old.get("spec") or {})


def _selects(selector: Object, labels: Object) -> bool:
    """Whether a label selector object fits labels; what cannot be read fits nothing."""
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    for each in selector.get("matchExpressions") or ():
        found, values = labels.get(each.get("key", "")), each.get("values") or ()
        is_held = {"In": found in values, "NotIn": found not in values, "Exists": found is not None, "DoesNotExist": found is None}
        if not is_held.get(each.get("operator", ""), False):
            return False
    return True


def _workload(obj: Object, old: Object | None) -> Iterator[Cause]:
    spec = obj.get("spec") or {}
    selector, template = spec.get("selector"), spec.get("template") or {}
    replicas = spec.get("replicas")
    if replicas is not None and replicas < 0:
        yield at_least("spec.replicas", replicas, 0)
    labels = (template.get("metadata") or {}).get("labels") or {}
    if selector is None:
        yield required("spec.selector")
    elif not selector.get("matchLabels") and not selector.get("matchExpressions"):
        yield invalid("spec.selector", selector, "empty selector is invalid for deployment")
    elif not _selects(selector, labels):
        yield invalid("spec.template.metadata.labels", labels, "`selector` does not match template `labels`")
    for key, value in labels.items():
        yield from (invalid("spec.template.metadata.labels", key, each) for each in names.qualified_name(key))
        yield from (invalid("spec.template.metadata.labels", value, each) for each in names.label_value(value))
    yield from podchecks.check_spec(template.get("spec") or {}, "spec.template.spec")
    policy = (template.get("spec") or {}).get("restartPolicy")
    if policy in {"OnFailure", "Never"}:
        yield unsupported("spec.template.spec.restartPolicy", policy, "Always")
    if old is not None and quoted(selector) != quoted((old.get("spec") or {}).get("selector")):
        yield immutable("spec.selector", selector)


def _service(obj: Object, old: Object | None) -> Iterator[Cause]:
    spec = obj.get("spec") or {}
    kinds = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
    if spec.get("type") not in kinds:
        yield unsupported("spec.type", spec.get("type"), *kinds)
    ports = spec.get("ports") or ()
    if not ports and spec.get("clusterIP") != "None" and spec.get("type") != "ExternalName":
        yield required("spec.ports")
    if spec.get("type") == "ExternalName" and not spec.get("externalName"):
        yield required("spec.externalName")
    named: set[str] = set()
    taken: set[tuple[Any, Any]] = set()
    for index, port in enumerate(ports):
        where, name = f"spec.ports[{index}]", port.get("name") or ""
        if not name and len(ports) > 1:
            yield required(f"{where}.name")
        elif name:
            yield from (invalid(f"{where}.name", name, each) for each in names.label(name))
            if name in named:
                yield duplicate(f"{where}.name", name)
            named.add(name)
        yield from in_range(f"{where}.port", port.get("port"), 1, 65535)
        if port.get("protocol") not in {"TCP", "UDP", "SCTP"}:
            yield unsupported(f"{where}.protocol", port.get("protocol"), "SCTP", "TCP", "UDP")
        if isinstance(port.get("targetPort"), int):
            yield from in_range(f"{where}.targetPort", port["targetPort"], 1, 65535)
        if (key := (port.get("port"), port.get("protocol"))) in taken:
            yield duplicate(where, {"port": key[0], "protocol": key[1]})
        taken.add((port.get("port"), port.get("protocol")))
    for key, value in (spec.get("selector") or {}).items():
        yield from (invalid("spec.selector", key, each) for each in names.qualified_name(key))
        yield from (invalid("spec.selector", value, each) for each in names.label_value(value))
    before = (old or {}).get("spec") or {}
    if before.get("clusterIP") and spec.get("type") == before.get("type") and spec.get("clusterIP") != before["clusterIP"]:
        yield immutable("spec.clusterIP", spec.get("clusterIP"))


def _node(obj: Object, old: Object | None) -> Iterator[Cause]:
    spec = obj.get("spec") or {}
    for index, cidr in enumerate(spec.get("podCIDRs") or ()):
        try:
            ipaddress.ip_network(cidr, strict=False)
        except ValueError:
            yield invalid(f"spec.podCIDRs[{index}]", cidr, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)")
    seen: set[tuple[Any, Any]] = set()
    for index, taint in enumerate(spec.get("taints") or ()):
        where, key, effect = f"spec.taints[{index}]", taint.get("key") or "", taint.get("effect")
        yield from (invalid(f"{where}.key", key, each) for each in names.qualified_name(key))
        if taint.get("value"):
            yield from (invalid(f"{where}.value", taint["value"], each) for each in names.label_value(taint["value"]))
        if not effect:
            yield required(f"{where}.effect")
        elif effect not in {"NoSchedule", "PreferNoSchedule", "NoExecute"}:
            yield unsupported(f"{where}.effect", effect, "NoSchedule", "PreferNoSchedule", "NoExecute")
        if (key, effect) in seen:
            yield duplicate(where, taint)
        seen.add((key, effect))


def _event(obj: Object, old: Object | None) -> Iterator[Cause]:
    wanted = (obj.get("involvedObject") or {}).get("namespace") or ""
    given = obj["metadata"].get("namespace", "")
    if old is None and wanted != given and not (not wanted and given == "default"):
        yield invalid("involvedObject.namespace", wanted, "does not match event.namespace")


def _lease(obj: Object, old: Object | None) -> Iterator[Cause]:
    spec = obj.get("spec") or {}
    if spec.get("leaseDurationSeconds") is not None and spec["leaseDurationSeconds"] <= 0:
        yield invalid("spec.leaseDurationSeconds", spec["leaseDurationSeconds"], "must be greater than 0")
    if (spec.get("leaseTransitions") or 0) < 0:
        yield at_least("spec.leaseTransitions", spec["leaseTransitions"], 0)


_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")


def _check_modes(spec: Object) -> Iterator[Cause]:
    if not spec.get("accessModes"):
        yield required("spec.accessModes", "at least 1 access mode is required")
    for mode in spec.get("accessModes") or ():
        if mode not in _MODES:
            yield unsupported("spec.accessModes", mode, *_MODES)


def _volume(obj: Object, old: Object | None) -> Iterator[Cause]:
    spec = obj.get("spec") or {}
    yield from _check_modes(spec)
    if not (spec.get("capacity") or {}).get("storage"):
        yield required("spec.capacity")
    if not any(field_type("core.v1.PersistentVolumeSpec", key).endswith("Source") for key in spec):
        yield required("spec", "must specify a volume type")


def _claim(obj: Object, old: Object | None) -> Iterator[Cause]:
    spec = obj.get("spec") or {}
    yield from _check_modes(spec)
    if not ((spec.get("resources") or {}).get("requests") or {}).get("storage"):
        yield required("spec.resources[storage]")
    before = (old or {}).get("spec") or {}
    if before.get("volumeName") and spec.get("volumeName") != before["volumeName"]:
        why = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
        yield forbidden("spec", why)


def _storage_class(obj: Object, old: Object | None) -> Iterator[Cause]:
    if not obj.get("provisioner"):
        yield required("provisioner")
    for field, allowed in (("reclaimPolicy", ("Delete", "Retain")), ("volumeBindingMode", ("Immediate", "WaitForFirstConsumer"))):
        if obj.get(field) not in allowed:
            yield unsupported(field, obj.get(field), *allowed)
    if old is not None:
        for field in ("parameters", "provisioner", "reclaimPolicy"):
            if (obj.get(field) or None) != (old.get(field) or None):
                yield forbidden(field, f"updates to {field} are forbidden.")
        if obj.get("volumeBindingMode") != old.get("volumeBindingMode"):
            yield immutable("volumeBindingMode", obj.get("volumeBindingMode"))


def _endpoint_slice(obj: Object, old: Object | None) -> Iterator[Cause]:
    kinds = ("FQDN", "IPv4", "IPv6")
    if not obj.get("addressType"):
        yield required("addressType")
    elif obj["addressType"] not in kinds:
        yield unsupported("addressType", obj["addressType"], *kinds)
    if old is not None and obj.get("addressType") != old.get("addressType"):
        yield immutable("addressType", obj.get("addressType"))


_BY_TABLE: Mapping[str, Callable[[Object, Object | None], Iterator[Cause]]] = {
    "configmaps": _config_map,
    "daemonsets.apps": _workload,
    "deployments.apps": _workload,
    "endpointslices.discovery.k8s.io": _endpoint_slice,
    "events": _event,
    "leases.coordination.k8s.io": _lease,
    "nodes": _node,
    "persistentvolumeclaims": _claim,
    "persistentvolumes": _volume,
    "pods": _pod,
    "replicasets.apps": _workload,
    "secrets": _secret,
    "services": _service,
    "storageclasses.storage.k8s.io": _storage_class,
}
