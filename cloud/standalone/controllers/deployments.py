"""Deployments: a ReplicaSet for each template, moved from one to the next as `rollouts` says (Kubernetes API, apps/v1 Deployment)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import orjson

from pinnace.cloud.standalone.controllers import podfacts, rollouts
from pinnace.cloud.standalone.controllers.controller import Controller, Key
from pinnace.cloud.standalone.controllers.owning import owner_names
from pinnace.cloud.standalone.deletion import Deletion
from pinnace.cloud.standalone.objects import Objects, equal, now_text
from pinnace.cloud.standalone.state import Change, Object, Table
from pinnace.cloud.standalone.status import ApiError


class _Renewed(NamedTuple):
    """The ReplicaSet of the present template, None when another one has its name; how often that was so; and how a rollout began, "" when
    none did (CREATED, FOUND)."""

    new: Object | None
    collisions: int
    begun: str = ""


class Deployments(Controller):
    """The controller."""

    def __init__(self, objects: Objects, deletion: Deletion, *, wall: Callable[[], float] = time.time) -> None:
        super().__init__(objects, deletion, "deployment-controller", "deployments", "apps", wall=wall)
        self._sets = self._own.kind("replicasets", "apps")

    def _changed(self, table: Table, change: Change) -> None:
        if table.resource == self._sets.table:
            self._touch_owners(change)
        elif table.resource == self._pods.table and change.type == "DELETED":  # what Recreate waits for
            for namespace, name in owner_names((change.item,), self._sets):
                owner = self._own.objects.state.table(self._sets.table).get(namespace, name)
                for each in owner_names((owner,), self._kind):
                    self._rounds.touch(each)

    async def _reconcile(self, key: Key) -> float | None:
        namespace, name = key
        found = self._own.find(self._kind, name, namespace)
        if found is None:
            return None
        sets = await self._own.claimed(found, self._kind, self._sets)
        collisions = (found.get("status") or {}).get("collisionCount", 0)
        new, begun = rollouts.newest(found, sets), ""
        if not podfacts.is_ending(found):
            is_paused, is_scaling = bool(found["spec"].get("paused")), rollouts.is_scaling(found, sets)
            if not is_paused and not is_scaling:
                new, collisions, begun = await self._renewed(found, new, sets, collisions)
                sets = [*self._others(sets, new), *([new] if new else [])]
            old = self._others(sets, new)
            if is_paused or is_scaling:
                await self._scale(found, sets, rollouts.scaled(found, new, old))
            elif new is not None and (found["spec"].get("strategy") or {}).get("type") == "Recreate":
                await self._scale(found, sets, self._recreated(found, new, old))
            elif new is not None:
                await self._scale(found, sets, rollouts.rolled(found, new, old))
            if is_paused or rollouts.is_complete(found, new, old):  # before that an empty ReplicaSet may still have pods that end
                for each in rollouts.surplus(found, old):
                    await self._own.delete(self._sets, each)
        sets = [fresh for each in sets if (fresh := self._own.find(self._sets, each["metadata"]["name"], namespace)) is not None]
        new = rollouts.newest(found, sets)
        wall = self._own.wall()
        status = rollouts.status_of(found, new, self._others(sets, new), collisions, wall=wall, now=now_text(wall), begun=begun)
        await self._own.status(self._kind, found, status)
        return rollouts.look_again(found, status, wall)

    @staticmethod
    def _others(sets: Sequence[Object], new: Object | None) -> list[Object]:
        return [each for each in sets if new is None or each["metadata"]["uid"] != new["metadata"]["uid"]]

    async def _renewed(self, found: Object, new: Object | None, sets: Sequence[Object], collisions: int) -> _Renewed:
        """The ReplicaSet of the present template, made or brought up to date; the deployment gets its revision."""
        begun = ""
        annotations = rollouts.new_annotations(found, new, self._others(sets, new))
        if new is None:
            new, collisions, begun = made = await self._made(found, sets, annotations, collisions)
            if new is None:
                return made
        elif not equal(rollouts.annotations_of(new), annotations) or (
            (new["spec"].get("minReadySeconds") or 0) != (found["spec"].get("minReadySeconds") or 0)
        ):
            ready = found["spec"].get("minReadySeconds") or 0
            if rollouts.annotations_of(new).get(rollouts.REVISION) != annotations[rollouts.REVISION]:
                begun = rollouts.FOUND  # one of the past is the present one again

            def updated(old: Object) -> Object:
                old["metadata"]["annotations"] = annotations
                old["spec"].pop("minReadySeconds", None)
                if ready:
                    old["spec"]["minReadySeconds"] = ready
                return old

            new = (await self._own.objects.change(self._sets, new["metadata"]["name"], new["metadata"]["namespace"], updated)).obj
        revision = rollouts.annotations_of(new).get(rollouts.REVISION, "")
        if rollouts.annotations_of(found).get(rollouts.REVISION) != revision:

            def revised(old: Object) -> Object:
                old["metadata"]["annotations"] = {**rollouts.annotations_of(old), rollouts.REVISION: revision}
                return old

            await self._own.objects.change(self._kind, found["metadata"]["name"], found["metadata"]["namespace"], revised)
        return _Renewed(new, collisions, begun)

    async def _made(self, found: Object, old: Sequence[Object], annotations: dict[str, str], collisions: int) -> _Renewed:
        spec, namespace = found["spec"], found["metadata"]["namespace"]
        template: Any = orjson.loads(orjson.dumps(spec["template"]))
        short = rollouts.template_hash(template, collisions)
        template.setdefault("metadata", {}).setdefault("labels", {})[rollouts.HASH_LABEL] = short
        selector = {**spec["selector"], "matchLabels": {**(spec["selector"].get("matchLabels") or {}), rollouts.HASH_LABEL: short}}
        wanted = int(spec.get("replicas", 1))
        is_rolling = (spec.get("strategy") or {}).get("type") != "Recreate"
        room = max(0, rollouts.most(found) - sum(map(rollouts.replicas, old)))
        first = min(wanted, room) if is_rolling else 0
        name = f"{found['metadata']['name']}-{short}"
        body: Object = {
            "metadata": {
                "name": name, "labels": dict(template["metadata"]["labels"]), "annotations": annotations,
                "ownerReferences": [podfacts.reference_to(found, self._kind)],
            },
            "spec": {"replicas": first, "selector": selector, "template": template},
        }  # fmt: skip
        if spec.get("minReadySeconds"):
            body["spec"]["minReadySeconds"] = spec["minReadySeconds"]
        try:
            made = await self._own.objects.create(self._sets, body, namespace)
        except ApiError as error:
            known = self._own.find(self._sets, name, namespace)
            if error.reason != "AlreadyExists" or known is None:
                raise
            owner = podfacts.controller_of(known) or {}
            if owner.get("uid") != found["metadata"]["uid"] or not rollouts.same_template(known["spec"]["template"], spec["template"]):
                return _Renewed(None, collisions + 1)  # somebody else's, or one that was edited: the next round tries another name
            return _Renewed(known, collisions)
        if first:
            await self._say(found, made, 0, first)
        return _Renewed(made, collisions, rollouts.CREATED)

    def _recreated(self, found: Object, new: Object, old: Sequence[Object]) -> rollouts.Targets:
        """All of the old, then all of the new: nothing new while a pod of the old is still there, ending or not."""
        active = {each["metadata"]["uid"]: 0 for each in old if rollouts.replicas(each)}
        if active:
            return active
        uids = [each["metadata"]["uid"].encode() for each in old]
        left = (item for item in self._own.items(self._pods, found["metadata"]["namespace"]) if any(uid in item.body for uid in uids))
        if any(not podfacts.has_ended(item.decode()) for item in left):
            return {}
        return {new["metadata"]["uid"]: int(found["spec"].get("replicas", 1))}

    async def _scale(self, found: Object, sets: Sequence[Object], targets: rollouts.Targets) -> None:
        """Give ReplicaSets their numbers, and note on each what it was reckoned for."""
        sizes = rollouts.sized(found)
        for each in sets:
            target = targets.get(each["metadata"]["uid"], rollouts.replicas(each))
            before = rollouts.replicas(each)
            is_told = (not target and not before) or sizes.items() <= rollouts.annotations_of(each).items()
            if target == before and is_told:
                continue

            def resized(old: Object, target: int = target) -> Object:
                old["spec"]["replicas"] = target
                old["metadata"]["annotations"] = {**rollouts.annotations_of(old), **sizes}
                return old

            await self._own.objects.change(self._sets, each["metadata"]["name"], each["metadata"]["namespace"], resized)
            if target != before:
                await self._say(found, each, before, target)

    async def _say(self, found: Object, replica_set: Object, before: int, after: int) -> None:
        way = "up" if after > before else "down"
        message = f"Scaled {way} replica set {replica_set['metadata']['name']} from {before} to {after}"
        await self._own.say(found, "ScalingReplicaSet", message)
