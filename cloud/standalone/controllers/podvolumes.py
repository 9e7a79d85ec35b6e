"""What a pod's claims ask of its node, as far as the scheduler cares (Kubernetes API, PersistentVolumeClaim, VolumeNodeAffinity)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

from pinnace.cloud.standalone.controllers import matching
from pinnace.cloud.standalone.controllers.classes import Classes, waits_for_pod
from pinnace.cloud.standalone.controllers.owning import Owning
from pinnace.cloud.standalone.controllers.placing import REQUIRED
from pinnace.cloud.standalone.controllers.podfacts import ephemeral_claim, is_ending, not_made_for
from pinnace.cloud.standalone.state import Object
from pinnace.core.base.contract import scheduling


def reaches(volume: Object, labels: Object) -> bool:
    """Whether a node with these labels can have the volume."""
    required = (volume["spec"].get("nodeAffinity") or {}).get("required")
    spec = {"affinity": {"nodeAffinity": {REQUIRED: required}}}
    return not required or scheduling.selects_node(spec, labels, labels.get("kubernetes.io/hostname", ""))


class Wanted(NamedTuple):
    """`why` keeps the pod from every node, "" when nothing does. Its claims have the volumes `bound`; those of `open` get one of `volumes`
    once it is clear on which node."""

    why: str = ""
    bound: tuple[Object, ...] = ()
    open: tuple[Object, ...] = ()
    volumes: tuple[Object, ...] = ()

    def holds(self, labels: Object) -> str:
        """Why not a node with these labels, in Kubernetes' words; "" when it may be."""
        if not all(reaches(each, labels) for each in self.bound):
            return "node(s) had volume node affinity conflict"
        return "" if self.picks(labels) is not None else "node(s) didn't find available persistent volumes to bind"

    def picks(self, labels: Object) -> list[tuple[Object, Object]] | None:
        """(claim, volume) for all that are open, on a node with these labels; None when there are not enough volumes."""
        made: list[tuple[Object, Object]] = []
        left = {each["metadata"]["name"]: each for each in self.volumes}
        for claim in self.open:
            volume = matching.choose(claim, left.values(), reaches=lambda each: reaches(each, labels))
            if volume is None:
                return None
            made.append((claim, left.pop(volume["metadata"]["name"])))
        return made


class PodVolumes:
    """Looks at the claims, and takes volumes for those that wait for the pod's node."""

    def __init__(self, own: Owning) -> None:
        self._own = own
        self._claims, self._volumes = own.kind("persistentvolumeclaims"), own.kind("persistentvolumes")
        self._classes = Classes(own)

    def wanted(self, pod: Object) -> Wanted:
        bound: list[Object] = []
        unbound: dict[str, Object] = {}
        for volume in pod["spec"].get("volumes") or ():
            name = (volume.get("persistentVolumeClaim") or {}).get("claimName") or ephemeral_claim(pod, volume)
            if not name:
                continue
            claim = self._own.find(self._claims, name, pod["metadata"]["namespace"])
            why = _against(pod, volume, name, claim)
            if why or claim is None:
                return Wanted(why)
            found = self._own.find(self._volumes, claim["spec"].get("volumeName") or "")
            if (claim.get("status") or {}).get("phase") == "Bound" and found is not None:
                bound.append(found)
            elif not claim["spec"].get("volumeName") and waits_for_pod(self._classes.find(matching.class_of(claim))):
                unbound[name] = claim
            else:
                return Wanted("pod has unbound immediate PersistentVolumeClaims")
        volumes = tuple(item.decode() for item in self._own.items(self._volumes)) if unbound else ()
        return Wanted("", tuple(bound), tuple(sorted(unbound.values(), key=matching.requested)), volumes)

    async def take(self, picks: Iterable[tuple[Object, Object]]) -> None:
        """Keep these volumes for these claims; the binder does the rest. Raises ApiError 409 for one that is somebody else's by now."""
        for claim, volume in picks:
            await self._own.change(self._volumes, volume, partial(matching.given_to, claim=claim))


def _against(pod: Object, volume: Object, name: str, claim: Object | None) -> str:
    """Why a claim keeps its pod from every node."""
    if claim is None:
        waiting = "waiting for ephemeral volume controller to create the persistentvolumeclaim"
        return f'{waiting} "{name}"' if volume.get("ephemeral") else f'persistentvolumeclaim "{name}" not found'
    if is_ending(claim):
        return f'persistentvolumeclaim "{name}" is being deleted'
    if (claim.get("status") or {}).get("phase") == "Lost":
        lost = claim["spec"].get("volumeName") or ""
        return f'persistentvolumeclaim "{name}" bound to non-existent persistentvolume "{lost}"'
    return not_made_for(pod, claim) if volume.get("ephemeral") else ""
