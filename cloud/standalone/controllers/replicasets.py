"""ReplicaSets: as many pods as wanted, the least useful go first (Kubernetes API, apps/v1 ReplicaSet)."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from pinnace.cloud.standalone.controllers import podfacts
from pinnace.cloud.standalone.controllers.controller import Controller, Key
from pinnace.cloud.standalone.deletion import Deletion
from pinnace.cloud.standalone.objects import Objects, now_text
from pinnace.cloud.standalone.state import Change, Object, Table
from pinnace.cloud.standalone.status import ApiError

BURST: Final = 500
"""Pods made or deleted in one round."""
_PHASES: Final = {"Pending": 0, "Unknown": 1, "Running": 2}
_COST: Final = "controller.kubernetes.io/pod-deletion-cost"


class Plan(NamedTuple):
    """Pods to make, pods to delete, the counts of a status, and in how many seconds a pod becomes available (None: none will)."""

    create: int
    delete: list[Object]
    counts: dict[str, int]
    again: float | None


def plan(replica_set: Object, pods: Sequence[Object], now: float) -> Plan:
    """What a ReplicaSet needs, `pods` being those it owns."""
    spec = replica_set["spec"]
    active = [pod for pod in pods if podfacts.is_active(pod)]
    wanted: int = spec.get("replicas", 1)
    extra = sorted(active, key=_usefulness(active))[: max(0, len(active) - wanted)]
    labels = (spec["template"].get("metadata") or {}).get("labels") or {}
    waits = [podfacts.available_in(pod, spec.get("minReadySeconds") or 0, now) for pod in active]
    counts = {
        "replicas": len(active),
        "fullyLabeledReplicas": sum(labels.items() <= podfacts.labels_of(pod).items() for pod in active),
        "readyReplicas": sum(podfacts.is_ready(pod) for pod in active),
        "availableReplicas": sum(each == 0 for each in waits),
    }
    return Plan(max(0, wanted - len(active)), extra, counts, min((each for each in waits if each), default=None))


def _usefulness(pods: Sequence[Object]) -> Callable[[Object], tuple[Any, ...]]:
    """A sort key: what should be deleted first comes first."""
    beside = Counter(pod["spec"].get("nodeName") or "" for pod in pods)

    def rank(pod: Object) -> tuple[Any, ...]:
        status, annotations = pod.get("status") or {}, pod["metadata"].get("annotations") or {}
        cost = str(annotations.get(_COST, "0"))
        restarts = max((each.get("restartCount", 0) for each in status.get("containerStatuses") or ()), default=0)
        is_ready = podfacts.is_ready(pod)
        since = podfacts.moment(podfacts.condition(pod, "Ready").get("lastTransitionTime")) if is_ready else 0.0
        made = podfacts.moment(pod["metadata"]["creationTimestamp"])
        return (
            bool(pod["spec"].get("nodeName")), _PHASES.get(status.get("phase", ""), 0), is_ready,
            int(cost) if cost.lstrip("+-").isdecimal() else 0, -beside[pod["spec"].get("nodeName") or ""], -since, -restarts, -made,
            pod["metadata"]["name"],
        )  # fmt: skip

    return rank


class ReplicaSets(Controller):
    """The controller."""

    def __init__(self, objects: Objects, deletion: Deletion, *, wall: Callable[[], float] = time.time) -> None:
        super().__init__(objects, deletion, "replicaset-controller", "replicasets", "apps", wall=wall)

    def _changed(self, table: Table, change: Change) -> None:
        if table.resource == self._pods.table:
            self._touch_owners(change)

    async def _reconcile(self, key: Key) -> float | None:
        namespace, name = key
        found = self._own.find(self._kind, name, namespace)
        if found is None:
            return None
        pods = await self._own.claimed(found, self._kind, self._pods)
        made = plan(found, pods, self._own.wall())
        failure: ApiError | None = None
        if not podfacts.is_ending(found):
            failure = await self._scale(found, made)
        await self._own.status(self._kind, found, self._status(found, made, failure))
        if failure is not None:
            raise failure
        return made.again

    async def _scale(self, found: Object, made: Plan) -> ApiError | None:
        failure = await self._own.make_pods(found, self._kind, [found["spec"]["template"]] * min(made.create, BURST))
        for pod in made.delete[:BURST]:
            await self._own.delete_pod(found, pod)
        return failure

    def _status(self, found: Object, made: Plan, failure: ApiError | None) -> Object:
        conditions = [each for each in (found.get("status") or {}).get("conditions") or () if each.get("type") != "ReplicaFailure"]
        if failure is not None:
            # The first one stands while it lasts: with the text of each, every round would be a write.
            conditions.append(podfacts.condition(found, "ReplicaFailure") or {
                "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": failure.message,
                "lastTransitionTime": now_text(self._own.wall()),
            })  # fmt: skip
        status: Object = {part: value for part, value in made.counts.items() if value or part == "replicas"}
        status["observedGeneration"] = found["metadata"].get("generation", 0)
        if conditions:
            status["conditions"] = conditions
        return status
