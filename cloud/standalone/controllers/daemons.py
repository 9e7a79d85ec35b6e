"""Where a DaemonSet's pods belong, and which of them are exchanged when its template changes. Pure (Kubernetes API, apps/v1 DaemonSet)."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from pinnace.cloud.standalone.controllers import podfacts
from pinnace.cloud.standalone.controllers.placing import UNSCHEDULABLE
from pinnace.cloud.standalone.controllers.podfacts import share
from pinnace.cloud.standalone.state import Object
from pinnace.core.base.contract import scheduling

HASH_LABEL: Final = "controller-revision-hash"
GENERATION_LABEL: Final = "pod-template-generation"
_TAINTS: Final = (
    ("not-ready", "NoExecute"), ("unreachable", "NoExecute"), ("disk-pressure", "NoSchedule"), ("memory-pressure", "NoSchedule"),
    ("pid-pressure", "NoSchedule"), ("unschedulable", "NoSchedule"),
)  # fmt: skip
"""What its pods put up with on every node, and for ever."""


class Fit(NamedTuple):
    """Whether a node should get a pod, and whether one that is there may stay."""

    runs: bool
    stays: bool


class Plan(NamedTuple):
    """Nodes that get a pod, pods that go, the counts of a status, and in how many seconds a pod becomes available (None: none will)."""

    create: list[str]
    delete: list[Object]
    counts: dict[str, int]
    again: float | None


def tolerations(spec: Object) -> list[Object]:
    """A template's tolerations and those every daemon has."""
    keys = [*_TAINTS, *([("network-unavailable", "NoSchedule")] if spec.get("hostNetwork") else [])]
    found: list[Object] = list(spec.get("tolerations") or ())
    for name, effect in keys:
        each = {"key": f"node.kubernetes.io/{name}", "operator": "Exists", "effect": effect}
        if each not in found:
            found.append(each)
    return found


def fit(template: Object, node: Object) -> Fit:
    spec, name = template["spec"], node["metadata"]["name"]
    if spec.get("nodeName") not in {None, "", name}:
        return Fit(False, False)
    if not scheduling.selects_node(spec, podfacts.labels_of(node), name):
        return Fit(False, False)
    node_spec, borne = node.get("spec") or {}, tolerations(spec)
    taints = [*(node_spec.get("taints") or ()), *([UNSCHEDULABLE] if node_spec.get("unschedulable") else [])]
    return Fit(
        scheduling.untolerated(taints, borne, {scheduling.NO_SCHEDULE, scheduling.NO_EXECUTE}) is None,
        scheduling.untolerated(taints, borne, {scheduling.NO_EXECUTE}) is None,
    )


def template_for(template: Object, node: str, labels: Mapping[str, str]) -> Object:
    """The template of one node's pod: the scheduler may put it there only."""
    made: Any = copy.deepcopy(dict(template))
    metadata, spec = made.setdefault("metadata", {}), made["spec"]
    metadata["labels"] = {**(metadata.get("labels") or {}), **labels}
    spec["tolerations"] = tolerations(spec)
    field = {"key": "metadata.name", "operator": "In", "values": [node]}
    affinity = spec.setdefault("affinity", {}).setdefault("nodeAffinity", {})
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = required.get("nodeSelectorTerms") or [{}]
    affinity["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": [{**each, "matchFields": [field]} for each in terms]}
    return dict(made)


def target_of(pod: Object) -> str:
    """The node a daemon's pod is on, or is meant for."""
    spec = pod["spec"]
    if spec.get("nodeName"):
        return str(spec["nodeName"])
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    for term in (affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}).get("nodeSelectorTerms") or ():
        for each in term.get("matchFields") or ():
            if each.get("key") == "metadata.name" and len(each.get("values") or ()) == 1:
                return str(each["values"][0])
    return ""


class _View(NamedTuple):
    """The nodes with whether they fit, the pods on each, the present revision, and in how many seconds each pod is available."""

    fits: Mapping[str, Fit]
    pods: Mapping[str, list[Object]]
    revision: str
    waits: Mapping[str, float | None]

    def on(self, node: str) -> list[Object]:
        return self.pods.get(node, [])

    def is_new(self, pod: Object) -> bool:
        return podfacts.labels_of(pod).get(HASH_LABEL) == self.revision

    def is_available(self, pod: Object) -> bool:
        return self.waits[pod["metadata"]["uid"]] == 0


