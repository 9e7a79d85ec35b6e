"""ReplicaSets: as many pods as wanted, the least useful go first (Kubernetes API, apps/v1 ReplicaSet)."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import orjson

from pinnace.cloud.standalone.controllers import podfacts
from pinnace.cloud.standalone.controllers.owning import Owning, owner_name
from pinnace.cloud.standalone.controllers.rounds import Rounds
from pinnace.cloud.standalone.deletion import Deletion
from pinnace.cloud.standalone.objects import Objects, now_text
from pinnace.cloud.standalone.state import Change, Object, Table
from pinnace.cloud.standalone.status import ApiError

logger = logging.getLogger(__name__)

Key = tuple[str, str]
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


def pod_of(owner: Object, reference: Object, template: Object) -> Object:
    """A new pod by a template, under its owner's name."""
    given = template.get("metadata") or {}
    metadata: Object = {"generateName": f"{owner['metadata']['name'][:57]}-", "ownerReferences": [reference]}
    metadata |= {part: dict(given[part]) for part in ("labels", "annotations") if given.get(part)}
    if given.get("finalizers"):
        metadata["finalizers"] = list(given["finalizers"])
    return {"metadata": metadata, "spec": orjson.loads(orjson.dumps(template["spec"]))}


class ReplicaSets:
    """The controller."""

    def __init__(self, objects: Objects, deletion: Deletion, *, wall: Callable[[], float] = time.time) -> None:
        self._own = Owning(objects, deletion, "replicaset-controller", wall=wall)
        self._kind = self._own.kind("replicasets", "apps")
        self._pods = self._own.kind("pods")
        self._rounds: Rounds[Key] = Rounds("replicaset", self._reconcile)
        for item in self._own.items(self._kind):
            self._rounds.touch((item.namespace, item.name))
        objects.state.subscribe_all(self._changed)

    async def run(self) -> None:
        await self._rounds.run()

    def _changed(self, table: Table, change: Change) -> None:
        item = change.item
        if table.resource == self._kind.table:
            self._rounds.touch((item.namespace, item.name))
        elif table.resource == self._pods.table:
            owners = list(owner_name((item, change.previous), self._kind))
            for each in owners:
                self._rounds.touch(each)
            if b'"controller":true' not in item.body and item.labels:
                for owner in self._own.items(self._kind, item.namespace):
                    self._rounds.touch((owner.namespace, owner.name))

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
        reference = podfacts.reference_to(found, self._kind)
        failure, created = None, []
        for _ in range(min(made.create, BURST)):
            try:
                pod = pod_of(found, reference, found["spec"]["template"])
                created.append(await self._own.objects.create(self._pods, pod, found["metadata"]["namespace"]))
            except ApiError as error:
                failure = error
                break
        for pod in created:
            await self._own.say(found, "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}")
        if failure is not None:
            await self._own.say(found, "FailedCreate", f"Error creating: {failure.message}", is_warning=True)
        for pod in made.delete[:BURST]:
            if await self._own.delete(self._pods, pod):
                await self._own.say(found, "SuccessfulDelete", f"Deleted pod: {pod['metadata']['name']}")
        return failure

    def _status(self, found: Object, made: Plan, failure: ApiError | None) -> Object:
        conditions = [each for each in (found.get("status") or {}).get("conditions") or () if each.get("type") != "ReplicaFailure"]
        if failure is not None:
            known = podfacts.condition(found, "ReplicaFailure")
            since = known.get("lastTransitionTime") if known.get("message") == failure.message else None
            conditions.append({
                "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": failure.message,
                "lastTransitionTime": since or now_text(self._own.wall()),
            })  # fmt: skip
        status: Object = {part: value for part, value in made.counts.items() if value or part == "replicas"}
        status["observedGeneration"] = found["metadata"].get("generation", 0)
        if conditions:
            status["conditions"] = conditions
        return status
