"""Container statuses: state, last state, readiness, counts (Kubernetes API, core/v1 ContainerStatus)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Final

from pinnace.core.base.contract.moments import moment
from pinnace.core.base.pod import Container, Object, Pod
from pinnace.core.base.runtime import Container as Instance
from pinnace.core.base.runtime import ContainerState
from pinnace.core.pods.rules.backoff import Trouble
from pinnace.core.pods.rules.observed import Observed, restart_count

LOST_EXIT_CODE: Final = 137
NO_EPHEMERAL: Final = "ephemeral containers are not supported by this node: use kubectl exec, or kubectl debug with --copy-to"
LOST: Final = "ContainerStatusUnknown"
_LOST_ENDED: Final = "The container could not be located when the pod was terminated"
_LOST_RUNNING: Final = "The container could not be located when the pod was deleted.  The container used to be Running"


@dataclass(frozen=True, slots=True)
class Words:
    """What a status says beyond the observed: `runtime` stands before :// in ids, `messages` are termination messages by instance,
    `waiting` reasons by container, `old` is the pod's last status."""

    runtime: str
    messages: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    waiting: Mapping[str, Trouble] = field(default_factory=lambda: MappingProxyType({}))
    old: Object = field(default_factory=dict)


def container_statuses(pod: Pod, seen: Observed, words: Words, *, is_terminal: bool = False) -> tuple[list[Object], list[Object]]:
    """(init containers', containers') in the order of the spec. `is_terminal`: nothing runs any more or will, so every container that began
    has ended."""
    old = {
        each.get("name", ""): each
        for part in ("initContainerStatuses", "containerStatuses")
        for each in words.old.get(part) or ()
        if isinstance(each, dict)
    }
    waits = "PodInitializing" if pod.init_containers else "ContainerCreating"
    both = []
    for containers in (pod.init_containers, pod.containers):
        statuses = [_status(each, seen, words, old.get(each.name) or {}, waits) for each in containers]
        both.append([_ended(each) for each in statuses] if is_terminal and containers is pod.containers else statuses)
    if is_terminal and any(not _never_began(each) for each in both[1]):
        both[0] = [_ended(each) for each in both[0]]
    return both[0], both[1]


def ephemeral_statuses(pod: Pod) -> list[Object]:
    """Of `kubectl debug`'s containers, which this node does not run: without a word it would wait for ever."""
    waiting = {"reason": "CreateContainerConfigError", "message": NO_EPHEMERAL}
    return [
        {"name": each["name"], "image": str(each.get("image") or ""), "imageID": "", "ready": False, "restartCount": 0,
         "state": {"waiting": waiting}, "lastState": {}}
        for each in pod.spec.get("ephemeralContainers") or () if isinstance(each, dict) and each.get("name")
    ]  # fmt: skip


def _status(container: Container, seen: Observed, words: Words, old: Object, waits: str) -> Object:
    instances = seen.instances.get(container.name) or ()
    status: Object = {
        "name": container.name,
        "image": container.image,
        "imageID": "",
        "ready": False,
        "started": False,
        "restartCount": int(old.get("restartCount") or 0),
        "state": {"waiting": {"reason": waits}},
        "lastState": {},
    }
    trouble = words.waiting.get(container.name)
    if instances:
        newest = instances[0]
        status |= {
            "image": newest.image_name or container.image,
            "imageID": newest.image_ref,
            "containerID": f"{words.runtime}://{newest.id}",
            "restartCount": restart_count(newest),
            "state": _state(newest, words, old, waits),
            "lastState": _last_state(instances, words, old),
        }
        _judge(status, container, newest, seen)
    elif old:
        _recall(status, old)
    if trouble is not None and trouble.reason and "running" not in status["state"]:
        if "terminated" in status["state"]:
            status["lastState"] = status["state"]
        status["state"] = {"waiting": _without_empty({"reason": trouble.reason, "message": trouble.message})}
        status["ready"] = status["started"] = False
    return status


def _judge(status: Object, container: Container, newest: Instance, seen: Observed) -> None:
    if newest.state is ContainerState.RUNNING:
        verdict = seen.verdict(newest)
        status["started"] = verdict.is_started
        status["ready"] = verdict.is_started and verdict.is_ready and (container.is_sidecar or not container.is_init)
    elif newest.state is ContainerState.EXITED and container.is_init and not container.is_sidecar:
        status["ready"] = newest.exit_code == 0


