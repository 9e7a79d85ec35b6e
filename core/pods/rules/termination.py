"""How a pod ends: how long its containers may take, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pinnace.core.base.pod import Container, Pod
from pinnace.core.base.runtime import Container as Instance
from pinnace.core.pods.rules.conditions import OWNED
from pinnace.core.pods.rules.reconcile import Why

MINIMUM_GRACE_SECONDS: Final = 2.0
"""What a container gets at least, so that a shell can take leave."""
_PROBES: Final = {Why.LIVENESS: "livenessProbe", Why.STARTUP: "startupProbe"}


def grace_seconds(pod: Pod, container: Container, why: Why) -> float:
    """How long one container may take to end, its preStop hook included; a probe's own grace counts for a probe's failure unless the pod
    is being deleted."""
    if (field := _PROBES.get(why)) is not None and not pod.is_deleting:
        own = (container.spec.get(field) or {}).get("terminationGracePeriodSeconds")
        if own is not None:
            return max(float(own), 0.0)
    return max(float(pod.grace_seconds), 0.0)


def stages(pod: Pod, running: Sequence[Instance]) -> list[list[Instance]]:
    """Who is ended after whom: all but sidecars at once, then sidecars one by one, last started first."""
    order = {each.name: index for index, each in enumerate(pod.init_containers) if each.is_sidecar}
    sidecars = sorted((each for each in running if each.name in order), key=lambda each: order[each.name], reverse=True)
    first = [each for each in running if each.name not in order]
    return [stage for stage in (first, *([each] for each in sidecars)) if stage]


def is_sooner(old: Pod, new: Pod) -> bool:
    """Whether an update makes the end come, or come sooner."""
    if not new.is_deleting:
        return False
    return not old.is_deleting or new.grace_seconds < old.grace_seconds


def is_news(old: Pod, new: Pod) -> bool:
    """Whether an update changes anything that the node acts upon; the echo of its own report does not."""
    names = ("labels", "annotations", "deletionTimestamp", "deletionGracePeriodSeconds")
    return old.spec != new.spec or any(old.metadata.get(name) != new.metadata.get(name) for name in names) or _gates(old) != _gates(new)


def _gates(pod: Pod) -> dict[str, str]:
    return {each.get("type", ""): each.get("status", "") for each in pod.status.get("conditions") or () if each.get("type") not in OWNED}
