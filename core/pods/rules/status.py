"""A pod's whole status, and the patch by which the API's picture of it becomes ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from pinnace.core.base.contract.moments import moment
from pinnace.core.base.pod import Object, Pod
from pinnace.core.base.runtime import SandboxState
from pinnace.core.pods.rules.conditions import OWNED, conditions
from pinnace.core.pods.rules.observed import Observed
from pinnace.core.pods.rules.phase import FAILED, RUNNING, TERMINAL, phase
from pinnace.core.pods.rules.qos import qos_class
from pinnace.core.pods.rules.statuses import Words, container_statuses, ephemeral_statuses

DEADLINE: Final = "DeadlineExceeded"
_OWN_FIELDS: Final = (
    "phase", "reason", "message", "hostIP", "hostIPs", "podIP", "podIPs", "startTime", "qosClass", "initContainerStatuses",
    "containerStatuses", "ephemeralContainerStatuses",
)  # fmt: skip
_MERGED: Final = ("podIPs", "hostIPs")
"""Lists that a strategic merge patch merges by `ip`."""


class Ending(NamedTuple):
    """Why a pod is ended from here: status.reason and status.message of a Failed one (Evicted, DeadlineExceeded, ...)."""

    reason: str
    message: str


def pod_status(
    pod: Pod,
    seen: Observed,
    words: Words,
    *,
    host_ips: Sequence[str],
    now: float,
    ending: Ending | None = None,
    is_terminal: bool = False,
    goes_on: bool = False,
) -> Object:
    """The status of a pod that the node has taken. `now` Unix seconds.

    `words.old` is the last one told (here or by the API): a terminal phase in it stays. `is_terminal`: all has ended and nothing is
    started again. `goes_on`: something of it is about to be started.
    """
    old = words.old
    init, main = container_statuses(pod, seen, words, is_terminal=is_terminal)
    stands = str(old.get("phase") or "")
    reason, message = "", ""
    if stands in TERMINAL:
        current, reason, message = stands, str(old.get("reason") or ""), str(old.get("message") or "")
    elif ending is not None:
        current, reason, message = FAILED, ending.reason, ending.message
    else:
        current = phase(pod, init, main, is_terminal=is_terminal)
        if goes_on and current in TERMINAL:
            current = RUNNING
    sandbox = seen.sandbox
    is_ready = sandbox is not None and sandbox.state is SandboxState.READY and (pod.host_network or bool(sandbox.ips))
    status: Object = {
        "phase": current,
        "conditions": conditions(pod, init, main, current, has_sandbox=is_ready, old=old.get("conditions") or (), now=now),
        "qosClass": _qos(pod),
        "startTime": old.get("startTime") or moment(now),
        "containerStatuses": main,
    }
    if init:
        status["initContainerStatuses"] = init
    if ephemeral := ephemeral_statuses(pod):
        status["ephemeralContainerStatuses"] = ephemeral
    if reason:
        status["reason"] = reason
    if message:
        status["message"] = message
    _addresses(status, "host", host_ips)
    if is_ready and sandbox is not None:
        _addresses(status, "pod", host_ips if pod.host_network else sandbox.ips)
    elif current in TERMINAL or is_terminal:
        _addresses(status, "pod", [each.get("ip", "") for each in old.get("podIPs") or ()])
    return status


def remembered(own: Object, api: Object) -> Object:
    """The last status told: `own`, with the conditions that others set in `api`; all of `api` when there is none of our own."""
    if not own:
        return api
    foreign = [each for each in api.get("conditions") or () if isinstance(each, dict) and each.get("type") not in OWNED]
    mine = [each for each in own.get("conditions") or () if each.get("type") in OWNED]
    return {**own, "conditions": [*mine, *foreign]}


def begins_anew(pod: Pod, status: Object) -> bool:
    """Whether the last status binds nobody when the agent starts again: a static pod that the node refused or ended is still wanted by its
    file, and no controller makes another one."""
    return pod.is_static and status.get("phase") == FAILED and status.get("reason") not in (None, "", DEADLINE)


def refused_status(pod: Pod, ending: Ending, *, now: float) -> Object:
    """The status of a pod that the node does not take; nothing of it ever runs here."""
    status: Object = {
        "phase": FAILED,
        "reason": ending.reason,
        "message": ending.message,
        "startTime": moment(now),
        "qosClass": _qos(pod),
    }
    if kept := pod.status.get("conditions"):
        status["conditions"] = kept
    return status


def status_patch(uid: str, known: Object, status: Object, *, is_sure: bool) -> Object | None:
    """The strategic merge patch (Kubernetes API) that makes `known`, the API's status as far as known, ours; None when there is nothing to
    say. `is_sure`: `known` is what the API answered; otherwise it may have more than we know of, and what we do not say is taken away.
    Conditions that others own are never mentioned."""
    changes: Object = {}
    for name in _OWN_FIELDS:
        if name in status:
            if not _is_same(known.get(name), status[name]):
                changes[name] = _merged(known.get(name), status[name]) if name in _MERGED else status[name]
        elif known.get(name) or (not is_sure and name in ("reason", "message")):
            changes[name] = None
    before = {each.get("type"): each for each in known.get("conditions") or () if isinstance(each, dict)}
    told = []
    for each in status.get("conditions") or ():
        old = before.get(each.get("type"), {})
        if each.get("type") not in OWNED or _same_condition(each, old):
            continue
        told.append(each | {name: None for name in ("reason", "message") if name not in each and (name in old or not is_sure)})
    if told:
        changes["conditions"] = told
    if not {name for name, value in changes.items() if value is not None or name in known}:
        return None
    return {"metadata": {"uid": uid}, "status": changes}


def _is_same(one: Any, other: Any) -> bool:
    """Equal but for fields that say nothing, which the API leaves out."""
    return bool(_spoken(one) == _spoken(other))


def _spoken(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: said for name, each in value.items() if (said := _spoken(each)) not in (None, "", {}, [])}
    return [_spoken(each) for each in value] if isinstance(value, list) else value


def _same_condition(one: Object, other: Object) -> bool:
    names = ("status", "reason", "message", "lastTransitionTime")
    return bool(other) and all((one.get(name) or None) == (other.get(name) or None) for name in names)


def _merged(known: Any, wanted: list[Object]) -> list[Object]:
    addresses = {each["ip"] for each in wanted}
    stale = [each["ip"] for each in known or () if isinstance(each, dict) and "ip" in each and each["ip"] not in addresses]
    return [*wanted, *({"$patch": "delete", "ip": each} for each in stale)]


def _addresses(status: Object, whose: str, ips: Sequence[str]) -> None:
    known = [each for each in ips if each]
    if known:
        status[f"{whose}IP"] = known[0]
        status[f"{whose}IPs"] = [{"ip": each} for each in known]


def _qos(pod: Pod) -> str:
    try:
        return qos_class(pod).value
    except ValueError:
        return str(pod.status.get("qosClass") or "Burstable")  # a text that is no quantity: the pod cannot start, and says why elsewhere