def _state(instance: Instance, words: Words, old: Object, waits: str) -> Object:
    match instance.state:
        case ContainerState.RUNNING:
            told = (old.get("state") or {}).get("running") if _is_same(old, instance, words.runtime) else None
            return {"running": told or {"startedAt": moment(instance.started_at)}}
        case ContainerState.EXITED:
            return {"terminated": _terminated(instance, words, old)}
        case ContainerState.CREATED:
            return {"waiting": {"reason": waits}}
        case ContainerState.UNKNOWN:
            return {"terminated": _lost(_LOST_ENDED) | {"containerID": f"{words.runtime}://{instance.id}"}}


def _terminated(instance: Instance, words: Words, old: Object) -> Object:
    identity = f"{words.runtime}://{instance.id}"
    message = words.messages.get(instance.id, "")
    if not message:
        for part in ("state", "lastState"):
            known = (old.get(part) or {}).get("terminated") or {}
            if known.get("containerID") == identity:
                message = str(known.get("message") or "")
    ended: Object = {
        "exitCode": instance.exit_code,
        "reason": instance.reason or ("Error" if instance.exit_code else "Completed"),
        "message": message or instance.message,
        "startedAt": moment(instance.started_at) if instance.started_at else None,
        "finishedAt": moment(instance.finished_at) if instance.finished_at else None,
        "containerID": identity,
    }
    return _without_empty(ended)


def _last_state(instances: tuple[Instance, ...], words: Words, old: Object) -> Object:
    """Of the instance before the newest; what the runtime has removed is remembered from the old status."""
    previous = next((each for each in instances[1:] if each.state is ContainerState.EXITED), None)
    if previous is not None:
        return {"terminated": _terminated(previous, words, old)}
    if _is_same(old, instances[0], words.runtime):
        return dict(old.get("lastState") or {})
    ended = (old.get("state") or {}).get("terminated")
    if ended is not None:
        return {"terminated": ended}
    return dict(old.get("lastState") or {})


def told_ends(status: Object) -> dict[str, int]:
    """By container: with which code it ended, as a pod's status tells; LOST_EXIT_CODE for what ran, if the runtime knows it no more."""
    ends = {}
    for each in status.get("containerStatuses") or ():
        if isinstance(each, dict) and each.get("name") and each.get("containerID"):
            state, last = each.get("state") or {}, (each.get("lastState") or {}).get("terminated") or {}
            if (ended := state.get("terminated")) is not None:
                ends[str(each["name"])] = int(ended.get("exitCode") or 0)
            elif state.get("running") is not None or last.get("message") == _LOST_RUNNING:
                ends[str(each["name"])] = LOST_EXIT_CODE
    return ends


def _recall(status: Object, old: Object) -> None:
    """The runtime knows no such container: what was told of it before counts on."""
    for name in ("image", "imageID", "containerID"):
        if old.get(name):
            status[name] = old[name]
    state = old.get("state") or {}
    if state.get("terminated") is not None:
        status["state"] = {"terminated": state["terminated"]}
        status["ready"] = bool(old.get("ready"))
        status["lastState"] = dict(old.get("lastState") or {})
    elif state.get("running") is not None:
        status["lastState"] = {"terminated": _lost(_LOST_RUNNING)}
    else:
        status["lastState"] = dict(old.get("lastState") or {})


def _ended(status: Object) -> Object:
    """As it stands when the pod has ended: lost, if nothing is known of its end."""
    state, last = status["state"], status["lastState"]
    if "terminated" in state:
        return status | {"started": False}
    ended = last.get("terminated") or _lost(_LOST_ENDED)
    return status | {"state": {"terminated": ended}, "lastState": {}, "ready": False, "started": False}


def _never_began(status: Object) -> bool:
    ended = status["state"].get("terminated") or {}
    return ended.get("reason") == LOST and not status.get("containerID")


def _lost(message: str) -> Object:
    return {"exitCode": LOST_EXIT_CODE, "reason": LOST, "message": message, "startedAt": None, "finishedAt": None}


def _is_same(old: Object, instance: Instance, runtime: str) -> bool:
    """Whether an old status is of this very instance."""
    return bool(old) and str(old.get("containerID", "")).endswith(f"{runtime}://{instance.id}")


def _without_empty(fields: Object) -> Object:
    return {name: value for name, value in fields.items() if value not in (None, "")}


def unix(moment_text: str, otherwise: float) -> float:
    """The inverse of `moment`; `otherwise` for what is no moment."""
    try:
        return datetime.fromisoformat(moment_text).timestamp()
    except ValueError:
        return otherwise
