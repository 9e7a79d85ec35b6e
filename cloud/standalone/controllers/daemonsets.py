"""DaemonSets: one pod on every node that fits, and the history of their templates (Kubernetes API, apps/v1)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from pinnace.cloud.standalone.controllers import daemons, podfacts, rollouts
from pinnace.cloud.standalone.controllers.controller import Controller, Key
from pinnace.cloud.standalone.deletion import Deletion
from pinnace.cloud.standalone.objects import Objects, equal
from pinnace.cloud.standalone.state import Change, Object, Table
from pinnace.cloud.standalone.status import ApiError

_GENERATION: Final = "deprecated.daemonset.template.generation"
_FAILED_PAUSE: Final = 1.0
"""Seconds before a pod that failed is replaced, doubled for each in a row."""
_LONGEST_PAUSE: Final = 300.0


class DaemonSets(Controller):
    """The controller."""

    def __init__(self, objects: Objects, deletion: Deletion, *, wall: Callable[[], float] = time.time) -> None:
        super().__init__(objects, deletion, "daemonset-controller", "daemonsets", "apps", wall=wall)
        self._nodes = self._own.kind("nodes")
        self._revisions = self._own.kind("controllerrevisions", "apps")
        self._failed: dict[tuple[str, str, str], tuple[float, float]] = {}

    def _changed(self, table: Table, change: Change) -> None:
        item, previous = change.item, change.previous
        if table.resource == self._nodes.table:
            if previous is None or change.type == "DELETED" or _placing(item.decode()) != _placing(previous.decode()):
                self._touch_all()
        elif table.resource in {self._pods.table, self._revisions.table}:
            self._touch_owners(change)

    async def _reconcile(self, key: Key) -> float | None:
        namespace, name = key
        found = self._own.find(self._kind, name, namespace)
        if found is None:
            self._failed = {each: pause for each, pause in self._failed.items() if each[:2] != key}
            return None
        if podfacts.is_ending(found):
            return None
        pods = await self._own.claimed(found, self._kind, self._pods)
        revision, collisions = await self._recorded(found, pods)
        if revision is None:
            await self._own.status(self._kind, found, {**(found.get("status") or {}), "collisionCount": collisions})
            return None
        short = podfacts.labels_of(revision).get(daemons.HASH_LABEL, "")
        nodes = [item.decode() for item in self._own.items(self._nodes)]
        made = daemons.plan(found, nodes, pods, short, self._own.wall())
        failure, again = await self._move(found, made, short)
        status: Object = {
            part: value for part, value in made.counts.items() if value or not part.startswith(("updated", "numberA", "numberU"))
        }
        status["observedGeneration"] = found["metadata"].get("generation", 0)
        if collisions:
            status["collisionCount"] = collisions
        await self._own.status(self._kind, found, status)
        if failure is not None:
            raise failure
        return min((each for each in (made.again, again) if each is not None), default=None)

    async def _move(self, found: Object, made: daemons.Plan, short: str) -> tuple[ApiError | None, float | None]:
        """Delete and make pods; the failure that stopped it, and in how many seconds a failed pod may be replaced."""
        wait: float | None = None
        for pod in made.delete:
            if podfacts.has_ended(pod):
                pause = self._pause(found, pod)
                if pause > 0:
                    wait = pause if wait is None else min(wait, pause)
                    continue
                where = f"{pod['metadata']['namespace']}/{pod['metadata']['name']} on node {daemons.target_of(pod)}"
                message = f"Found failed daemon pod {where}, will try to kill it"
                await self._own.say(found, "FailedDaemonPod", message, is_warning=True)
            await self._own.delete_pod(found, pod)
        generation = rollouts.annotations_of(found).get(_GENERATION) or str(found["metadata"].get("generation", 1))
        labels = {daemons.HASH_LABEL: short, daemons.GENERATION_LABEL: generation}
        templates = (daemons.template_for(found["spec"]["template"], node, labels) for node in made.create)
        return await self._own.make_pods(found, self._kind, templates), wait

    def _pause(self, found: Object, pod: Object) -> float:
        """Seconds until a failed pod is replaced: one that fails again and again is replaced less and less often."""
        key = (found["metadata"]["namespace"], found["metadata"]["name"], daemons.target_of(pod))
        now = self._own.wall()
        until, pause = self._failed.get(key, (0.0, 0.0))
        if now < until:
            return until - now
        if now > until + 2 * _LONGEST_PAUSE:
            pause = 0.0
        pause = min(_LONGEST_PAUSE, 2 * pause or _FAILED_PAUSE)
        self._failed[key] = (now + pause, pause)
        return 0.0

    async def _recorded(self, found: Object, pods: Sequence[Object]) -> tuple[Object | None, int]:
        """The revision of the present template, made or moved to the end of the history, and how often names collided. None: look again."""
        collisions = (found.get("status") or {}).get("collisionCount", 0)
        history = await self._own.claimed(found, self._kind, self._revisions)
        history.sort(key=lambda each: (each.get("revision", 0), each["metadata"]["name"]))
        content = {"spec": {"template": {**found["spec"]["template"], "$patch": "replace"}}}
        same = [each for each in history if equal(each.get("data"), content)]
        last = history[-1].get("revision", 0) if history else 0
        if same:
            current = same[-1]
            if current.get("revision", 0) < last:
                current = (
                    await self._own.objects.change(
                        self._revisions, current["metadata"]["name"], current["metadata"]["namespace"],
                        lambda old: {**old, "revision": last + 1},
                    )
                ).obj  # fmt: skip
        else:
            short = rollouts.template_hash(found["spec"]["template"], collisions)
            labels = {**((found["spec"]["template"].get("metadata") or {}).get("labels") or {}), daemons.HASH_LABEL: short}
            kept = {key: value for key, value in rollouts.annotations_of(found).items() if not key.endswith("last-applied-configuration")}
            body: Object = {
                "metadata": {
                    "name": f"{found['metadata']['name']}-{short}", "labels": labels, "annotations": kept,
                    "ownerReferences": [podfacts.reference_to(found, self._kind)],
                },
                "data": content, "revision": last + 1,
            }  # fmt: skip
            try:
                current = await self._own.objects.create(self._revisions, body, found["metadata"]["namespace"])
            except ApiError as error:
                if error.reason != "AlreadyExists":
                    raise
                return None, collisions + 1
        await self._forget(found, [each for each in history if each["metadata"]["uid"] != current["metadata"]["uid"]], pods)
        return current, collisions

    async def _forget(self, found: Object, past: Sequence[Object], pods: Sequence[Object]) -> None:
        """Revisions beyond the wanted length of the history that no pod is of."""
        used = {podfacts.labels_of(pod).get(daemons.HASH_LABEL) for pod in pods}
        idle = [each for each in past if podfacts.labels_of(each).get(daemons.HASH_LABEL) not in used]
        for each in idle[: max(0, len(idle) - found["spec"].get("revisionHistoryLimit", 10))]:
            await self._own.delete(self._revisions, each)


def _placing(node: Object) -> Object:
    """What of a node says whether daemons belong there."""
    spec = node.get("spec") or {}
    return {"labels": podfacts.labels_of(node), "taints": spec.get("taints"), "unschedulable": spec.get("unschedulable")}
