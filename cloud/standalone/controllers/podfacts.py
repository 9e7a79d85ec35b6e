"""What the controllers want to know of a pod, and of who owns it. Pure (Kubernetes API, core/v1 Pod, meta/v1 OwnerReference)."""

from __future__ import annotations

import calendar
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pinnace.cloud.standalone.kinds import Kind
from pinnace.cloud.standalone.state import Object
from pinnace.core.base.contract.scheduling import matches_requirement

ENDED = frozenset({"Succeeded", "Failed"})


def moment(text: Any) -> float:
    """A time of the API in Unix seconds, 0 for none."""
    try:
        whole, _, fraction = str(text or "").rstrip("Z").partition(".")
        return calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) + (float(f"0.{fraction}") if fraction else 0.0)
    except ValueError:
        return 0.0


def selects(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Whether a label selector object matches; none matches nothing, an empty one everything."""
    if selector is None:
        return False
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(matches_requirement(each, labels) for each in selector.get("matchExpressions") or ())


def labels_of(obj: Object) -> dict[str, str]:
    return obj["metadata"].get("labels") or {}


def is_ending(obj: Object) -> bool:
    return "deletionTimestamp" in obj["metadata"]


def condition(obj: Object, kind: str) -> Object:
    """A condition of an object's status by its type, empty when there is none."""
    found: Object = next((each for each in (obj.get("status") or {}).get("conditions") or () if each.get("type") == kind), {})
    return found


def has_ended(pod: Object) -> bool:
    return (pod.get("status") or {}).get("phase") in ENDED


def is_active(pod: Object) -> bool:
    """Whether a pod counts as a replica: it has not ended and need not end."""
    return not has_ended(pod) and not is_ending(pod)


def is_ready(pod: Object) -> bool:
    return condition(pod, "Ready").get("status") == "True"


def available_in(pod: Object, min_ready_seconds: int, now: float) -> float | None:
    """Seconds until a pod counts as available, 0 when it is, None while it is not ready."""
    if not is_ready(pod):
        return None
    since = moment(condition(pod, "Ready").get("lastTransitionTime"))
    return max(0.0, since + min_ready_seconds - now) if min_ready_seconds and since else 0.0


def ephemeral_claim(pod: Object, volume: Object) -> str:
    """The name of the claim behind a generic ephemeral volume, "" for another volume."""
    return f"{pod['metadata']['name']}-{volume['name']}" if volume.get("ephemeral") else ""


def claim_names(pod: Object) -> set[str]:
    """The claims behind a pod's volumes."""
    named = ((volume, (volume.get("persistentVolumeClaim") or {}).get("claimName")) for volume in pod["spec"].get("volumes") or ())
    return {name or ephemeral_claim(pod, volume) for volume, name in named} - {""}


def not_made_for(pod: Object, claim: Object) -> str:
    """What is said of a claim that has an ephemeral volume's name and is not of its pod, "" when it is."""
    reference, where = controller_of(claim), claim["metadata"]["namespace"]
    if reference is not None and reference.get("uid") == pod["metadata"]["uid"]:
        return ""
    return f"PVC {where}/{claim['metadata']['name']} was not created for pod {where}/{pod['metadata']['name']} (pod is not owner)"


def controller_of(obj: Object) -> Object | None:
    """The owner reference of the controller that manages an object."""
    return next((each for each in obj["metadata"].get("ownerReferences") or () if each.get("controller")), None)


def reference_to(owner: Object, kind: Kind) -> Object:
    """An owner reference that makes `owner` the controller."""
    return {
        "apiVersion": kind.api_version, "kind": kind.kind, "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"],
        "controller": True, "blockOwnerDeletion": True,
    }  # fmt: skip


class Claim(NamedTuple):
    """Objects by what is to be done about their owner: `own` are this owner's, `adopt` should become so, `release` no longer be."""

    own: list[Object]
    adopt: list[Object]
    release: list[Object]


def claim(owner: Object, objects: Iterable[Object]) -> Claim:
    """Sort out which objects belong to an owner, by its selector and their controller references."""
    selector, uid = owner["spec"].get("selector"), owner["metadata"]["uid"]
    found = Claim([], [], [])
    for obj in objects:
        reference = controller_of(obj)
        matches = selects(selector, labels_of(obj))
        if reference is not None:
            if reference.get("uid") == uid:
                is_kept = matches or is_ending(owner) or is_ending(obj)
                (found.own if is_kept else found.release).append(obj)
        elif matches and not is_ending(owner) and not is_ending(obj):
            found.adopt.append(obj)
    return found


def share(value: Any, total: int, *, up: bool) -> int:
    """A count that may be a percentage (`25%`) of `total`, rounded up or down."""
    text = str(value if value is not None else 0)
    if not text.endswith("%"):
        return int(text) if text.isdecimal() else 0
    percent = int(text[:-1]) if text[:-1].isdecimal() else 0
    return -(-percent * total // 100) if up else percent * total // 100
