"""Mirror pods: the API's pictures of static pods, made anew whenever they are missing or of an older version of the file."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

from pinnace.core.base.aio.backoff import Backoff
from pinnace.core.base.aio.clock import Clock
from pinnace.core.base.contract.answers import object_of
from pinnace.core.base.contract.envelopes import Group, Operation, Source, ack, new
from pinnace.core.base.contract.keys import NodeName
from pinnace.core.base.errors import LinkError, RemoteError
from pinnace.core.base.pod import Pod
from pinnace.core.base.ports import Uplink
from pinnace.core.pods.rules.mirror import is_mirror_of, mirror_of

logger = logging.getLogger(__name__)

RETRY_SECONDS: Final = (10.0, 300.0)
_ANSWER_SECONDS: Final = 20.0
Name = tuple[str, str]


class Mirrors:
    """`made(static pod, its mirror)` hears of each mirror that is right; `node_uid` gives the Node's uid, "" while unknown."""

    def __init__(
        self, node: NodeName, uplink: Uplink, clock: Clock, *, node_uid: Callable[[], str], made: Callable[[Pod, Pod], None]
    ) -> None:
        self._node = node
        self._uplink = uplink
        self._clock = clock
        self._node_uid = node_uid
        self._made = made
        self._static: dict[Name, Pod] = {}
        self._mirrors: dict[Name, Pod] = {}
        self._wake = asyncio.Event()
        uplink.on_connected(self._connected)

    async def run(self) -> None:
        """For ever: see to it that every static pod has its mirror, and that no mirror is without its pod."""
        backoff = Backoff(*RETRY_SECONDS)
        while True:
            self._wake.clear()
            is_done = True
            if self._uplink.connected:
                for name in {*self._static, *self._mirrors}:
                    is_done &= await self._keep(name)
            if is_done:
                backoff.reset()
                await self._wake.wait()
            else:
                await self._wait(backoff.next())

    def set(self, pods: Iterable[Pod]) -> None:
        """The static pods there are now."""
        self._static = {(each.namespace, each.name): each for each in pods}
        self._wake.set()

    def seen(self, mirror: Pod) -> None:
        """The cloud has this mirror pod."""
        name = (mirror.namespace, mirror.name)
        self._mirrors[name] = mirror
        pod = self._static.get(name)
        if pod is not None and is_mirror_of(mirror, pod) and not mirror.is_deleting:
            self._made(pod, mirror)
        else:
            self._wake.set()

    def gone(self, namespace: str, name: str) -> None:
        """The cloud has deleted the pod of that name."""
        if self._mirrors.pop((namespace, name), None) is not None:
            self._wake.set()

    def mirror(self, pod: Pod) -> Pod | None:
        """The right mirror of a static pod, if the cloud has it."""
        mirror = self._mirrors.get((pod.namespace, pod.name))
        return mirror if mirror is not None and is_mirror_of(mirror, pod) else None

    async def _connected(self) -> None:
        self._wake.set()

    async def _keep(self, name: Name) -> bool:
        """Put one name in order; False when it is to be tried again."""
        pod, mirror = self._static.get(name), self._mirrors.get(name)
        try:
            if mirror is not None:
                if pod is None or not is_mirror_of(mirror, pod) or mirror.is_deleting:
                    await self._delete(mirror)
                    return False  # until the cloud's own `delete` says that it is gone
            elif pod is not None:
                await self._insert(pod)
        except (LinkError, RemoteError) as error:
            logger.info("pods.mirror.not-kept pod=%s/%s reason=%s", *name, error)
            return isinstance(error, RemoteError) and error.reason == "AlreadyExists"  # it is pushed to us
        return True

    async def _insert(self, pod: Pod) -> None:
        body = mirror_of(pod, self._node, self._node_uid())
        message = new(Source.EDGED, Group.META, Operation.INSERT, f"{pod.namespace}/pod/{pod.name}", body)
        answer = await self._uplink.request(message, timeout_seconds=_ANSWER_SECONDS)
        made = object_of(answer)
        self._uplink.post(ack(answer))  # KubeEdge's cloud repeats an object until it is acknowledged
        if made:
            self.seen(Pod(made))
        logger.info("pods.mirror.made pod=%s/%s", pod.namespace, pod.name)

    async def _delete(self, mirror: Pod) -> None:
        content = {"gracePeriodSeconds": 0, "preconditions": {"uid": mirror.uid}}
        message = new(Source.EDGED, Group.META, Operation.DELETE, f"{mirror.namespace}/pod/{mirror.name}", content)
        object_of(await self._uplink.request(message, timeout_seconds=_ANSWER_SECONDS))

    async def _wait(self, longest: float) -> None:
        timer = asyncio.ensure_future(self._clock.sleep(longest))
        waking = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait([timer, waking], return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
            waking.cancel()
