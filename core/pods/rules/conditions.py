"""The five conditions a node answers for, and the readiness gates it only reads (Kubernetes API, core/v1 PodCondition)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pinnace.core.base.contract.moments import moment
from pinnace.core.base.pod import Object, Pod
from pinnace.core.pods.rules.phase import FAILED, SUCCEEDED

SCHEDULED: Final = "PodScheduled"
SANDBOXED: Final = "PodReadyToStartContainers"
INITIALIZED: Final = "Initialized"
CONTAINERS_READY: Final = "ContainersReady"
READY: Final = "Ready"
OWNED: Final = (SANDBOXED, INITIALIZED, READY, CONTAINERS_READY, SCHEDULED)

Found = tuple[bool, str, str]
"""Whether it holds; reason and message why not."""


def conditions(
    pod: Pod, init: Sequence[Object], main: Sequence[Object], phase: str, *, has_sandbox: bool, old: Sequence[Object], now: float
) -> list[Object]:
    """`old` are the last known ones: a transition's time changes with the status only, and what others set stays. `now` Unix seconds."""
    containers_ready = _containers_ready(pod, init, main, phase)
    found: dict[str, Found] = {
        SANDBOXED: (has_sandbox, "", ""),
        INITIALIZED: _initialized(pod, init, main, phase),
        READY: _ready(pod, containers_ready, old),
        CONTAINERS_READY: containers_ready,
        SCHEDULED: (True, "", ""),
    }
    before = {each.get("type", ""): each for each in old}
    own = [_condition(kind, found[kind], before.get(kind) or {}, now) for kind in OWNED]
    return [*own, *(each for kind, each in before.items() if kind not in found)]


def _condition(kind: str, found: Found, old: Object, now: float) -> Object:
    holds, reason, message = found
    status = "True" if holds else "False"
    since = old.get("lastTransitionTime") if old.get("status") == status else None
    condition: Object = {"type": kind, "status": status, "lastProbeTime": None, "lastTransitionTime": since or moment(now)}
    if reason:
        condition["reason"] = reason
    if message:
        condition["message"] = message
    return condition


def _initialized(pod: Pod, init: Sequence[Object], main: Sequence[Object], phase: str) -> Found:
    if phase == SUCCEEDED:
        return True, "PodCompleted", ""
    if any(each.get("started") or "waiting" not in each["state"] or each.get("lastState") for each in main) and phase != FAILED:
        return True, "", ""  # they would not have begun otherwise
    by_name = {each["name"]: each for each in init}
    missing = []
    for container in pod.init_containers:
        status = by_name.get(container.name) or {}
        is_done = status.get("started") if container.is_sidecar else status.get("ready")
        if not is_done and not (container.is_sidecar and phase == FAILED):
            missing.append(container.name)
    if missing:
        return False, "ContainersNotInitialized", f"containers with incomplete status: [{' '.join(missing)}]"
    return True, "", ""


def _containers_ready(pod: Pod, init: Sequence[Object], main: Sequence[Object], phase: str) -> Found:
    if phase == SUCCEEDED:
        return False, "PodCompleted", ""
    if phase == FAILED:
        return False, "PodFailed", ""
    statuses = {each["name"]: each for each in (*init, *main)}
    unknown, unready = [], []
    for container in pod.all_containers:
        if container.is_init and not container.is_sidecar:
            continue
        status = statuses.get(container.name)
        if status is None:
            unknown.append(container.name)
        elif not status["ready"]:
            unready.append(container.name)
    parts = [f"containers with {word} status: [{' '.join(names)}]" for word, names in (("unknown", unknown), ("unready", unready)) if names]
    return (False, "ContainersNotReady", ", ".join(parts)) if parts else (True, "", "")


def _ready(pod: Pod, containers_ready: Found, old: Sequence[Object]) -> Found:
    if not containers_ready[0]:
        return containers_ready
    if pod.is_deleting:
        return False, "PodTerminating", "the pod is being deleted"
    set_by_others = {each.get("type"): each.get("status") for each in old}
    open_gates = []
    for gate in pod.spec.get("readinessGates") or ():
        kind = gate.get("conditionType", "")
        if kind not in set_by_others:
            open_gates.append(f'corresponding condition of pod readiness gate "{kind}" does not exist.')
        elif set_by_others[kind] != "True":
            open_gates.append(f'the status of pod readiness gate "{kind}" is not "True", but {set_by_others[kind]}')
    return (False, "ReadinessGatesNotReady", ", ".join(open_gates)) if open_gates else (True, "", "")
