"""The scheduler: pods without a node get the one that `placing` chooses, or hear why there is none. It wakes when something changed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from pinnace.cloud.standalone.controllers.owning import Owning
from pinnace.cloud.standalone.controllers.placing import Cluster, Key
from pinnace.cloud.standalone.controllers.podfacts import condition, has_ended, is_ending
from pinnace.cloud.standalone.controllers.podvolumes import PodVolumes
from pinnace.cloud.standalone.deletion import Deletion
from pinnace.cloud.standalone.objects import Objects, now_text
from pinnace.cloud.standalone.state import Change, Item, Object, Table
from pinnace.cloud.standalone.status import ApiError, conflict

logger = logging.getLogger(__name__)

NAME: Final = "default-scheduler"
RETRY_SECONDS: Final = 5.0
"""Until a pod is looked at again whose look failed: no change need follow a failure."""
_CLAIM_TABLES: Final = frozenset({"persistentvolumeclaims", "persistentvolumes", "storageclasses.storage.k8s.io"})


class Scheduler:
    """Pods of `schedulerName: default-scheduler`. One that fits nowhere is looked at again when a node, a claim or what is on a node
    changes."""

    def __init__(
        self,
        objects: Objects,
        deletion: Deletion,
        *,
        wall: Callable[[], float] = time.time,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self._own = Owning(objects, deletion, NAME, wall=wall)
        self._retry_seconds = retry_seconds
        self._pods = self._own.kind("pods")
        self._volumes = PodVolumes(self._own)
        self._cluster = Cluster()
        self._due: dict[Key, tuple[int, str]] = {}
        self._unfit: dict[Key, None] = {}
        self._wake = asyncio.Event()
        for item in self._own.items(self._own.kind("nodes")):
            self._cluster.put_node(item.decode())
        for item in self._own.items(self._pods):
            self._pod(item)
        objects.state.subscribe_all(self._changed)

    async def run(self) -> None:
        """For ever, or until a look fails with what is no answer of the API; run again, it goes on with the next pod."""
        while True:
            while self._due:
                key = min(self._due, key=lambda each: self._due[each])
                del self._due[key]
                await self._look(key)
                await asyncio.sleep(0)
            self._wake.clear()
            await self._wake.wait()

    def _changed(self, table: Table, change: Change) -> None:
        item = change.item
        if table.resource == self._pods.table:
            if change.type == "DELETED":
                self._forget((item.namespace, item.name))
            else:
                if change.previous is not None and (item.namespace, item.name) in self._unfit and _asks_else(change.previous, item):
                    del self._unfit[item.namespace, item.name]
                self._pod(item)
        elif table.resource == "nodes":
            if change.type == "DELETED":
                self._cluster.drop_node(item.name)
            elif self._cluster.put_node(item.decode()):
                self._again()
        elif table.resource in _CLAIM_TABLES:
            self._again()

    def _pod(self, item: Item) -> None:
        pod, key = item.decode(), (item.namespace, item.name)
        if pod["spec"].get("nodeName") or has_ended(pod):
            self._due.pop(key, None)
            self._unfit.pop(key, None)
            is_known = self._cluster.has(key)
            if self._cluster.put_pod(pod):
                self._again()
            elif not is_known:
                self._again(b'"podAffinity"')  # it may be what they want to be near
        elif is_ending(pod) or pod["spec"].get("schedulerName", NAME) != NAME or pod["spec"].get("schedulingGates"):
            self._due.pop(key, None)
            self._unfit.pop(key, None)
        elif key not in self._unfit:
            self._queue(key, pod)

    def _queue(self, key: Key, pod: Object) -> None:
        """By priority, then by age."""
        self._due[key] = (-(pod["spec"].get("priority") or 0), pod["metadata"]["creationTimestamp"])
        self._wake.set()

    def _forget(self, key: Key) -> None:
        self._due.pop(key, None)
        self._unfit.pop(key, None)
        if self._cluster.drop_pod(key):
            self._again()

    def _again(self, about: bytes = b"") -> None:
        """Look once more at everybody who waits, or at those whose text has this in it."""
        for key in list(self._unfit):
            self._once_more(key, about)

    def _once_more(self, key: Key, about: bytes = b"") -> None:
        item = self._own.objects.state.table(self._pods.table).get(*key)
        if key in self._unfit and (item is None or about in item.body):
            del self._unfit[key]
            if item is not None:
                self._queue(key, item.decode())

    def _later(self, key: Key) -> None:
        """Its look failed."""
        self._unfit[key] = None
        asyncio.get_running_loop().call_later(self._retry_seconds, self._once_more, key)

    async def _look(self, key: Key) -> None:
        namespace, name = key
        pod = self._own.find(self._pods, name, namespace)
        if pod is None or pod["spec"].get("nodeName"):
            return
        try:
            wanted = self._volumes.wanted(pod)
            choice = self._cluster.choose(pod, holds=wanted.holds)
            if not choice.node or wanted.why:
                self._unfit[key] = None
                await self._refuse(pod, wanted.why or choice.message)
            elif picks := wanted.picks(self._cluster.labels(choice.node)):
                self._unfit[key] = None  # until its claims are bound
                await self._volumes.take(picks)
            else:
                await self._bind(pod, choice.node)
        except ApiError as error:
            if error.code not in {404, 409}:
                self._later(key)
                logger.warning("api.scheduler.failed pod=%s/%s error=%s", namespace, name, error.message)
        except Exception:
            self._later(key)
            raise

    async def _bind(self, pod: Object, node: str) -> None:
        metadata = pod["metadata"]

        def bound(old: Object) -> Object:
            if old["metadata"]["uid"] != metadata["uid"] or old["spec"].get("nodeName") or is_ending(old):
                raise conflict("", "pods/binding", metadata["name"], "it is not the pod that was looked at")
            old["spec"]["nodeName"] = node
            return _scheduled(old, {"status": "True"}, now_text(self._own.wall()))

        await self._own.objects.change(self._pods, metadata["name"], metadata["namespace"], bound, subresource="binding")
        logger.info("api.pod.scheduled namespace=%s name=%s node=%s", metadata["namespace"], metadata["name"], node)
        await self._own.say(pod, "Scheduled", f"Successfully assigned {metadata['namespace']}/{metadata['name']} to {node}")

    async def _refuse(self, pod: Object, message: str) -> None:
        """Tell why, once for each reason."""
        known = condition(pod, "PodScheduled")
        if (known.get("status"), known.get("message")) == ("False", message):
            return
        says = {"status": "False", "reason": "Unschedulable", "message": message}
        metadata = pod["metadata"]
        await self._own.objects.change(
            self._pods, metadata["name"], metadata["namespace"],
            lambda old: old if old["spec"].get("nodeName") else _scheduled(old, says, now_text(self._own.wall())), subresource="status",
        )  # fmt: skip
        await self._own.say(pod, "FailedScheduling", message, is_warning=True)


def _asks_else(before: Item, after: Item) -> bool:
    """Whether a pod's spec or labels changed."""
    old, new = before.decode(), after.decode()
    return before.labels != after.labels or old["spec"] != new["spec"]


def _scheduled(pod: Object, says: Object, now: str) -> Object:
    """The pod with its condition PodScheduled."""
    status = pod.setdefault("status", {})
    known = condition(pod, "PodScheduled")
    since = known.get("lastTransitionTime") if known.get("status") == says["status"] else None
    others = [each for each in status.get("conditions") or () if each.get("type") != "PodScheduled"]
    made = {"type": "PodScheduled", "lastProbeTime": None, "lastTransitionTime": since or now, **says}
    status["conditions"] = [*others, {**made, "observedGeneration": pod["metadata"].get("generation", 1)}]
    return pod
