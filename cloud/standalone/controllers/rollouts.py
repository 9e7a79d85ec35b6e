"""How a Deployment gets from one template to the next: which ReplicaSet is the new one, how many pods each may have, and what the status
says of it. Pure (Kubernetes API, apps/v1 Deployment)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final

import orjson

from pinnace.cloud.standalone.controllers.podfacts import condition, is_ending, moment, share
from pinnace.cloud.standalone.names import NAME_LETTERS
from pinnace.cloud.standalone.objects import equal
from pinnace.cloud.standalone.state import Object

HASH_LABEL: Final = "pod-template-hash"
REVISION: Final = "deployment.kubernetes.io/revision"
HISTORY: Final = "deployment.kubernetes.io/revision-history"
DESIRED: Final = "deployment.kubernetes.io/desired-replicas"
MOST: Final = "deployment.kubernetes.io/max-replicas"
_NOT_COPIED: Final = frozenset({REVISION, HISTORY, DESIRED, MOST, "kubectl.kubernetes.io/last-applied-configuration",
                                "deprecated.deployment.rollback.to"})  # fmt: skip
CREATED: Final = "NewReplicaSetCreated"
FOUND: Final = "FoundNewReplicaSet"
NO_DEADLINE: Final = (1 << 31) - 1
Targets = dict[str, int]
"""How many pods ReplicaSets should have, by uid; those that are not in it keep theirs."""


def replicas(replica_set: Object) -> int:
    return int(replica_set["spec"].get("replicas", 1))


def counted(replica_sets: Sequence[Object], part: str) -> int:
    """The sum of a count of their status."""
    return sum((each.get("status") or {}).get(part, 0) for each in replica_sets)


def annotations_of(obj: Object) -> dict[str, str]:
    return obj["metadata"].get("annotations") or {}


def revision_of(obj: Object) -> int:
    text = annotations_of(obj).get(REVISION, "")
    return int(text) if text.isdecimal() else 0


def _bare(template: Object) -> Object:
    metadata = dict(template.get("metadata") or {})
    metadata["labels"] = {key: value for key, value in (metadata.get("labels") or {}).items() if key != HASH_LABEL}
    return {**template, "metadata": metadata}


def same_template(left: Object, right: Object) -> bool:
    """Whether two templates make the same pods: the hash label does not count."""
    return equal(_bare(left), _bare(right))


def template_hash(template: Object, collisions: int = 0) -> str:
    """A short name for a template: the same for the same content, another after a collision."""
    content = orjson.dumps(_bare(template), option=orjson.OPT_SORT_KEYS) + str(collisions or "").encode()
    digest = hashlib.blake2b(content, digest_size=10).digest()
    return "".join(NAME_LETTERS[each % len(NAME_LETTERS)] for each in digest)


def by_age(replica_sets: Sequence[Object]) -> list[Object]:
    return sorted(replica_sets, key=lambda each: (each["metadata"]["creationTimestamp"], each["metadata"]["name"]))


def newest(deployment: Object, replica_sets: Sequence[Object]) -> Object | None:
    """The ReplicaSet of the deployment's present template: the oldest, should there be several."""
    wanted = deployment["spec"]["template"]
    return next((each for each in by_age(replica_sets) if same_template(each["spec"]["template"], wanted)), None)


def limits(deployment: Object) -> tuple[int, int]:
    """maxSurge and maxUnavailable as counts; of a rolling update not both are 0, or nothing could move, of another both are."""
    wanted, strategy = deployment["spec"].get("replicas", 1), deployment["spec"].get("strategy") or {}
    if strategy.get("type") == "Recreate":
        return 0, 0
    rolling = strategy.get("rollingUpdate") or {}
    surge = share(rolling.get("maxSurge"), wanted, up=True)
    unavailable = share(rolling.get("maxUnavailable"), wanted, up=False)
    if not surge and not unavailable:
        unavailable = 1
    return surge, min(unavailable, wanted) if wanted else unavailable


