"""Which persistent volume a claim gets, and how the two say so. Pure (Kubernetes API, PersistentVolume, PersistentVolumeClaim).

A volume is *kept for* a claim that its claimRef names, by uid, or by name alone while there is no uid: whoever wrote that chose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from pinnace.cloud.standalone.controllers.podfacts import is_ending, labels_of, selects
from pinnace.cloud.standalone.state import Object
from pinnace.cloud.standalone.status import conflict
from pinnace.core.base.contract.quantities import whole

BOUND_BY_CONTROLLER: Final = "pv.kubernetes.io/bound-by-controller"
BIND_COMPLETED: Final = "pv.kubernetes.io/bind-completed"


def annotation(obj: Object, name: str) -> str:
    return str((obj["metadata"].get("annotations") or {}).get(name, ""))


def class_of(obj: Object) -> str:
    """The storage class of a claim or a volume; none and "" are the same."""
    return str((obj.get("spec") or {}).get("storageClassName") or "")


def claim_key(volume: Object) -> tuple[str, str]:
    """(namespace, name) of the claim that a volume's claimRef names, ("", "") for none."""
    reference = volume["spec"].get("claimRef") or {}
    return reference.get("namespace") or "", reference.get("name") or ""


def claim_uid(volume: Object) -> str:
    return str((volume["spec"].get("claimRef") or {}).get("uid") or "")


def is_kept_for(volume: Object, claim: Object) -> bool:
    metadata = claim["metadata"]
    return claim_key(volume) == (metadata["namespace"], metadata["name"]) and claim_uid(volume) in {"", metadata["uid"]}


def requested(claim: Object) -> int:
    """Bytes."""
    return whole(_storage((claim["spec"].get("resources") or {}).get("requests")))


def mismatch(claim: Object, volume: Object) -> str:
    """Why a volume is none that the claim asks for, its selector aside, in Kubernetes' words; "" when it is one."""
    asked, has = claim["spec"], volume["spec"]
    if _capacity(volume) < requested(claim):
        return "requested PV is too small"
    if class_of(claim) != class_of(volume):
        return "storageClassName does not match"
    if (asked.get("volumeAttributesClassName") or "") != (has.get("volumeAttributesClassName") or ""):
        return "volumeAttributesClassName does not match"
    return _unusable(claim, volume)


def _unusable(claim: Object, volume: Object) -> str:
    asked, has = claim["spec"], volume["spec"]
    if (asked.get("volumeMode") or "Filesystem") != (has.get("volumeMode") or "Filesystem"):
        return "incompatible volumeMode"
    return "" if set(asked.get("accessModes") or ()) <= set(has.get("accessModes") or ()) else "incompatible accessMode"


def choose(
    claim: Object, volumes: Iterable[Object], *, is_kept: bool = False, reaches: Callable[[Object], bool] = lambda _: True
) -> Object | None:
    """The volume for a claim that names none: one that is kept for it, else of the free ones that fit the one with the fewest access
    modes, then the smallest. With `is_kept` only the former; only such as `reaches` says yes to (a node can have them)."""
    free: list[Object] = []
    size, selector = requested(claim), claim["spec"].get("selector")
    for volume in volumes:
        if is_ending(volume) or _capacity(volume) < size or _unusable(claim, volume):
            continue
        if volume["spec"].get("claimRef"):
            if is_kept_for(volume, claim):
                return volume if reaches(volume) else None
        elif not is_kept and not mismatch(claim, volume) and (selector is None or selects(selector, labels_of(volume))) and reaches(volume):
            free.append(volume)
    return min(free, key=_closeness, default=None)


def _closeness(volume: Object) -> tuple[Any, ...]:
    return len(volume["spec"].get("accessModes") or ()), _capacity(volume), volume["metadata"]["name"]


def _capacity(volume: Object) -> int:
    return whole(_storage(volume["spec"].get("capacity")))


def _storage(amounts: Object | None) -> str:
    return str((amounts or {}).get("storage") or "0")


def given_to(volume: Object, claim: Object) -> Object:
    """The volume, bound to the claim. Raises ApiError 409 when it is another's by now."""
    metadata = claim["metadata"]
    if not volume["spec"].get("claimRef"):
        volume["metadata"]["annotations"] = {**(volume["metadata"].get("annotations") or {}), BOUND_BY_CONTROLLER: "yes"}
    elif not is_kept_for(volume, claim):
        raise conflict("", "persistentvolumes", volume["metadata"]["name"], "it is bound to another claim by now")
    if claim_uid(volume) != metadata["uid"]:
        volume["spec"]["claimRef"] = {"apiVersion": claim["apiVersion"], "kind": claim["kind"]} | {
            part: metadata[part] for part in ("namespace", "name", "uid", "resourceVersion")
        }
    return volume


def taken_back(volume: Object) -> Object:
    """The volume, free again; one that a person had kept for a claim's name stays so."""
    annotations = dict(volume["metadata"].get("annotations") or {})
    if annotations.pop(BOUND_BY_CONTROLLER, None) is not None:
        volume["spec"].pop("claimRef", None)
    else:
        volume["spec"]["claimRef"].pop("uid", None)
    volume["metadata"]["annotations"] = annotations
    return volume


def bound_to(claim: Object, volume: Object) -> Object:
    """The claim, bound to the volume. Raises ApiError 409 when it is another's by now."""
    name, annotations = volume["metadata"]["name"], dict(claim["metadata"].get("annotations") or {})
    if not claim["spec"].get("volumeName"):
        claim["spec"]["volumeName"] = name
        annotations[BOUND_BY_CONTROLLER] = "yes"
    elif claim["spec"]["volumeName"] != name:
        raise conflict("", "persistentvolumeclaims", claim["metadata"]["name"], "it asks for another volume by now")
    claim["metadata"]["annotations"] = annotations | {BIND_COMPLETED: "yes"}
    return claim
