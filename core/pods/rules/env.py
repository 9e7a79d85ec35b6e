"""A container's environment and what is expanded from it (Kubernetes API, core/v1 Container.env, envFrom, command, args).

Order: the known service variables, then envFrom in list order, then env in list order; a later name replaces an earlier one. $(NAME)
takes what is known by then, $$ is a dollar, an unknown name stays as it stands.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from pinnace.core.base.contract.quantities import nanos, whole
from pinnace.core.base.pod import Container, Object, Pod

_NAME: Final = re.compile(r"[ -<>-~]+")
_REFERENCE: Final = re.compile(r"\$(?:\$|\(([^)]*)\))")
_SUBSCRIPT: Final = re.compile(r"metadata\.(labels|annotations)\['(.+)'\]")
_RESOURCE: Final = re.compile(r"(requests|limits)\.(.+)")
_NODE_DEFAULTS: Final = ("cpu", "memory", "ephemeral-storage")


class NotFound(LookupError):
    """A required config map, secret or key is not there; the message names it."""


class Sources(Protocol):
    """The config maps and secrets of the pod's namespace."""

    def values(self, kind: str, name: str) -> Mapping[str, bytes] | None:
        """What a `configmap` (data only) or `secret` holds, by key; None when there is no such object."""
        ...


class Surroundings(NamedTuple):
    """What the node knows of a pod: addresses, its own name, and its allocatable resources (quantities)."""

    pod_ips: Sequence[str]
    host_ips: Sequence[str]
    node: str
    allocatable: Mapping[str, str]


class Environment(NamedTuple):
    """`skipped` are names from envFrom that no variable can have, by what they came from (`configMap ns/name`)."""

    variables: dict[str, str]
    skipped: dict[str, list[str]]


def environment(
    pod: Pod, container: Container, sources: Sources, around: Surroundings, services: Mapping[str, str] | None = None
) -> Environment:
    """Raises NotFound for what is missing and not optional, ValueError for what no node can give."""
    found: dict[str, str] = dict(services or {})
    skipped: dict[str, list[str]] = {}
    for each in container.spec.get("envFrom") or ():
        kind, reference = ("configMap", each["configMapRef"]) if each.get("configMapRef") else ("secret", each.get("secretRef") or {})
        name, prefix = str(reference.get("name") or ""), str(each.get("prefix") or "")
        values = _held(sources, pod, kind, reference)
        for key in sorted(values or {}):
            if not _is_name(prefix + key):
                skipped.setdefault(f"{kind} {pod.namespace}/{name}", []).append(prefix + key)
                continue
            found[prefix + key] = _text((values or {})[key], key, f"{kind.lower()} {name!r}")
    for each in container.spec.get("env") or ():
        value = _value(pod, container, each, found, sources=sources, around=around)
        if value is not None:
            found[str(each.get("name", ""))] = value
    return Environment(found, skipped)


def expand(text: str, known: Mapping[str, str]) -> str:
    """Replace $(NAME) of known names and $$; everything else stays."""

    def replaced(match: re.Match[str]) -> str:
        name = match[1]
        return "$" if name is None else known.get(name, match[0])

    return _REFERENCE.sub(replaced, text)


def expand_strictly(text: str, known: Mapping[str, str]) -> str:
    """As subPathExpr wants it. Raises ValueError for an unknown name."""
    for match in _REFERENCE.finditer(text):
        if match[1] is not None and match[1] not in known:
            raise ValueError(f"subPathExpr {text!r}: there is no variable {match[1]!r}")
    return expand(text, known)


def field_value(pod: Pod, path: str, around: Surroundings) -> str:
    """What a fieldRef's fieldPath names. Raises ValueError for a path that is no such field."""
    if subscript := _SUBSCRIPT.fullmatch(path):
        entries = pod.labels if subscript[1] == "labels" else pod.annotations
        return str(entries.get(subscript[2], ""))
    host_ips = ",".join(around.host_ips)
    pod_ips = ",".join(around.pod_ips)
    match path:
        case "metadata.name":
            return pod.name
        case "metadata.namespace":
            return pod.namespace
        case "metadata.uid":
            return pod.uid
        case "metadata.labels":
            return _lines(pod.labels)
        case "metadata.annotations":
            return _lines(pod.annotations)
        case "spec.nodeName":
            return str(pod.spec.get("nodeName") or around.node)
        case "spec.serviceAccountName":
            return str(pod.spec.get("serviceAccountName") or "default")
        case "status.podIP":
            return pod_ips.partition(",")[0]
        case "status.podIPs":
            return pod_ips
        case "status.hostIP":
            return host_ips.partition(",")[0]
        case "status.hostIPs":
            return host_ips
        case _:
            raise ValueError(f"fieldRef: there is no field {path!r} for a container")


