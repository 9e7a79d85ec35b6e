"""A pod's phase, from the statuses of its containers (Kubernetes API, core/v1 PodPhase)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import Enum
from typing import Final

from pinnace.core.base.pod import Object, Pod, RestartPolicy

PENDING: Final = "Pending"
RUNNING: Final = "Running"
SUCCEEDED: Final = "Succeeded"
FAILED: Final = "Failed"
TERMINAL: Final = frozenset({SUCCEEDED, FAILED})


class _Is(Enum):
    WAITING = 1
    RUNNING = 2
    SUCCEEDED = 3
    FAILED = 4
    UNKNOWN = 5


def phase(pod: Pod, init: Sequence[Object], main: Sequence[Object], *, is_terminal: bool) -> str:
    """`init` and `main` are the container statuses. `is_terminal`: all has ended and nothing is started again."""
    began = {each.get("name"): _look(each) for each in init}
    has_begun = any(each.get("started") or "waiting" not in (each.get("state") or {}) or each.get("lastState") for each in main)
    is_pending = False
    for container in pod.init_containers:
        how = began.get(container.name, _Is.WAITING)
        if container.is_sidecar:
            status = next((each for each in init if each.get("name") == container.name), {})
            is_pending |= not has_begun and not status.get("started")
        elif how is _Is.FAILED and pod.restart_policy is RestartPolicy.NEVER:
            return FAILED
        elif how is not _Is.SUCCEEDED:
            is_pending |= not has_begun
    by_name = {each.get("name"): each for each in main}
    count = Counter(_look(by_name.get(each.name, {})) for each in pod.containers)
    stopped = count[_Is.SUCCEEDED] + count[_Is.FAILED]
    if is_terminal and not count[_Is.RUNNING]:
        return SUCCEEDED if stopped == count[_Is.SUCCEEDED] == len(pod.containers) else FAILED
    if is_pending or count[_Is.WAITING] or count[_Is.UNKNOWN]:
        return PENDING
    if count[_Is.RUNNING] or pod.restart_policy is RestartPolicy.ALWAYS:
        return RUNNING
    if not count[_Is.FAILED]:
        return SUCCEEDED
    return FAILED if pod.restart_policy is RestartPolicy.NEVER else RUNNING


def _look(status: Object) -> _Is:
    """One container; what waits after it ended counts as ended."""
    state = status.get("state") or {}
    if state.get("running") is not None:
        return _Is.RUNNING
    ended = state.get("terminated") or (status.get("lastState") or {}).get("terminated")
    if ended is not None:
        return _Is.FAILED if ended.get("exitCode") else _Is.SUCCEEDED
    return _Is.WAITING if "waiting" in state else _Is.UNKNOWN