def most(deployment: Object) -> int:
    """The pods there may be at a time."""
    wanted = int(deployment["spec"].get("replicas", 1))
    return wanted + limits(deployment)[0]


def is_saturated(deployment: Object, new: Object | None) -> bool:
    wanted = deployment["spec"].get("replicas", 1)
    return (
        new is not None
        and replicas(new) == wanted
        and annotations_of(new).get(DESIRED) == str(wanted)
        and counted([new], "availableReplicas") == wanted
    )


def is_scaling(deployment: Object, replica_sets: Sequence[Object]) -> bool:
    """Whether somebody changed the number of replicas since the ReplicaSets were last told of it."""
    wanted = str(deployment["spec"].get("replicas", 1))
    return any(replicas(each) > 0 and annotations_of(each).get(DESIRED, wanted) != wanted for each in replica_sets)


def scaled(deployment: Object, new: Object | None, old: Sequence[Object]) -> Targets:
    """Another number of replicas in the midst of whatever is going on: one active ReplicaSet gets it all, several get their share."""
    wanted = int(deployment["spec"].get("replicas", 1))
    everyone = [*old, *([new] if new is not None else [])]
    active = [each for each in everyone if replicas(each) > 0]
    if len(active) <= 1:
        only = active[0] if active else new if new is not None else by_age(old)[-1] if old else None
        return {only["metadata"]["uid"]: wanted} if only is not None else {}
    if is_saturated(deployment, new):
        return {each["metadata"]["uid"]: 0 for each in old if replicas(each) > 0}
    if (deployment["spec"].get("strategy") or {}).get("type") == "Recreate":
        return {}
    allowed = most(deployment) if wanted > 0 else 0
    return _shared(active, allowed - sum(map(replicas, active)), allowed)


def _shared(active: Sequence[Object], change: int, allowed: int) -> Targets:
    """Spread a change over ReplicaSets by their size; what rounding leaves goes to the first."""
    ordered = by_age(active)
    if change > 0:
        ordered.reverse()
    ordered.sort(key=replicas, reverse=True)
    targets: Targets = {}
    given = 0
    for each in ordered:
        text = annotations_of(each).get(MOST, "")
        before = int(text) if text.isdecimal() and int(text) else sum(map(replicas, active))
        part = (replicas(each) * allowed * 2 + before) // (2 * before) - replicas(each)
        left = change - given
        part = max(0, min(part, left)) if change > 0 else min(0, max(part, left))
        targets[each["metadata"]["uid"]] = replicas(each) + part
        given += part
    if ordered and given != change:
        first = ordered[0]["metadata"]["uid"]
        targets[first] = max(0, targets[first] + change - given)
    return targets


def rolled(deployment: Object, new: Object, old: Sequence[Object]) -> Targets:
    """One step of a rolling update: first up with the new within the surge, then down with the old within what must stay available."""
    wanted, uid = int(deployment["spec"].get("replicas", 1)), new["metadata"]["uid"]
    everyone = [*old, new]
    total = sum(map(replicas, everyone))
    if replicas(new) > wanted:
        return {uid: wanted}
    room = min(most(deployment) - total, wanted - replicas(new))
    if room > 0:
        return {uid: replicas(new) + room}
    if any((each.get("status") or {}).get("observedGeneration", 0) < each["metadata"].get("generation", 0) for each in everyone):
        return {}  # its counts are from before its last change
    least = wanted - limits(deployment)[1]
    spare = total - least - (replicas(new) - counted([new], "availableReplicas"))
    if spare <= 0:
        return {}
    targets, spare = _without_unhealthy(old, spare)
    available = counted(everyone, "availableReplicas") - least
    for each in by_age(old):
        now = targets.get(each["metadata"]["uid"], replicas(each))
        step = min(available, now)
        if step > 0:
            targets[each["metadata"]["uid"]] = now - step
            available -= step
    return targets


