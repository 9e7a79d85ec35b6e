"""The claims behind pods' generic ephemeral volumes: made for the pod, gone with it (Kubernetes API, core/v1 EphemeralVolumeSource)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import orjson

from pinnace.cloud.standalone.controllers.controller import Controller, Key
from pinnace.cloud.standalone.controllers.owning import owner_names
from pinnace.cloud.standalone.controllers.podfacts import ephemeral_claim, has_ended, is_ending, not_made_for, reference_to
from pinnace.cloud.standalone.deletion import Deletion
from pinnace.cloud.standalone.objects import Objects
from pinnace.cloud.standalone.state import Change, Object, Table
from pinnace.cloud.standalone.status import ApiError

AGAIN_SECONDS: Final = 30.0
"""Until a pod is looked at again that somebody else's claim stands in the way of."""


class Ephemerals(Controller):
    """Of pods."""

    def __init__(self, objects: Objects, deletion: Deletion, *, wall: Callable[[], float] = time.time) -> None:
        super().__init__(objects, deletion, "ephemeral-volume-controller", "pods", wall=wall)
        self._claims = self._own.kind("persistentvolumeclaims")

    def _heard(self, table: Table, change: Change) -> None:
        if table.resource != self._kind.table or (change.type == "ADDED" and b'"ephemeral":' in change.item.body):
            super()._heard(table, change)

    def _changed(self, table: Table, change: Change) -> None:
        if table.resource == self._claims.table and change.type == "DELETED":
            for each in owner_names((change.item,), self._kind):
                self._rounds.touch(each)

    async def _reconcile(self, key: Key) -> float | None:
        namespace, name = key
        pod = self._own.find(self._kind, name, namespace)
        if pod is None or is_ending(pod) or has_ended(pod):
            return None
        again = None
        for volume in pod["spec"].get("volumes") or ():
            if volume.get("ephemeral"):
                claim = self._own.find(self._claims, ephemeral_claim(pod, volume), namespace)
                if claim is None:
                    await self._make(pod, volume)
                elif why := not_made_for(pod, claim):
                    await self._own.say(pod, "FailedBinding", f"ephemeral volume {volume['name']}: {why}", is_warning=True)
                    again = AGAIN_SECONDS
        return again

    async def _make(self, pod: Object, volume: Object) -> None:
        template: Object = orjson.loads(orjson.dumps(volume["ephemeral"].get("volumeClaimTemplate") or {}))
        given = template.get("metadata") or {}
        metadata = {part: given[part] for part in ("labels", "annotations") if given.get(part)}
        metadata |= {"name": ephemeral_claim(pod, volume), "ownerReferences": [reference_to(pod, self._kind)]}
        try:
            await self._own.objects.create(
                self._claims, {"metadata": metadata, "spec": template.get("spec") or {}}, pod["metadata"]["namespace"]
            )
        except ApiError as error:
            await self._own.say(pod, "FailedBinding", f"ephemeral volume {volume['name']}: {error.message}", is_warning=True)
            raise
