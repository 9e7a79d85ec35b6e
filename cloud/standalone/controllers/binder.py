"""Claims and persistent volumes find each other, and part (Kubernetes API, PersistentVolume, PersistentVolumeClaim).

A bond is written in four steps: the volume's claimRef and phase, the claim's volumeName and status. Each can be done again, so whoever dies
in between goes on from the objects. Nothing is provisioned, recycled or deleted on a disk. Who is in use is kept from going.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, NamedTuple

from pinnace.cloud.standalone.controllers import matching
from pinnace.cloud.standalone.controllers.classes import Classes, waits_for_pod
from pinnace.cloud.standalone.controllers.controller import Controller, Key
from pinnace.cloud.standalone.controllers.podfacts import claim_names, is_ending
from pinnace.cloud.standalone.defaults import CLAIM_PROTECTION, VOLUME_PROTECTION
from pinnace.cloud.standalone.deletion import Deletion
from pinnace.cloud.standalone.kinds import Kind
from pinnace.cloud.standalone.objects import Objects, now_text
from pinnace.cloud.standalone.state import Change, Item, Object, Table

REMINDER_SECONDS: Final = 300.0
"""Between two events that say why a claim waits: they last an hour."""
_PROVISIONED_BY: Final = "pv.kubernetes.io/provisioned-by"
_LOST: Final = "Data on the volume is lost!"

Why = tuple[str, str]
"""Reason and message of an event."""


class Told(NamedTuple):
    """What was last said of a claim that waits, and when."""

    why: Why | None
    at: float


NOTHING: Final = Told(None, 0.0)


class Binder(Controller):
    """Of claims and of volumes: a key without a namespace is a volume's."""

    def __init__(self, objects: Objects, deletion: Deletion, *, wall: Callable[[], float] = time.time) -> None:
        super().__init__(objects, deletion, "persistentvolume-controller", "persistentvolumeclaims", wall=wall)
        self._volumes = self._own.kind("persistentvolumes")
        self._classes = Classes(self._own)
        self._waiting: dict[Key, Told] = {}
        for item in self._own.items(self._volumes):
            self._rounds.touch(("", item.name))

    def _heard(self, table: Table, change: Change) -> None:
        super()._heard(table, change)
        if table.resource == self._kind.table:
            for item in self._own.items(self._volumes):
                if change.item.uid.encode() in item.body:
                    self._rounds.touch(("", item.name))

    def _changed(self, table: Table, change: Change) -> None:
        if table.resource == self._volumes.table:
            self._rounds.touch(("", change.item.name))
            for item in (change.item, change.previous):
                key = matching.claim_key(item.decode()) if item is not None else ("", "")
                for each in [key] if key[0] else list(self._waiting):
                    self._rounds.touch(each)
        elif table.resource == self._classes.kind.table:
            for each in list(self._waiting):
                self._rounds.touch(each)
        elif table.resource == self._pods.table and (change.type != "MODIFIED" or _is_placed(change.item, change.previous)):
            for name in claim_names(change.item.decode()):
                self._rounds.touch((change.item.namespace, name))

    async def _reconcile(self, key: Key) -> float | None:
        namespace, name = key
        if not namespace:
            await self._volume(name)
            return None
        told = self._waiting.pop(key, NOTHING)
        claim = self._own.find(self._kind, name, namespace)
        if claim is None:
            return None
        await self._guard(self._kind, claim, CLAIM_PROTECTION, lambda: any(pod["spec"].get("nodeName") for pod in self._users(claim)))
        if matching.annotation(claim, matching.BIND_COMPLETED):
            await self._bound(claim)
        elif not is_ending(claim):
            return await self._unbound(key, claim, told)
        return None

    def _users(self, claim: Object) -> list[Object]:
        """The pods that name a claim."""
        name = claim["metadata"]["name"]
        pods = (item.decode() for item in self._own.items(self._pods, claim["metadata"]["namespace"]))
        return [pod for pod in pods if name in claim_names(pod)]

    async def _guard(self, kind: Kind, obj: Object, finalizer: str, is_used: Callable[[], bool]) -> None:
        """Have the finalizer on what is not ending, and take it from what is and is not used."""
        if is_ending(obj):
            await self._own.objects.state.settled()  # a pod that is just being bound to a node counts
            if finalizer in (obj["metadata"].get("finalizers") or ()) and not is_used():
                await self._own.change(kind, obj, lambda each: _finalizers(each, lambda names: [one for one in names if one != finalizer]))
        elif finalizer not in (obj["metadata"].get("finalizers") or ()):
            await self._own.change(kind, obj, lambda each: _finalizers(each, lambda names: [*names, finalizer]))

    async def _bound(self, claim: Object) -> None:
        """A claim that was bound once: as it was, or lost."""
        name = claim["spec"].get("volumeName") or ""
        volume = self._own.find(self._volumes, name)
        if volume is None:
            await self._lose(claim, "ClaimLost", f"Bound claim has lost {'its' if name else 'reference to'} PersistentVolume. {_LOST}")
        elif volume["spec"].get("claimRef") and not matching.is_kept_for(volume, claim):
            await self._lose(claim, "ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly")
        else:
            await self._bind(claim, volume)

    async def _lose(self, claim: Object, reason: str, message: str) -> None:
        self._waiting[claim["metadata"]["namespace"], claim["metadata"]["name"]] = NOTHING  # for its volume to come back
        if (claim.get("status") or {}).get("phase") != "Lost":
            await self._own.status(self._kind, claim, _claim_status(claim, "Lost"))
            await self._own.say(claim, reason, message, is_warning=True)

    async def _unbound(self, key: Key, claim: Object, told: Told) -> float | None:
        if not claim["spec"].get("volumeName") and claim["spec"].get("storageClassName") is None:
            name = self._classes.default()
            if name:
                await self._own.change(self._kind, claim, lambda each: _of_class(each, name))
                return None  # the change makes another round
        volume, why = self._named(claim) if claim["spec"].get("volumeName") else self._chosen(claim)
        if volume is not None and not why:
            await self._bind(claim, volume)
            return None
        now = self._own.wall()
        is_news = why != told.why or now - told.at > REMINDER_SECONDS / 2
        self._waiting[key] = Told(why, now) if is_news else told  # before anything is awaited: a volume may come meanwhile
        await self._own.status(self._kind, claim, _claim_status(claim, "Pending"))
        if why and is_news:
            await self._own.say(claim, *why, is_warning=why[0] in {"VolumeMismatch", "ProvisioningFailed"} or volume is not None)
        return REMINDER_SECONDS

    def _named(self, claim: Object) -> tuple[Object | None, Why | None]:
        """The volume that a claim asks for by name, and why it does not get it."""
        name = claim["spec"]["volumeName"]
        volume = self._own.find(self._volumes, name)
        if volume is None or matching.is_kept_for(volume, claim):
            return volume, None
        if volume["spec"].get("claimRef"):
            return volume, ("FailedBinding", f'volume "{name}" already bound to a different claim.')
        reason = matching.mismatch(claim, volume)
        return volume, ("VolumeMismatch", f'Cannot bind to requested volume "{name}": {reason}') if reason else None

    def _chosen(self, claim: Object) -> tuple[Object | None, Why | None]:
        name = matching.class_of(claim)
        storage_class = self._classes.find(name)
        is_later = waits_for_pod(storage_class)
        found = matching.choose(claim, (item.decode() for item in self._own.items(self._volumes)), is_kept=is_later)
        if found is not None:
            return found, None
        if is_later:
            pods = sorted(pod["metadata"]["name"] for pod in self._users(claim) if not pod["spec"].get("nodeName"))
            if not pods:
                return None, ("WaitForFirstConsumer", "waiting for first consumer to be created before binding")
            return None, ("WaitForPodScheduled", f"waiting for pod{'s'[: len(pods) - 1]} {','.join(pods)} to be scheduled")
        if not name:
            return None, ("FailedBinding", "no persistent volumes available for this claim and no storage class is set")
        return None, self._classes.why_nothing_is_made(name)

    async def _bind(self, claim: Object, volume: Object) -> None:
        kept = await self._own.change(self._volumes, volume, lambda each: matching.given_to(each, claim))
        if kept is not None:
            await self._phase(kept, "Bound")
            bound = await self._own.change(self._kind, claim, lambda each: matching.bound_to(each, kept))
            if bound is not None:
                await self._own.status(self._kind, bound, _claim_status(bound, "Bound", kept["spec"]))

    async def _volume(self, name: str) -> None:
        volume = self._own.find(self._volumes, name)
        if volume is None:
            return
        phase = (volume.get("status") or {}).get("phase")
        uid = matching.claim_uid(volume)
        namespace, claim_name = matching.claim_key(volume)
        claim = self._own.find(self._kind, claim_name, namespace) if uid else None
        if not uid:
            phase = await self._phase(volume, "Available")
        elif claim is None or claim["metadata"]["uid"] != uid:
            phase = await self._release(volume)
        elif not claim["spec"].get("volumeName"):
            self._rounds.touch((namespace, claim_name))  # half of a bond
        elif claim["spec"]["volumeName"] == name:
            phase = await self._phase(volume, "Bound")
        else:
            volume = await self._own.change(self._volumes, volume, matching.taken_back) or volume
            phase = await self._phase(volume, "Available")
        await self._guard(self._volumes, volume, VOLUME_PROTECTION, lambda: phase == "Bound")

    async def _phase(self, volume: Object, phase: str, message: str = "") -> str:
        if (volume.get("status") or {}).get("phase") != phase:
            status = {"phase": phase, "lastPhaseTransitionTime": now_text(self._own.wall())}
            await self._own.status(self._volumes, volume, status | ({"message": message} if message else {}))
        return phase

    async def _release(self, volume: Object) -> str:
        """Its claim is gone. What is on it is kept; a policy that wants it otherwise has nobody here to carry it out."""
        name, policy = volume["metadata"]["name"], volume["spec"].get("persistentVolumeReclaimPolicy") or "Retain"
        if (volume.get("status") or {}).get("phase") == "Failed":
            return "Failed"
        if policy == "Retain" or matching.annotation(volume, _PROVISIONED_BY):
            return await self._phase(volume, "Released")
        reason = f"VolumeFailed{policy}"
        message = "No recycler plugin found for the volume!"
        if policy == "Delete":
            message = f'error getting deleter volume plugin for volume "{name}": no deletable volume plugin matched'
        await self._phase(volume, "Failed", message)
        await self._own.say(volume, reason, message, is_warning=True)
        return "Failed"


def _is_placed(item: Item, previous: Item | None) -> bool:
    """Whether a pod has just been given its node."""
    return previous is not None and b'"nodeName"' in item.body and b'"nodeName"' not in previous.body


def _finalizers(obj: Object, make: Callable[[list[str]], list[str]]) -> Object:
    obj["metadata"]["finalizers"] = make(list(obj["metadata"].get("finalizers") or ()))
    return obj


def _of_class(claim: Object, name: str) -> Object:
    if claim["spec"].get("storageClassName") is None:
        claim["spec"]["storageClassName"] = name
    return claim


def _claim_status(claim: Object, phase: str, volume: Object | None = None) -> Object:
    """A claim's status; `volume` is the spec of the one it is bound to."""
    kept = {part: value for part, value in (claim.get("status") or {}).items() if part not in {"phase", "accessModes", "capacity"}}
    if volume is not None:
        kept |= {"accessModes": volume.get("accessModes") or [], "capacity": volume.get("capacity") or {}}
    return {"phase": phase, **kept}