def resource_value(pod: Pod, container: Container, reference: Object, around: Surroundings) -> str:
    """What a resourceFieldRef names, in units of its divisor and rounded up. A limit that is not set is what the node can give; a request
    that is not set is the limit, else 0. Raises ValueError."""
    if name := reference.get("containerName"):
        named = pod.container(str(name))
        if named is None:
            raise ValueError(f"resourceFieldRef: there is no container {name!r}")
        container = named
    text = str(reference.get("resource", ""))
    found = _RESOURCE.fullmatch(text)
    if found is None or not (found[2] in _NODE_DEFAULTS or found[2].startswith("hugepages-")):
        raise ValueError(f"resourceFieldRef: expected limits or requests of cpu, memory, ephemeral-storage, hugepages-*, not {text!r}")
    part, resource = found.groups()
    resources = container.spec.get("resources") or {}
    limit = (resources.get("limits") or {}).get(resource)
    if part == "limits":
        quantity = limit if limit is not None else around.allocatable.get(resource, "0") if resource in _NODE_DEFAULTS else "0"
    else:
        asked = (resources.get("requests") or {}).get(resource)
        quantity = asked if asked is not None else limit if limit is not None else "0"
    divisor = nanos(str(reference.get("divisor") or "0")) or nanos("1")
    amount = nanos(str(quantity)) if resource == "cpu" else whole(quantity) * nanos("1")
    return str(-(-amount // divisor))


def _value(
    pod: Pod, container: Container, entry: Object, known: Mapping[str, str], *, sources: Sources, around: Surroundings
) -> str | None:
    """None for an optional one that is not there."""
    if not _is_name(str(entry.get("name", ""))):
        raise ValueError(f"env: {entry.get('name')!r} is no name for a variable")
    if entry.get("value") or not entry.get("valueFrom"):
        return expand(str(entry.get("value") or ""), known)
    source = entry["valueFrom"]
    if reference := source.get("fieldRef"):
        return field_value(pod, str(reference.get("fieldPath", "")), around)
    if reference := source.get("resourceFieldRef"):
        return resource_value(pod, container, reference, around)
    for kind in ("configMap", "secret"):
        if reference := source.get(f"{kind}KeyRef"):
            return _key(sources, pod, kind, reference)
    raise ValueError(f"env {entry.get('name')!r}: valueFrom {', '.join(source) or '{}'} is not supported by this node")


def _key(sources: Sources, pod: Pod, kind: str, reference: Object) -> str | None:
    values = _held(sources, pod, kind, reference)
    if values is None:
        return None
    key = str(reference.get("key", ""))
    if key in values:
        return _text(values[key], key, f"{kind.lower()} {reference.get('name')!r}")
    if reference.get("optional"):
        return None
    raise NotFound(f"couldn't find key {key} in {kind.lower()} {pod.namespace}/{reference.get('name')}")


def _held(sources: Sources, pod: Pod, kind: str, reference: Object) -> Mapping[str, bytes] | None:
    name = str(reference.get("name") or "")
    values = sources.values(kind.lower(), name)
    if values is None and not reference.get("optional"):
        raise NotFound(f"{kind.lower()} {name!r} not found")
    return values


def _text(value: bytes, key: str, where: str) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"key {key!r} of {where} is no UTF-8 text and cannot be a variable: mount it as a file") from error
    if "\0" in text:
        raise ValueError(f"key {key!r} of {where} has a zero byte and cannot be a variable: mount it as a file")
    return text


def _is_name(name: str) -> bool:
    """Printable ASCII without =."""
    return _NAME.fullmatch(name) is not None


def _lines(entries: Mapping[str, str]) -> str:
    """key="value" a line, by key, the value quoted as in Go."""
    return "\n".join(f'{key}="{_quoted(str(entries[key]))}"' for key in sorted(entries))


_ESCAPES: Final = {"\\": "\\\\", '"': '\\"', "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}


def _quoted(text: str) -> str:
    return "".join(_ESCAPES.get(each) or (each if each.isprintable() else _escaped(ord(each))) for each in text)


def _escaped(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
