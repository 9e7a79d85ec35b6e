"""Keeps the Node object, its status and its lease up to date in the cloud, as a kubelet does."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

import orjson

from pinnace.core.base.aio.backoff import Backoff
from pinnace.core.base.aio.clock import Clock, LoopClock
from pinnace.core.base.contract.answers import Object, object_of
from pinnace.core.base.contract.envelopes import Group, Operation, Source, ack, new
from pinnace.core.base.contract.keys import NodeName, ResourceKey
from pinnace.core.base.errors import LinkError, RemoteError, StoreError
from pinnace.core.base.observe.health import REPORTED, Health
from pinnace.core.base.ports import ObjectStore, PodHost, Uplink
from pinnace.core.base.settings.edged import EdgedSettings, seconds
from pinnace.core.base.version import VERSION
from pinnace.core.node import objects as make
from pinnace.core.node.machine import Reader
from pinnace.ext.records import Envelope

logger = logging.getLogger(__name__)

FACT: Final = "node"
LEASE_TRIES: Final = 5
_ANSWER_SECONDS: Final = 20.0


class NodeService:
    """Registers the Node, reports its status when it changed and every few minutes, renews its lease. Without a link it does nothing;
    with the link's return it reports at once, since the cloud may have called the node lost meanwhile."""

    def __init__(
        self,
        settings: EdgedSettings,
        node: NodeName,
        *,
        uplink: Uplink,
        objects: ObjectStore,
        health: Health,
        clock: Clock | None = None,
        reader: Reader | None = None,
        host: PodHost | None = None,
    ) -> None:
        self._settings = settings
        self._node = node
        self._uplink = uplink
        self._objects = objects
        self._health = health
        self._clock = clock or LoopClock()
        self._reader = reader or Reader()
        self._host = host
        self._machine = self._reader.machine()
        kubelet = settings.tailored_kubelet_config
        self._lease_seconds = kubelet.node_lease_duration_seconds
        self._look_seconds = seconds(kubelet.node_status_update_frequency)
        self._report_seconds = seconds(kubelet.node_status_report_frequency)
        self._live: Object = {}
        self._registered = False
        self._looked_at = ""
        self._sent: Object = {}
        self._sent_at = float("-inf")
        self._report = asyncio.Event()
        self._renew = asyncio.Event()
        uplink.on_connected(self._connected)
        self._problems: dict[str, str] = {}
        health.on_change(self._health_changed)
        if host is not None:
            host.on_change(self._report.set)

    async def _connected(self) -> None:
        self._sent_at = float("-inf")
        self._report.set()
        self._renew.set()

    def _health_changed(self) -> None:
        problems = self._told_problems()
        if problems != self._problems:
            self._problems = problems
            self._report.set()

    def _told_problems(self) -> dict[str, str]:
        """What the Node's conditions say; that they cannot be written is not among it."""
        return {fact: problem for fact, problem in self._health.problems.items() if fact != FACT}

    async def run(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_reported(), name="node status")
            group.create_task(self._keep_lease(), name="node lease")

    async def _keep_reported(self) -> None:
        refused = Backoff(1.0, 60.0)
        while True:
            self._report.clear()
            pause = self._look_seconds
            if self._uplink.connected:
                try:
                    await self._register()
                    await self._report_status()
                    refused.reset()
                    self._health.set(FACT)
                    self._health.reach(REPORTED)
                except LinkError as error:
                    logger.info("node.not-reported node=%s reason=%s", self._node, error)
                except RemoteError as error:
                    if error.reason == "NotFound":
                        self._registered = False  # somebody deleted it
                    pause = refused.next()
                    self._health.set(FACT, f"the cloud refuses this node's report: {error}")
            await self._wait(self._report, pause)

    async def _register(self) -> None:
        """Once in the life of the process, and again when the Node was deleted. Raises RemoteError, LinkError."""
        if self._registered:
            return
        body = make.node_object(self._node, self._settings, self._machine, self._status({}))
        try:
            self._live = await self._ask(Operation.INSERT, f"null/node/{self._node}", body)
            logger.info("node.registered node=%s", self._node)
        except RemoteError as error:
            if error.reason != "AlreadyExists":
                raise
            await self._adopt()
        self._registered = True

    async def _adopt(self) -> None:
        """The Node is there already: see to it that it has our labels."""
        question = self._new(Operation.QUERY, f"null/node/{self._node}", None)
        answer = await self._uplink.request(question, timeout_seconds=_ANSWER_SECONDS)
        self._live = object_of(answer)
        self._uplink.post(ack(answer))  # KubeEdge's cloud repeats an object until it is acknowledged
        wanted = make.labels(self._node, self._settings, self._machine)
        there = (self._live.get("metadata") or {}).get("labels") or {}
        if any(there.get(name) != value for name, value in wanted.items()):
            body = {"metadata": {"name": self._node, "labels": {**there, **wanted}}}
            await self._ask(Operation.UPDATE, f"null/node/{self._node}", body)
            logger.info("node.labelled node=%s", self._node)

    async def _report_status(self) -> None:
        if self._is_called_lost():
            self._sent_at = float("-inf")
        status = self._status(self._live)
        is_changed = make.without_heartbeats(status) != self._sent
        if not is_changed and self._clock.now() - self._sent_at < self._report_seconds:
            return
        patch = orjson.dumps({"status": status}).decode()
        answer = await self._ask(Operation.PATCH, f"null/nodepatch/{self._node}", patch)
        self._live = {**answer, "status": status}
        self._sent = make.without_heartbeats(status)
        self._sent_at = self._clock.now()

    def _is_called_lost(self) -> bool:
        """Whether the Node that was pushed last says that we are not ready: Kubernetes does so after a time without leases, and leaves
        it to the node to deny it. Asked once for each version."""
        try:
            stored = self._objects.get(ResourceKey("node", "", self._node))
        except StoreError:  # the store's own fact says what is wrong, and it is told by what comes next
            return False
        if stored is None or stored.version == self._looked_at:
            return False
        self._looked_at = stored.version
        node = _object(stored.body)
        conditions = (node.get("status") or {}).get("conditions") or ()
        if all(each.get("status") == "True" for each in conditions if each.get("type") == "Ready"):
            return False
        self._live = node
        return True

    def _status(self, live: Object) -> Object:
        load = self._reader.load(self._settings.node_ip)
        problems = self._told_problems()
        now = self._clock.wall()
        return make.status_of(self._node, self._machine, load, problems, live, version=VERSION, wall=now, host=self._host)

    async def _keep_lease(self) -> None:
        lease: Object = {}
        was_refused = False
        while True:
            self._renew.clear()
            if self._uplink.connected:
                try:
                    lease = await self._renewed(lease)
                    was_refused = False
                except LinkError as error:
                    lease = {}
                    logger.info("node.lease-not-renewed node=%s reason=%s", self._node, error)
                except RemoteError as error:
                    lease = {}
                    if not was_refused:
                        logger.warning("node.lease-refused node=%s reason=%s", self._node, error)
                    was_refused = True
            await self._wait(self._renew, self._lease_seconds / 4)

    async def _renewed(self, lease: Object) -> Object:
        """Renew the lease, or find or make it first when `lease` is {}. Raises RemoteError, LinkError."""
        resource = f"kube-node-lease/lease/{self._node}"
        for attempt in range(LEASE_TRIES):
            try:
                if not lease:
                    lease = await self._ask(Operation.QUERY, resource, None)
                body = make.renewed(lease, self._node, self._lease_seconds, self._clock.wall())
                return await self._ask(Operation.UPDATE, resource, body)
            except RemoteError as error:
                lease = {}
                if error.reason == "NotFound":
                    uid = (self._live.get("metadata") or {}).get("uid", "")
                    body = make.lease_object(self._node, uid, self._lease_seconds, self._clock.wall())
                    try:
                        return await self._ask(Operation.INSERT, resource, body)
                    except RemoteError as refused:
                        if refused.reason != "AlreadyExists" or attempt == LEASE_TRIES - 1:
                            raise
                elif error.reason != "Conflict" or attempt == LEASE_TRIES - 1:
                    raise
        raise RemoteError("somebody else keeps changing the lease", reason="Conflict", code=409)

    async def _ask(self, operation: str, resource: str, content: Any) -> Object:
        return object_of(await self._uplink.request(self._new(operation, resource, content), timeout_seconds=_ANSWER_SECONDS))

    @staticmethod
    def _new(operation: str, resource: str, content: Any) -> Envelope:
        return new(Source.EDGED, Group.META, operation, resource, content)

    async def _wait(self, event: asyncio.Event, longest: float) -> None:
        timer = asyncio.ensure_future(self._clock.sleep(longest))
        waiting = asyncio.ensure_future(event.wait())
        try:
            waits: list[asyncio.Future[Any]] = [timer, waiting]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
            waiting.cancel()


def _object(body: bytes) -> Object:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}
