"""Which node a pod goes to, and why no other: what the scheduler knows of nodes and pods, and its choice. Pure.

A node is out for the first of: cordoned, another node's name, taints, node selection, host ports, resources, pod (anti-)affinity, a volume
elsewhere. Of those left the one that is preferred most, then the one with the fewest of the pod's siblings, then the least used.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from pinnace.cloud.standalone.controllers.podfacts import controller_of, has_ended, labels_of, selects
from pinnace.cloud.standalone.state import Object
from pinnace.core.base.contract import scheduling

REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED: Final = "preferredDuringSchedulingIgnoredDuringExecution"
UNSCHEDULABLE: Final[Object] = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
"""The taint that a cordoned node counts as having."""
_MODEST: Final = {"cpu": 100, "memory": 200 << 20}
"""What a pod that asks for nothing is reckoned with when the least used node is looked for: thousandths of a core, bytes."""

Key = tuple[str, str]


class Placed(NamedTuple):
    """A pod that is on a node, as far as others care."""

    namespace: str
    labels: dict[str, str]
    requests: dict[str, int]
    ports: frozenset[scheduling.HostPort]
    owner: str
    repels: tuple[Object, ...]
    """Its required anti-affinity terms: they hold for those that come later too."""


@dataclass(slots=True)
class Place:
    """A node and what is on it."""

    name: str
    labels: dict[str, str]
    spec: Object
    allocatable: dict[str, int]
    pods: dict[Key, Placed] = field(default_factory=dict)

    def used(self) -> Counter[str]:
        total: Counter[str] = Counter({"pods": len(self.pods)})
        for each in self.pods.values():
            total.update(each.requests)
        return total


class Choice(NamedTuple):
    """The node for a pod or, with "", what stands against each, in the API's words."""

    node: str
    message: str = ""


class Cluster:
    """Nodes and the pods on them. `put_*` and `drop_*` follow the objects."""

    def __init__(self) -> None:
        self._places: dict[str, Place] = {}
        self._where: dict[Key, str] = {}
        self._homeless: defaultdict[str, dict[Key, Placed]] = defaultdict(dict)

    def put_node(self, node: Object) -> bool:
        """Whether anything changed that placing depends on."""
        name, status = node["metadata"]["name"], node.get("status") or {}
        allocatable = _amounts(status.get("allocatable") or status.get("capacity") or {})
        spec = {key: value for key, value in (node.get("spec") or {}).items() if key in {"taints", "unschedulable"}}
        labels = labels_of(node)
        known = self._places.get(name)
        if known is not None:
            is_same = (known.labels, known.spec, known.allocatable) == (labels, spec, allocatable)
            known.labels, known.spec, known.allocatable = labels, spec, allocatable
            return not is_same
        self._places[name] = Place(name, labels, spec, allocatable, self._homeless.pop(name, {}))
        return True

    def drop_node(self, name: str) -> None:
        place = self._places.pop(name, None)
        if place is not None and place.pods:
            self._homeless[name] = place.pods

    def put_pod(self, pod: Object) -> bool:
        """Take up a pod that is on a node; True when it is gone from there, or others have to reckon with it differently now."""
        key = (pod["metadata"]["namespace"], pod["metadata"]["name"])
        node = pod["spec"].get("nodeName") or ""
        if not node or has_ended(pod):
            return self.drop_pod(key)
        before = self._where.get(key)
        if before is not None and before != node:
            self.drop_pod(key)
        self._where[key] = node
        pods, now = self._pods(node), placed(pod)
        was, pods[key] = pods.get(key), now
        return was is not None and was != now

    def labels(self, node: str) -> dict[str, str]:
        """Of a node that is there."""
        return dict(self._places[node].labels)

    def has(self, key: Key) -> bool:
        """Whether a pod is known to be on a node."""
        return key in self._where

    def drop_pod(self, key: Key) -> bool:
        node = self._where.pop(key, None)
        if node is None:
            return False
        self._pods(node).pop(key, None)
        return True

    def _pods(self, node: str) -> dict[Key, Placed]:
        place = self._places.get(node)
        return place.pods if place is not None else self._homeless[node]

    def choose(self, pod: Object, *, holds: Callable[[Object], str] = lambda _: "") -> Choice:
        """Where the pod goes. `holds` says why its volumes keep it from a node with these labels, "" if they do not."""
        if not self._places:
            return Choice("", "no nodes available to schedule pods")
        mine = placed(pod)
        asked = Counter(mine.requests) + Counter({"pods": 1})
        neighbours = _Neighbours(self._places.values(), pod, mine)
        against: Counter[str] = Counter()
        possible: list[Place] = []
        for place in self._places.values():
            reasons = _unfit(place, pod["spec"], mine, asked) or neighbours.against(place) or _one(holds(dict(place.labels)))
            if reasons:
                against.update(reasons)
            else:
                possible.append(place)
        if possible:
            return Choice(min(possible, key=lambda each: _rank(each, pod["spec"], mine)).name)
        listed = ", ".join(sorted(f"{count} {reason}" for reason, count in against.items()))
        return Choice("", f"0/{len(self._places)} nodes are available: {listed}.")


def placed(pod: Object) -> Placed:
    owner, affinity = controller_of(pod), pod["spec"].get("affinity") or {}
    return Placed(
        pod["metadata"]["namespace"], labels_of(pod), _requests(pod["spec"]), scheduling.host_ports(pod["spec"]),
        owner["uid"] if owner is not None else "", tuple((affinity.get("podAntiAffinity") or {}).get(REQUIRED) or ()),
    )  # fmt: skip


