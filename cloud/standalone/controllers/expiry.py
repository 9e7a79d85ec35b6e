"""What time takes away: events an hour after their last news, and pods bound to nodes that are gone."""

from __future__ import annotations

import asyncio
import calendar
import logging
import time
from collections.abc import Awaitable, Callable

from pinnace.cloud.standalone.deletion import DeleteOptions, Deletion
from pinnace.cloud.standalone.objects import Objects
from pinnace.cloud.standalone.state import Object
from pinnace.cloud.standalone.status import ApiError

logger = logging.getLogger(__name__)

EVENT_SECONDS = 3600.0
ORPHAN_SECONDS = 40.0
LOOK_SECONDS = 20.0
BATCH = 500


class Expiry:
    """Looks every twenty seconds. Events are judged by the wall clock, absent nodes by how long this server has missed them."""

    def __init__(
        self,
        objects: Objects,
        deletion: Deletion,
        *,
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._objects = objects
        self._deletion = deletion
        self._now = now
        self._wall = wall
        self._sleep = sleep
        self._missed: dict[str, float] = {}

    async def run(self) -> None:
        while True:
            await self.look()
            await self._sleep(LOOK_SECONDS)

    async def look(self) -> None:
        await self._events()
        await self._pods()

    async def _events(self) -> None:
        """At most a batch of old events at a time."""
        ended = self._wall() - EVENT_SECONDS
        old = [item for item in self._objects.state.table("events").items(None) if _news(item.decode()) < ended]
        for item in old[:BATCH]:
            await self._delete("events", item.namespace, item.name, DeleteOptions(uid=item.uid))

    async def _pods(self) -> None:
        """A pod whose node is gone has nobody to end it."""
        nodes = self._objects.state.table("nodes")
        bound = [(item, item.decode().get("spec", {}).get("nodeName")) for item in self._objects.state.table("pods").items(None)]
        absent = {node for _, node in bound if node and nodes.get("", node) is None}
        self._missed = {node: self._missed.get(node, self._now()) for node in absent}
        for item, node in bound:
            if node in self._missed and self._now() - self._missed[node] >= ORPHAN_SECONDS:
                await self._delete("pods", item.namespace, item.name, DeleteOptions(grace=0, uid=item.uid))
                logger.info("api.pod.orphaned namespace=%s name=%s node=%s: its node is gone", item.namespace, item.name, node)

    async def _delete(self, plural: str, namespace: str, name: str, options: DeleteOptions) -> None:
        kind = self._objects.registry.get("", "v1", plural)
        assert kind is not None
        try:
            await self._deletion.delete(kind, name, namespace, options)
        except ApiError as error:
            if error.code not in {404, 409}:
                raise


def _news(event: Object) -> float:
    """When an event last said something, in Unix seconds."""
    series = event.get("series") or {}
    texts = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"), event["metadata"].get("creationTimestamp"))
    found = 0.0
    for text in texts:
        try:
            found = max(found, calendar.timegm(time.strptime(str(text)[:19], "%Y-%m-%dT%H:%M:%S")))
        except ValueError:
            continue
    return found
