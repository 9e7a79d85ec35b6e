"""The pods of this node: what the cloud and the node's own files want, one worker a pod, statuses back to the cloud."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

import orjson

from pinnace.core.base.aio.backoff import Backoff
from pinnace.core.base.aio.clock import Clock, LoopClock
from pinnace.core.base.aio.supervise import supervise
from pinnace.core.base.contract import scheduling
from pinnace.core.base.contract.keys import NodeName, ResourceKey
from pinnace.core.base.errors import PinnaceError, StoreError
from pinnace.core.base.pod import Object, Pod
from pinnace.core.base.ports import ObjectChange, ObjectStore, Uplink
from pinnace.core.base.runtime import Runtime
from pinnace.core.base.settings.edged import EdgedSettings
from pinnace.core.pods.lifecycle.means import Means
from pinnace.core.pods.lifecycle.mirrors import Mirrors
from pinnace.core.pods.lifecycle.pulls import PullQueue
from pinnace.core.pods.lifecycle.records import StatusRecords
from pinnace.core.pods.lifecycle.reports import StatusReports
from pinnace.core.pods.lifecycle.roster import Roster
from pinnace.core.pods.lifecycle.tidying import Tidying
from pinnace.core.pods.lifecycle.worker import PodWorker
from pinnace.core.pods.ports import Cgroups, Events, Hooks, Materials, Prober
from pinnace.core.pods.rules.admission import admit
from pinnace.core.pods.rules.status import Ending

logger = logging.getLogger(__name__)

STARTS: Final = 6
"""How many pods make sandboxes and containers at once."""
_UNLIMITED: Final = 1 << 62
_CLOSING: Final = Ending("NodeShutdown", "Pod was rejected as the node is shutting down.")


class PodService:
    """Implements pods.ports.PodControl. `changed` is for Sync.on_change("pod", ...), `looked_for` for "configmap" and "secret": what a pod
    waits for may have come. `allocatable` gives what pods may have in whole numbers (base/contract/scheduling.py), {} for the stored
    Node's word; `pressure` the pressure conditions that hold now; `is_closing` whether the machine shuts down.

    `run` starts and runs the runtime, too: nothing may be started before it told what is there.
    """

    def __init__(
        self,
        settings: EdgedSettings,
        node: NodeName,
        *,
        objects: ObjectStore,
        uplink: Uplink,
        runtime: Runtime,
        materials: Materials,
        prober: Prober,
        hooks: Hooks,
        events: Events,
        cgroups: Cgroups,
        host_ips: Callable[[], Sequence[str]],
        clock: Clock | None = None,
        allocatable: Callable[[], Mapping[str, int]] = dict,
        pressure: Callable[[], Collection[str]] = frozenset,
        is_closing: Callable[[], bool] = lambda: False,
    ) -> None:
        self._settings = settings
        self._node = node
        self._objects = objects
        self._runtime = runtime
        self._uses = materials.uses
        self._allocatable = allocatable
        self._pressure = pressure
        self._is_closing = is_closing
        self._clock = clock or LoopClock()
        kubelet = settings.tailored_kubelet_config
        pulls = PullQueue(
            runtime.images,
            self._clock,
            serialize=kubelet.serialize_image_pulls,
            local_when_offline=settings.local_image_when_offline,
            is_online=lambda: uplink.connected,
        )
        means = Means(
            settings=settings, runtime=runtime, materials=materials, prober=prober, hooks=hooks, events=events, cgroups=cgroups,
            clock=self._clock, pulls=pulls, starts=asyncio.Semaphore(STARTS), host_ips=host_ips,
        )  # fmt: skip
        self._records = StatusRecords(objects, self._clock)
        self._reports = StatusReports(uplink, self._clock)
        self._mirrors = Mirrors(node, uplink, self._clock, node_uid=self._node_uid, made=self._mirror_made)
        self._roster = Roster(means, self._records, admit=self._admit, told=self._told, gone=self._gone)
        self._static: dict[str, Pod] = {}
        self._knows_static = False
        self._is_loaded = False
        self.loaded = asyncio.Event()
        """Set while `pods` tells of all that are to be here: the store was read, and `set_static` was called."""
        self._tidying = Tidying(means, self._roster, self.loaded)
        runtime.on_change(self._roster.touch)
        prober.on_change(self._roster.touch)

    async def run(self) -> None:
        """For ever. Containers go on when it is cancelled."""
        await self._runtime.start()
        try:
            await self._load()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._roster.run())
                for name, run in (
                    ("runtime", self._runtime.run),
                    ("pods.reports", self._reports.run),
                    ("pods.records", self._records.run),
                    ("pods.mirrors", self._mirrors.run),
                    ("pods.tidying", self._tidying.run),
                ):
                    group.create_task(supervise(name, run, Backoff(0.2, 10.0)), name=name)
        finally:
            self._is_loaded = False
            self.loaded.clear()
            await self._records.flush()
            await self._runtime.close()

    async def changed(self, change: ObjectChange) -> None:
        """A pod was written to the store, or deleted from it."""
        key = change.key
        if not self._is_loaded:
            return  # it is read from the store then
        if change.operation == "delete":
            self._deleted(key.namespace, key.name, _uid(change.body))
        elif (pod := _pod(key, change.body)) is not None:
            self._want(pod)

    async def looked_for(self, change: ObjectChange) -> None:
        """An object that pods may be waiting for, or have in a volume, was written to the store."""
        for worker in self._roster.workers:
            if change.key in self._uses(worker.pod):
                worker.look(is_material=True)

    def pods(self) -> Sequence[Pod]:
        return [each.view for each in self._roster.workers]

    async def evict(self, pod_uid: str, *, reason: str, message: str, grace_seconds: float) -> None:
        worker = self._roster.worker(pod_uid)
        if worker is not None:
            worker.end(Ending(reason, message), grace_seconds)
            await worker.ended.wait()

    async def rest(self, pod_uid: str, *, grace_seconds: float) -> None:
        worker = self._roster.worker(pod_uid)
        if worker is not None:
            worker.rest(grace_seconds)
            await worker.rested.wait()

    def wake(self) -> None:
        for worker in self._roster.workers:
            worker.wake()

    def images_came(self) -> None:
        """Images were imported: whoever waits for one looks now."""
        for worker in self._roster.workers:
            worker.look(has_images=True)

    def look(self, pod_uid: str) -> None:
        worker = self._roster.worker(pod_uid)
        if worker is not None:
            worker.look()

    def set_static(self, pods: Sequence[Pod]) -> None:
        before, self._static = self._static, {each.uid: each for each in pods}
        self._mirrors.set(pods)
        self._knows_static = True
        if not self._is_loaded:
            return
        for pod in before.values():
            if pod.uid not in self._static:
                self._roster.unwant(pod.namespace, pod.name, pod.uid)
        for pod in pods:
            self._roster.want(pod)
        if not self.loaded.is_set():
            self._know_all()

    async def _load(self) -> None:
        """Begin what the store says is to run. What has the name of such a pod and is another is ended first; everything else that is not
        wanted waits until the files' pods are known, too."""
        names = {(each.namespace, each.name): each.uid for each in self._stored() if not each.is_mirror}
        try:
            await self._tidying.find_orphans(names=names)
        except PinnaceError as error:
            logger.warning("pods.orphans.unknown reason=%s; looked for again in a minute", error)
        stored = self._stored()
        self._is_loaded = True
        for pod in (*stored, *self._static.values()):
            self._want(pod)
        logger.info("pods.loaded node=%s pods=%d", self._node, len(self._roster.workers))
        if self._knows_static:
            self._know_all()

    def _stored(self) -> list[Pod]:
        return [pod for stored in self._objects.list("pod") if (pod := _pod(stored.key, stored.body)) is not None]

    def _know_all(self) -> None:
        """The cloud's pods and the files' are there: what is of neither may go."""
        self._records.forget_all_but({(each.pod.namespace, each.pod.name) for each in self._roster.workers})
        self.loaded.set()

    def _want(self, pod: Pod) -> None:
        """A pod as the cloud or a file has it."""
        if pod.is_static:
            self._roster.want(pod)
            return
        if pod.is_mirror:
            self._mirrors.seen(pod)
            return
        if pod.spec.get("nodeName", self._node) != self._node:
            return
        self._roster.want(pod)
        worker = self._roster.worker(pod.uid)
        if worker is not None and not worker.is_removed:
            self._reports.known(pod)
            if pod.is_deleting and worker.is_cleaned:
                self._told(worker)  # all of it had ended before: its deletion is not asked for yet

    def _deleted(self, namespace: str, name: str, uid: str) -> None:
        self._mirrors.gone(namespace, name)
        for worker in self._roster.workers:
            if (worker.pod.namespace, worker.pod.name) == (namespace, name) and not worker.pod.is_static:
                self._roster.unwant(namespace, name, uid)

    def _told(self, worker: PodWorker) -> None:
        """A worker has a new status: the cloud is to know."""
        pod = worker.pod
        if worker.is_removed:
            return
        if not pod.is_static:
            self._reports.put(pod.namespace, pod.name, pod.uid, worker.status, wants_deletion=pod.is_deleting and worker.is_cleaned)
        elif (mirror := self._mirrors.mirror(pod)) is not None:
            self._reports.put(pod.namespace, pod.name, mirror.uid, worker.status)

    def _mirror_made(self, pod: Pod, mirror: Pod) -> None:
        worker = self._roster.worker(pod.uid)
        if worker is not None and worker.status:
            self._reports.known(mirror)
            self._reports.put(pod.namespace, pod.name, mirror.uid, worker.status)

    def _gone(self, pod: Pod) -> None:
        self._reports.forget(pod.uid)

    def _admit(self, pod: Pod, others: Sequence[Pod]) -> Ending | None:
        if self._is_closing():
            return _CLOSING
        node = self._stored_node()
        kubelet = self._settings.tailored_kubelet_config
        refusal = admit(
            pod,
            others,
            node,
            allocatable=self._room(pod, node),
            pressure=self._pressure(),
            allowed_sysctls=kubelet.allowed_unsafe_sysctls,
            node_name=self._node,
        )
        return Ending(refusal.reason, refusal.message) if refusal is not None else None

    def _room(self, pod: Pod, node: Object | None) -> Mapping[str, int]:
        """What pods may have; nothing is refused for want of room while nobody knows how much there is."""
        known = self._allocatable()
        try:
            known = known or scheduling.amounts(((node or {}).get("status") or {}).get("allocatable") or {})
            return known or dict.fromkeys((*scheduling.requests(pod.spec), "pods"), _UNLIMITED)
        except ValueError as error:
            logger.warning("pods.admission.unknown-room pod=%s/%s reason=%s", pod.namespace, pod.name, error)
            return known

    def _stored_node(self) -> Object | None:
        try:
            stored = self._objects.get(ResourceKey("node", "", self._node))
            node = orjson.loads(stored.body) if stored is not None else None
        except (StoreError, orjson.JSONDecodeError):
            return None
        return node if isinstance(node, dict) else None

    def _node_uid(self) -> str:
        return str(((self._stored_node() or {}).get("metadata") or {}).get("uid", ""))


def _pod(key: ResourceKey, body: bytes) -> Pod | None:
    """None, and a line in the log, for what is no pod."""
    try:
        content = orjson.loads(body)
        pod = Pod(content)
        is_whole = bool(pod.uid and pod.name and pod.spec.get("containers") and pod.restart_policy)
    except (orjson.JSONDecodeError, ValueError, TypeError, AttributeError) as error:
        logger.warning("pods.unreadable pod=%s/%s reason=%s", key.namespace, key.name, error)
        return None
    if not is_whole:
        logger.warning("pods.unreadable pod=%s/%s: it has no uid, name or containers", key.namespace, key.name)
        return None
    return pod


def _uid(body: bytes) -> str:
    try:
        uid = orjson.loads(body)["metadata"]["uid"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return ""
    return uid if isinstance(uid, str) else ""
