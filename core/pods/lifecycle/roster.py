"""Which pods are to be here, and their workers: one a pod, and one pod of a name at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from pinnace.core.base.pod import Object, Pod
from pinnace.core.pods.lifecycle.alarms import Alarms
from pinnace.core.pods.lifecycle.means import Means
from pinnace.core.pods.lifecycle.worker import PodWorker
from pinnace.core.pods.rules.status import Ending, begins_anew

logger = logging.getLogger(__name__)

Name = tuple[str, str]
"""Namespace and name."""


class Records(Protocol):
    """What is kept of pods beyond the runtime."""

    def status(self, pod: Pod) -> Object:
        """The last status kept of this very pod; {} when there is none."""
        ...

    async def settle(self, pod: Pod, status: Object) -> None:
        """Durable when it returns. Raises StoreError."""
        ...

    def changed(self, pod: Pod, status: Object) -> None: ...

    def forget(self, pod: Pod) -> None: ...


class Roster:
    """Implements worker.Keeper. `admit(pod, others)` asks the node; `told` hears of every new status, `gone` of every pod that is no
    more."""

    def __init__(
        self,
        means: Means,
        records: Records,
        *,
        admit: Callable[[Pod, Sequence[Pod]], Ending | None],
        told: Callable[[PodWorker], None],
        gone: Callable[[Pod], None],
    ) -> None:
        self._means = means
        self._records = records
        self._admit = admit
        self._told = told
        self._gone = gone
        self._workers: dict[str, PodWorker] = {}
        self._names: dict[Name, str] = {}
        self._successors: dict[Name, Pod] = {}
        self._alarms = Alarms(means.clock, self._ring)

    async def run(self) -> None:
        """For ever: wake workers at their times. Ends all workers when it is cancelled; containers go on."""
        try:
            await self._alarms.run()
        finally:
            workers = list(self._workers.values())
            for table in (self._workers, self._names, self._successors):
                table.clear()
            await asyncio.gather(*(each.close() for each in workers), return_exceptions=True)

    @property
    def workers(self) -> Sequence[PodWorker]:
        return list(self._workers.values())

    def worker(self, pod_uid: str) -> PodWorker | None:
        return self._workers.get(pod_uid)

    def want(self, pod: Pod) -> None:
        """The pod is to be here, like this. One of the same name and another uid must be gone first."""
        name = (pod.namespace, pod.name)
        holder = self._workers.get(self._names.get(name, ""))
        if holder is not None and holder.pod.uid == pod.uid and not holder.is_removed:
            holder.update(pod)
        elif holder is not None:
            self._successors[name] = pod
            holder.remove()
        else:
            status = self._records.status(pod)
            self._begin(PodWorker(self._means, self, pod, {} if begins_anew(pod, status) else status))

    def unwant(self, namespace: str, name: str, uid: str = "") -> None:
        """No pod of that name, or none with this uid, is to be here any more."""
        successor = self._successors.get((namespace, name))
        if successor is not None and uid in ("", successor.uid):
            del self._successors[namespace, name]
        worker = self._workers.get(self._names.get((namespace, name), ""))
        if worker is not None and uid in ("", worker.pod.uid):
            worker.remove()

    def clear_away(self, orphan: Pod) -> None:
        """End and remove a pod that is known from the runtime only."""
        if orphan.uid in self._workers:
            return
        worker = PodWorker(self._means, self, orphan, {})
        self._workers[orphan.uid] = worker
        self._names.setdefault((orphan.namespace, orphan.name), orphan.uid)
        logger.info("pods.orphan pod=%s/%s uid=%s: it is not wanted here any more", orphan.namespace, orphan.name, orphan.uid)
        worker.remove()

    def touch(self, pod_uid: str) -> None:
        """The runtime or a probe has news of a pod."""
        worker = self._workers.get(pod_uid)
        if worker is not None:
            worker.touch()

    def _begin(self, worker: PodWorker) -> None:
        pod = worker.pod
        self._workers[pod.uid] = worker
        self._names[pod.namespace, pod.name] = pod.uid
        worker.touch(is_urgent=True)

    def _ring(self, pod_uid: str) -> None:
        self.touch(pod_uid)

    def admit(self, pod: Pod) -> Ending | None:
        others = [
            each.pod
            for each in self._workers.values()
            if each.pod.uid != pod.uid and each.is_admitted and not each.is_removed and not each.ended.is_set()
        ]
        return self._admit(pod, others)

    def told(self, worker: PodWorker, *, is_new: bool = True) -> None:
        if is_new and not worker.is_removed:
            self._records.changed(worker.pod, worker.status)
        self._told(worker)

    async def settle(self, worker: PodWorker) -> None:
        await self._records.settle(worker.pod, worker.status)

    def wake_at(self, worker: PodWorker, at: float) -> None:
        self._alarms.set(worker.pod.uid, at)

    def left(self, worker: PodWorker) -> None:
        pod = worker.pod
        name = (pod.namespace, pod.name)
        self._workers.pop(pod.uid, None)
        self._alarms.clear(pod.uid)
        self._gone(pod)
        if self._names.get(name) == pod.uid:
            self._records.forget(pod)  # kept by name: an orphan found late must not take that of who has its name now
            del self._names[name]
            successor = self._successors.pop(name, None)
            if successor is not None:
                self.want(successor)