def plan(daemon_set: Object, nodes: Iterable[Object], pods: Sequence[Object], revision: str, now: float) -> Plan:
    """What a DaemonSet needs; `revision` is the hash label of its present template."""
    spec, fits = daemon_set["spec"], {each["metadata"]["name"]: fit(daemon_set["spec"]["template"], each) for each in nodes}
    on_node: defaultdict[str, list[Object]] = defaultdict(list)
    for pod in pods:
        on_node[target_of(pod)].append(pod)
    waits = {pod["metadata"]["uid"]: podfacts.available_in(pod, spec.get("minReadySeconds") or 0, now) for pod in pods}
    view = _View(fits, on_node, revision, waits)
    create, delete = [], []
    for name, fitting in fits.items():
        here = [pod for pod in view.on(name) if not podfacts.is_ending(pod)]
        alive = [pod for pod in here if not podfacts.has_ended(pod)]
        delete += [pod for pod in here if podfacts.has_ended(pod)]
        if not fitting.runs and not fitting.stays:
            delete += alive
        elif fitting.runs and not view.on(name):
            create.append(name)
        elif len(alive) > 1:
            delete += _doubles(view, alive)
    for name in on_node.keys() - fits.keys() - {""}:  # nobody else deletes what waits for a node that is gone
        delete += [pod for pod in view.on(name) if not pod["spec"].get("nodeName") and not podfacts.is_ending(pod)]
    strategy = spec.get("updateStrategy") or {}
    if strategy.get("type", "RollingUpdate") == "RollingUpdate":
        gone, surged = _exchanged(strategy.get("rollingUpdate") or {}, view)
        delete += [pod for pod in gone if pod not in delete]
        create += surged
    return Plan(create, delete, _counts(view), min((each for each in waits.values() if each), default=None))


def _doubles(view: _View, alive: Sequence[Object]) -> list[Object]:
    """Of several on one node the oldest of each revision stays; an old one goes when the new one is available."""
    ordered = sorted(alive, key=lambda each: (not each["spec"].get("nodeName"), each["metadata"]["creationTimestamp"]))
    new = [pod for pod in ordered if view.is_new(pod)]
    old = [pod for pod in ordered if not view.is_new(pod)]
    return [*new[1:], *old[1:], *(old[:1] if new and view.is_available(new[0]) else [])]


def _exchanged(rolling: Object, view: _View) -> tuple[list[Object], list[str]]:
    """Old pods that go now, and nodes that get the new pod beside the old one."""
    wanted = sum(each.runs for each in view.fits.values())
    surge = share(rolling.get("maxSurge"), wanted, up=True)
    unavailable = share(rolling.get("maxUnavailable", 1), wanted, up=True)
    if not surge and not unavailable:
        unavailable = 1
    missing = surged = 0
    broken: list[Object] = []
    healthy: list[Object] = []
    for name, fitting in view.fits.items():
        if not fitting.runs:
            continue
        alive = [pod for pod in view.on(name) if podfacts.is_active(pod)]
        is_available = any(view.is_available(pod) for pod in alive)
        missing += not is_available
        surged += len(alive) > 1
        if len(alive) == 1 and not view.is_new(alive[0]):
            (healthy if is_available else broken).append(alive[0])
    if surge:
        return [], [target_of(pod) for pod in [*broken, *healthy][: max(0, surge - surged)]]
    # One that is not available is no loss; of the others so many that no more than maxUnavailable are missing.
    return [*broken, *healthy[: max(0, unavailable - missing)]], []


def _counts(view: _View) -> dict[str, int]:
    parts = "desiredNumberScheduled currentNumberScheduled numberMisscheduled numberReady updatedNumberScheduled numberAvailable"
    made = dict.fromkeys(parts.split(), 0)
    for name, fitting in view.fits.items():
        pods = [pod for pod in view.on(name) if podfacts.is_active(pod)]
        if not fitting.runs:
            made["numberMisscheduled"] += bool(pods)
            continue
        made["desiredNumberScheduled"] += 1
        if pods:
            made["currentNumberScheduled"] += 1
            made["updatedNumberScheduled"] += any(map(view.is_new, pods))
            made["numberReady"] += any(map(podfacts.is_ready, pods))
            made["numberAvailable"] += any(map(view.is_available, pods))
    made["numberUnavailable"] = made["desiredNumberScheduled"] - made["numberAvailable"]
    return made