def _without_unhealthy(old: Sequence[Object], spare: int) -> tuple[Targets, int]:
    """Old pods that are not available go first: nothing is lost with them."""
    targets: Targets = {}
    for each in by_age(old):
        step = min(spare, replicas(each) - counted([each], "availableReplicas"))
        if step > 0:
            targets[each["metadata"]["uid"]] = replicas(each) - step
            spare -= step
    return targets, spare


def is_complete(deployment: Object, new: Object | None, old: Sequence[Object]) -> bool:
    """Whether there are as many pods as wanted, all of the present template and available."""
    if new is None:
        return False
    everyone, wanted = [*old, new], int(deployment["spec"].get("replicas", 1))
    return counted([new], "replicas") == counted(everyone, "replicas") == counted(everyone, "availableReplicas") == wanted


def surplus(deployment: Object, old: Sequence[Object]) -> list[Object]:
    """Empty ReplicaSets of the past beyond the wanted length of the history, oldest first."""
    idle = [
        each for each in old
        if not replicas(each) and not counted([each], "replicas") and not is_ending(each)
        and (each.get("status") or {}).get("observedGeneration", 0) >= each["metadata"].get("generation", 0)
    ]  # fmt: skip
    limit = deployment["spec"].get("revisionHistoryLimit", 10)
    return sorted(idle, key=revision_of)[: max(0, len(idle) - limit)]


def new_annotations(deployment: Object, existing: Object | None, old: Sequence[Object]) -> dict[str, str]:
    """The annotations of the new ReplicaSet: the deployment's, its revision, what revisions it had before, the numbers it was made for."""
    before = annotations_of(existing) if existing is not None else {}
    revision = max((revision_of(each) for each in old), default=0) + 1
    made = {key: value for key, value in before.items() if key in _NOT_COPIED}
    made |= {key: value for key, value in annotations_of(deployment).items() if key not in _NOT_COPIED}
    known = int(before[REVISION]) if before.get(REVISION, "").isdecimal() else 0
    if known < revision:
        if known:
            made[HISTORY] = ",".join(filter(None, (before.get(HISTORY, ""), str(known))))
        made[REVISION] = str(revision)
    return made | sized(deployment)


def sized(deployment: Object) -> dict[str, str]:
    return {DESIRED: str(deployment["spec"].get("replicas", 1)), MOST: str(most(deployment))}


def status_of(
    deployment: Object, new: Object | None, old: Sequence[Object], collisions: int, *, wall: float, now: str, begun: str = ""
) -> Object:
    """The status; `wall` and `now` are the same moment in Unix seconds and as a text. `begun`: a rollout began in this round, with a
    ReplicaSet that was made (CREATED) or had been there (FOUND)."""
    everyone = [*old, *([new] if new is not None else [])]
    available, wanted = counted(everyone, "availableReplicas"), int(deployment["spec"].get("replicas", 1))
    counts = {
        "replicas": counted(everyone, "replicas"),
        "updatedReplicas": counted([new] if new is not None else [], "replicas"),
        "readyReplicas": counted(everyone, "readyReplicas"),
        "availableReplicas": available,
        "unavailableReplicas": max(0, sum(map(replicas, everyone)) - available),
    }
    status: Object = {part: value for part, value in counts.items() if value}
    status["observedGeneration"] = deployment["metadata"].get("generation", 0)
    if collisions:
        status["collisionCount"] = collisions
    is_enough = available >= wanted - limits(deployment)[1]
    words = ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.") if is_enough else (
        "False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")  # fmt: skip
    conditions = [_condition(deployment, "Available", *words, now=now)]
    progress = _progress(deployment, new, counts, is_done=is_complete(deployment, new, old), wall=wall, now=now, begun=begun)
    if progress:
        conditions.append(progress)
    failed = next((found for each in everyone if (found := condition(each, "ReplicaFailure"))), None)
    if failed is not None:
        conditions.append(_condition(deployment, "ReplicaFailure", "True", failed["reason"], failed["message"], now=now))
    status["conditions"] = conditions
    return status