def _requests(spec: Object) -> dict[str, int]:
    try:
        return scheduling.requests(spec)
    except ValueError:  # the API has checked the quantities: this is an object from elsewhere
        return {}


def _amounts(quantities: Mapping[str, Any]) -> dict[str, int]:
    try:
        return scheduling.amounts(quantities)
    except ValueError:
        return {}


def _one(reason: str) -> list[str]:
    return [reason] if reason else []


def _unfit(place: Place, spec: Object, mine: Placed, asked: Counter[str]) -> list[str]:
    """Why a node cannot take a pod by itself, in Kubernetes' words."""
    tolerations = spec.get("tolerations") or []
    if place.spec.get("unschedulable") and scheduling.untolerated([UNSCHEDULABLE], tolerations, {scheduling.NO_SCHEDULE}):
        return ["node(s) were unschedulable"]
    taint = scheduling.untolerated(place.spec.get("taints") or (), tolerations, {scheduling.NO_SCHEDULE, scheduling.NO_EXECUTE})
    if taint is not None:
        return [f"node(s) had untolerated taint {{{taint.get('key', '')}: {taint.get('value', '')}}}"]
    if not scheduling.selects_node(spec, place.labels, place.name):
        return ["node(s) didn't match Pod's node affinity/selector"]
    if scheduling.ports_collide(mine.ports, [port for each in place.pods.values() for port in each.ports]):
        return ["node(s) didn't have free ports for the requested pod ports"]
    used = place.used()
    missing = (scheduling.shortage({name: amount}, used, place.allocatable) for name, amount in asked.items() if _counts(name, place))
    return ["Too many pods" if each.resource == "pods" else f"Insufficient {each.resource}" for each in missing if each is not None]


def _counts(resource: str, place: Place) -> bool:
    """Whether a resource limits: a node that has not said how much it has (it has just registered) is not full."""
    return bool(place.allocatable) and (resource != "pods" or "pods" in place.allocatable)


class _Neighbours:
    """The required pod affinity and anti-affinity of one pod, and of those that are there towards it."""

    def __init__(self, places: Iterable[Place], pod: Object, mine: Placed) -> None:
        self._mine = mine
        affinity = pod["spec"].get("affinity") or {}
        self._places = list(places)
        self._attracts = [(term, self._domains(term)) for term in (affinity.get("podAffinity") or {}).get(REQUIRED) or ()]
        self._repels = [(term, self._domains(term)) for term in mine.repels]
        self._repelled = self._domains_of_others()

    def _domains(self, term: Object) -> set[str]:
        """The values of the term's topology key where a pod it means is."""
        key = term.get("topologyKey", "")
        return {
            place.labels[key]
            for place in self._places
            if key in place.labels and any(_means(term, self._mine, other) for other in place.pods.values())
        }

    def _domains_of_others(self) -> set[tuple[str, str]]:
        """(topology key, value) from which a pod that is there keeps this one away."""
        return {
            (key, place.labels[key])
            for place in self._places
            for other in place.pods.values()
            for term in other.repels
            if (key := term.get("topologyKey", "")) in place.labels and _means(term, other, self._mine)
        }

    def against(self, place: Place) -> list[str]:
        for term, domains in self._attracts:
            key = term.get("topologyKey", "")
            is_first = not domains and _means(term, self._mine, self._mine)  # the first of a group that wants to be together
            if key not in place.labels or not (is_first or place.labels[key] in domains):
                return ["node(s) didn't match pod affinity rules"]
        if any(place.labels.get(term.get("topologyKey", "")) in domains for term, domains in self._repels):
            return ["node(s) didn't match pod anti-affinity rules"]
        if any(place.labels.get(key) == value for key, value in self._repelled):
            return ["node(s) didn't satisfy existing pods anti-affinity rules"]
        return []


def _means(term: Object, whose: Placed, other: Placed) -> bool:
    """Whether an affinity term of `whose` is about `other`. A namespaceSelector stands for every namespace."""
    namespaces = term.get("namespaces") or ([] if term.get("namespaceSelector") is not None else [whose.namespace])
    is_near = other.namespace in namespaces or term.get("namespaceSelector") is not None
    return is_near and selects(term.get("labelSelector"), other.labels)


def _rank(place: Place, spec: Object, mine: Placed) -> tuple[Any, ...]:
    """The lowest is the best."""
    avoided = [each for each in place.spec.get("taints") or () if each.get("effect") == scheduling.PREFER_NO_SCHEDULE]
    borne = [each for each in avoided if scheduling.untolerated([each], spec.get("tolerations") or [], {scheduling.PREFER_NO_SCHEDULE})]
    terms = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(PREFERRED) or ()
    liked = sum(
        each.get("weight", 1) for each in terms if scheduling.matches_term(each.get("preference") or {}, place.labels, place.name)
    )  # fmt: skip
    siblings = sum(bool(mine.owner) and each.owner == mine.owner for each in place.pods.values())
    load = []
    for resource, modest in _MODEST.items():
        everyone = [mine, *place.pods.values()]
        used = sum(each.requests.get(resource) or modest for each in everyone)
        load.append(used / max(1, place.allocatable.get(resource, 0)))
    return (len(borne), -liked, siblings, sum(load), len(place.pods), place.name)
