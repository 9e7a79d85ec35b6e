"""The pods of a node as a list (core/pods/ports.PodControl)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from pinnace.core.base.pod import Pod


class Eviction(NamedTuple):
    uid: str
    reason: str
    message: str
    grace_seconds: float


class FakePodControl:
    """Implements PodControl. An evicted pod is Failed from then on; one that rests is among the evictions, without a reason. `evicting`
    is awaited first, when a test sets it."""

    def __init__(self, *pods: Pod) -> None:
        self.here = list(pods)
        self.evictions: list[Eviction] = []
        self.looked: list[str] = []
        self.static: list[Pod] = []
        self.evicting: Any = None
        self.woken = 0

    def pods(self) -> Sequence[Pod]:
        return tuple(self.here)

    async def evict(self, pod_uid: str, *, reason: str, message: str, grace_seconds: float) -> None:
        self.evictions.append(Eviction(pod_uid, reason, message, grace_seconds))
        if self.evicting is not None:
            await self.evicting(pod_uid)
        self.here = [
            Pod({**each.body, "status": {"phase": "Failed", "reason": reason}}) if each.uid == pod_uid else each for each in self.here
        ]

    async def rest(self, pod_uid: str, *, grace_seconds: float) -> None:
        self.evictions.append(Eviction(pod_uid, "", "", grace_seconds))
        if self.evicting is not None:
            await self.evicting(pod_uid)

    def wake(self) -> None:
        self.woken += 1

    def look(self, pod_uid: str) -> None:
        self.looked.append(pod_uid)

    def set_static(self, pods: Sequence[Pod]) -> None:
        self.static = list(pods)