def deadline(deployment: Object) -> int | None:
    seconds = deployment["spec"].get("progressDeadlineSeconds")
    return None if seconds is None or seconds >= NO_DEADLINE else int(seconds)


def _progress(
    deployment: Object, new: Object | None, counts: dict[str, int], *, is_done: bool, wall: float, now: str, begun: str
) -> Object:
    """The condition Progressing; empty where no deadline is set."""
    limit, known = deadline(deployment), condition(deployment, "Progressing")
    if limit is None:
        return {}
    if deployment["spec"].get("paused"):
        if known.get("reason") == "ProgressDeadlineExceeded":
            return known
        return _condition(deployment, "Progressing", "Unknown", "DeploymentPaused", "Deployment is paused", now=now)
    what = f'ReplicaSet "{new["metadata"]["name"]}"' if new is not None else f'Deployment "{deployment["metadata"]["name"]}"'
    if begun or not known:  # what is known of the one before says nothing of this one, and its time begins now
        words = f"{'Found' if begun == FOUND else 'Created'} new replica set {what[11:]}"
        known = {**_condition(deployment, "Progressing", "True", begun or CREATED, words, now=now), "lastUpdateTime": now}
    if known.get("reason") == "DeploymentPaused":
        return _condition(deployment, "Progressing", "Unknown", "DeploymentResumed", "Deployment is resumed", now=now)
    if is_done:
        return _condition(deployment, "Progressing", "True", "NewReplicaSetAvailable", f"{what} has successfully progressed.", now=now)
    before = deployment.get("status") or {}
    was_done = known.get("reason") == "NewReplicaSetAvailable" and counts["updatedReplicas"] == counts["replicas"]
    if was_done and known.get("message", "").startswith(what):
        return known  # it had been there: what is missing now is no rollout
    moved = (
        counts["updatedReplicas"] > before.get("updatedReplicas", 0)
        or counts["readyReplicas"] > before.get("readyReplicas", 0)
        or counts["availableReplicas"] > before.get("availableReplicas", 0)
        or counts["replicas"] - counts["updatedReplicas"] < before.get("replicas", 0) - before.get("updatedReplicas", 0)
    )
    if moved or known.get("reason") == "NewReplicaSetAvailable":
        made = _condition(deployment, "Progressing", "True", "ReplicaSetUpdated", f"{what} is progressing.", now=now)
        return {**made, "lastUpdateTime": now}
    if known.get("reason") != "ProgressDeadlineExceeded" and moment(known.get("lastUpdateTime")) + limit > wall:
        return known
    return _condition(deployment, "Progressing", "False", "ProgressDeadlineExceeded", f"{what} has timed out progressing.", now=now)


def look_again(deployment: Object, status: Object, wall: float) -> float | None:
    """Seconds until the deadline may pass without any other change."""
    limit = deadline(deployment)
    known = condition({"status": status}, "Progressing")
    if limit is None or not known or deployment["spec"].get("paused") or known["reason"] in {
        "NewReplicaSetAvailable", "ProgressDeadlineExceeded",
    }:  # fmt: skip
        return None
    return max(0.5, moment(known["lastUpdateTime"]) + limit - wall + 1)


def _condition(deployment: Object, kind: str, status: str, reason: str, message: str, *, now: str) -> Object:
    """A condition; its times are the known one's where it says the same."""
    known: dict[str, Any] = condition(deployment, kind)
    is_same = (known.get("status"), known.get("reason"), known.get("message")) == (status, reason, message)
    since = known.get("lastTransitionTime") if known.get("status") == status else None
    return {
        "type": kind, "status": status, "reason": reason, "message": message,
        "lastUpdateTime": known.get("lastUpdateTime", now) if is_same else now, "lastTransitionTime": since or now,
    }  # fmt: skip
