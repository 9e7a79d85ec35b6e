"""What is refused in pod specs and pod updates: the part of Kubernetes' validation without which an edge node could not run the pod."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from pinnace.cloud.standalone import names
from pinnace.cloud.standalone.causes import at_least, duplicate, forbidden, in_range, invalid, required, unsupported
from pinnace.cloud.standalone.status import Cause

Object = Mapping[str, Any]
_CHANGEABLE = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,"
    "`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was "
    "previously negative)"
)
_CONTAINERS = ("containers", "initContainers", "ephemeralContainers")


def check_spec(spec: Object, path: str) -> Iterator[Cause]:
    """What is wrong with a pod's or template's spec, its defaults filled in."""
    volumes: set[str] = set()
    for index, volume in enumerate(spec.get("volumes") or ()):
        yield from _check_volume(volume, f"{path}.volumes[{index}]", volumes)
    if not spec.get("containers"):
        yield required(f"{path}.containers")
    seen: set[str] = set()
    for part in _CONTAINERS:
        for index, container in enumerate(spec.get(part) or ()):
            yield from _check_container(container, f"{path}.{part}[{index}]", seen, volumes)
    for field, supported in (
        ("restartPolicy", ("Always", "OnFailure", "Never")),
        ("dnsPolicy", ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")),
    ):
        if spec.get(field) not in supported:
            yield unsupported(f"{path}.{field}", spec.get(field), *supported)
    if (spec.get("terminationGracePeriodSeconds") or 0) < 0:
        yield at_least(f"{path}.terminationGracePeriodSeconds", spec["terminationGracePeriodSeconds"], 0)
    if spec.get("activeDeadlineSeconds") is not None:
        yield from in_range(f"{path}.activeDeadlineSeconds", spec["activeDeadlineSeconds"], 1, (1 << 31) - 1)
    for key, value in (spec.get("nodeSelector") or {}).items():
        yield from (invalid(f"{path}.nodeSelector", key, each) for each in names.qualified_name(key))
        yield from (invalid(f"{path}.nodeSelector", value, each) for each in names.label_value(value))
    for field in ("nodeName", "serviceAccountName"):
        if spec.get(field):
            yield from (invalid(f"{path}.{field}", spec[field], each) for each in names.subdomain(spec[field]))
    for field in ("hostname", "subdomain"):
        if spec.get(field):
            yield from (invalid(f"{path}.{field}", spec[field], each) for each in names.label(spec[field]))
    for index, toleration in enumerate(spec.get("tolerations") or ()):
        yield from _check_toleration(toleration, f"{path}.tolerations[{index}]")


def _check_toleration(toleration: Object, path: str) -> Iterator[Cause]:
    operator = toleration.get("operator") or "Equal"
    if not toleration.get("key") and operator != "Exists":
        why = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        yield invalid(f"{path}.operator", operator, why)
    if operator not in {"Equal", "Exists"}:
        yield unsupported(f"{path}.operator", operator, "Equal", "Exists")
    if toleration.get("effect") not in {None, "", "NoSchedule", "PreferNoSchedule", "NoExecute"}:
        yield unsupported(f"{path}.effect", toleration["effect"], "NoSchedule", "PreferNoSchedule", "NoExecute")


def _check_volume(volume: Object, path: str, seen: set[str]) -> Iterator[Cause]:
    name = volume.get("name") or ""
    yield from _check_name(name, f"{path}.name", seen)
    sources = [key for key, value in volume.items() if key != "name" and value is not None]
    yield from (forbidden(f"{path}.{each}", "may not specify more than 1 volume type") for each in sources[1:])
    needed = (("hostPath", "path"), ("secret", "secretName"), ("configMap", "name"), ("persistentVolumeClaim", "claimName"))
    for source, field in needed:
        if isinstance(volume.get(source), Mapping) and not volume[source].get(field):
            yield required(f"{path}.{source}.{field}")


def _check_name(name: str, path: str, seen: set[str]) -> Iterator[Cause]:
    if not name:
        yield required(path)
        return
    yield from (invalid(path, name, each) for each in names.label(name))
    if name in seen:
        yield duplicate(path, name)
    seen.add(name)


def _check_container(container: Object, path: str, seen: set[str], volumes: set[str]) -> Iterator[Cause]:
    yield from _check_name(container.get("name") or "", f"{path}.name", seen)
    image = container.get("image") or ""
    if not image:
        yield required(f"{path}.image")
    elif image != image.strip():
        yield invalid(f"{path}.image", image, "must not have leading or trailing whitespace")
    if container.get("imagePullPolicy") not in {"Always", "IfNotPresent", "Never"}:
        yield unsupported(f"{path}.imagePullPolicy", container.get("imagePullPolicy"), "Always", "IfNotPresent", "Never")
    for index, port in enumerate(container.get("ports") or ()):
        yield from _check_port(port, f"{path}.ports[{index}]")
    for index, variable in enumerate(container.get("env") or ()):
        name, where = variable.get("name") or "", f"{path}.env[{index}]"
        yield from (invalid(f"{where}.name", name, each) for each in names.env_name(name)) if name else (required(f"{where}.name"),)
        if variable.get("value") and variable.get("valueFrom"):
            yield invalid(f"{where}.valueFrom", "", "may not be specified when `value` is not empty")
    mounted: set[str] = set()
    for index, mount in enumerate(container.get("volumeMounts") or ()):
        where, point = f"{path}.volumeMounts[{index}]", mount.get("mountPath") or ""
        if not mount.get("name"):
            yield required(f"{where}.name")
        elif mount["name"] not in volumes:
            yield Cause("FieldValueNotFound", f'Not found: "{mount["name"]}"', f"{where}.name")
        if not point:
            yield required(f"{where}.mountPath")
        elif point in mounted:
            yield invalid(f"{where}.mountPath", point, "must be unique")
        mounted.add(point)
    resources = container.get("resources") or {}
    for part in ("limits", "requests"):
        for name, amount in (resources.get(part) or {}).items():
            if str(amount).startswith("-"):
                yield at_least(f"{path}.resources.{part}[{name}]", amount, 0)


def _check_port(port: Object, path: str) -> Iterator[Cause]:
    if port.get("containerPort") is None:
        yield required(f"{path}.containerPort")
    else:
        yield from in_range(f"{path}.containerPort", port["containerPort"], 1, 65535)
    if port.get("hostPort"):
        yield from in_range(f"{path}.hostPort", port["hostPort"], 1, 65535)
    if port.get("protocol") not in {"TCP", "UDP", "SCTP"}:
        yield unsupported(f"{path}.protocol", port.get("protocol"), "SCTP", "TCP", "UDP")


def check_update(spec: Object, old: Object) -> Iterator[Cause]:
    """What a write to a pod itself may not change (its subresources may)."""
    wanted = copy.deepcopy(dict(spec))
    for part in ("containers", "initContainers"):
        before = {each.get("name"): each for each in old.get(part) or ()}
        for container in wanted.get(part) or ():
            former = before.get(container.get("name"))
            if former is not None:
                container["image"] = former.get("image")
    tolerations = old.get("tolerations") or []
    if all(each in (wanted.get("tolerations") or ()) for each in tolerations):
        wanted["tolerations"] = tolerations
    for field in ("activeDeadlineSeconds", "terminationGracePeriodSeconds"):
        is_free = field == "activeDeadlineSeconds" or (old.get(field, 0) < 0 and wanted.get(field) == 1)
        if is_free and old.get(field) is not None:
            wanted[field] = old[field]
        elif is_free:
            wanted.pop(field, None)
    if orjson.dumps(wanted, option=orjson.OPT_SORT_KEYS) != orjson.dumps(_comparable(old, wanted), option=orjson.OPT_SORT_KEYS):
        yield Cause("FieldValueForbidden", f"Forbidden: {_CHANGEABLE}\n{_difference(old, wanted)}", "spec")


def _comparable(old: Object, wanted: Object) -> dict[str, Any]:
    """The old spec without lists that are empty where the new one leaves them out."""
    return {key: value for key, value in old.items() if value != [] or key in wanted}


def _difference(old: Object, new: Object) -> str:
    option = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS
    before, after = (orjson.dumps(dict(each), option=option).decode().splitlines() for each in (old, new))
    return "".join(f"{line}\n" for line in list(difflib.unified_diff(before, after, lineterm="", n=3))[2:])
