"""Where a pod may run (Kubernetes API, core/v1 PodSpec): node selection, taints, resources, host ports.

Pure, over decoded objects; the node's own admission and a scheduler use the same rules.

Resources are whole numbers by name: `cpu` in thousandths, everything else in units (bytes, pods, devices).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from pinnace.core.base.contract.quantities import millis, whole

Object = Mapping[str, Any]

NO_SCHEDULE: Final = "NoSchedule"
PREFER_NO_SCHEDULE: Final = "PreferNoSchedule"
NO_EXECUTE: Final = "NoExecute"
_EVERY_ADDRESS: Final = ("", "0.0.0.0", "::")  # noqa: S104
_POD_LEVEL: Final = ("cpu", "memory")


class Shortage(NamedTuple):
    """A resource that does not suffice, in the resource's whole numbers."""

    resource: str
    requested: int
    used: int
    capacity: int


class HostPort(NamedTuple):
    """A port of the node that a pod takes; `address` "" is every address."""

    address: str
    protocol: str
    port: int


def selects_node(spec: Object, labels: Mapping[str, str], name: str) -> bool:
    """Whether nodeSelector and the required node affinity of a pod's spec allow the node `name` with these labels."""
    wanted: Mapping[str, str] = spec.get("nodeSelector") or {}
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is None:
        return True
    return any(matches_term(term, labels, name) for term in required.get("nodeSelectorTerms") or ())


def matches_term(term: Object, labels: Mapping[str, str], name: str) -> bool:
    """One term of a node selector: all its expressions and fields. An empty term matches nothing."""
    expressions: Sequence[Object] = term.get("matchExpressions") or ()
    fields: Sequence[Object] = term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    return all(matches_requirement(each, labels) for each in expressions) and all(
        each.get("key") == "metadata.name" and matches_requirement(each, {"metadata.name": name}) for each in fields
    )


def matches_requirement(requirement: Object, labels: Mapping[str, str]) -> bool:
    """In, NotIn, Exists, DoesNotExist, Gt, Lt (whole numbers); NotIn and DoesNotExist hold where the label is missing. An unknown operator
    matches nothing."""
    value = labels.get(str(requirement.get("key", "")))
    values: Sequence[str] = requirement.get("values") or ()
    match requirement.get("operator"):
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt":
            return _is_greater(value, values)
        case "Lt":
            return len(values) == 1 and value is not None and _is_greater(values[0], (value,))
        case _:
            return False


def tolerates(toleration: Object, taint: Object) -> bool:
    """Whether the toleration is for that taint. No effect means every effect, no key with Exists every key."""
    effect, key = toleration.get("effect") or "", toleration.get("key") or ""
    if effect and effect != taint.get("effect"):
        return False
    if key and key != taint.get("key"):
        return False
    match toleration.get("operator") or "Equal":
        case "Exists":
            return True
        case "Equal":
            return bool(key) and (toleration.get("value") or "") == (taint.get("value") or "")
        case _:
            return False


def untolerated(taints: Iterable[Object], tolerations: Sequence[Object], effects: Collection[str]) -> Object | None:
    """The first taint of one of these effects that no toleration is for."""
    for taint in taints:
        if taint.get("effect") in effects and not any(tolerates(each, taint) for each in tolerations):
            return taint
    return None


def requests(spec: Object) -> dict[str, int]:
    """What a pod asks for: the sum of its containers and sidecars, or the most an init container needs beside the sidecars started
    before it, and the overhead; cpu and memory of the pod itself count instead where given. A limit without a request is one.

    Raises ValueError for a text that is no quantity.
    """
    sidecars: Counter[str] = Counter()
    most: Counter[str] = Counter()
    for each in spec.get("initContainers") or ():
        asked = Counter(_asked(each.get("resources") or {}))
        if each.get("restartPolicy") == "Always":
            sidecars += asked
            most |= sidecars
        else:
            most |= sidecars + asked
    total = sidecars
    for each in spec.get("containers") or ():
        total += Counter(_asked(each.get("resources") or {}))
    total |= most
    found = dict(total)
    found.update({name: value for name, value in _asked(spec.get("resources") or {}).items() if name in _POD_LEVEL})
    for name, quantity in (spec.get("overhead") or {}).items():
        found[name] = found.get(name, 0) + amount(name, quantity)
    return found


def amount(resource: str, quantity: str | int | float) -> int:
    """A quantity of a resource as a whole number. Raises ValueError."""
    return millis(quantity) if resource == "cpu" else whole(quantity)


def amounts(quantities: Mapping[str, str | int | float]) -> dict[str, int]:
    """A resource list, such as a node's allocatable, as whole numbers. Raises ValueError."""
    return {name: amount(name, quantity) for name, quantity in quantities.items()}


def shortage(asked: Mapping[str, int], used: Mapping[str, int], capacity: Mapping[str, int]) -> Shortage | None:
    """The first resource of which `asked` is more than what `capacity` leaves; `pods` first, then cpu, memory, the others by name."""
    order = {"pods": 0, "cpu": 1, "memory": 2, "ephemeral-storage": 3}
    for name in sorted(asked, key=lambda each: (order.get(each, 4), each)):
        have, taken, wanted = capacity.get(name, 0), used.get(name, 0), asked[name]
        if wanted > 0 and wanted > have - taken:
            return Shortage(name, wanted, taken, have)
    return None


def host_ports(spec: Object) -> frozenset[HostPort]:
    """The node's ports a pod takes. On the host's network every containerPort is one, as the API's defaults say."""
    on_host = bool(spec.get("hostNetwork"))
    found = set()
    for each in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ())):
        for port in each.get("ports") or ():
            number = port.get("hostPort") or (port.get("containerPort") if on_host else 0) or 0
            if number > 0:
                address = port.get("hostIP") or ""
                found.add(HostPort("" if address in _EVERY_ADDRESS else address, port.get("protocol") or "TCP", int(number)))
    return frozenset(found)


def ports_collide(ports: Collection[HostPort], taken: Collection[HostPort]) -> bool:
    """Whether two of them are the same port and protocol on a common address."""
    return any(
        mine.port == other.port
        and mine.protocol == other.protocol
        and (mine.address == other.address or "" in (mine.address, other.address))
        for mine in ports
        for other in taken
    )


def _asked(resources: Object) -> dict[str, int]:
    return amounts({**(resources.get("limits") or {}), **(resources.get("requests") or {})})


def _is_greater(value: str | None, values: Sequence[str]) -> bool:
    try:
        return value is not None and len(values) == 1 and int(value) > int(values[0])
    except ValueError:
        return False
