"""What the store keeps of a pod beyond what the cloud wrote: its last status, as a row of this node's own."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import orjson

from pinnace.core.base.aio.clock import Clock
from pinnace.core.base.contract.keys import LOCAL_POD_STATUS, ResourceKey
from pinnace.core.base.errors import StoreError
from pinnace.core.base.pod import Object, Pod
from pinnace.core.base.ports import ObjectChange, ObjectStore

logger = logging.getLogger(__name__)

LINGER_SECONDS: Final = 10.0
"""Statuses that changed within this time become one transaction: flash wears by the write."""


class StatusRecords:
    """Implements roster.Records. A terminal status is durable at once; others follow within `LINGER_SECONDS`."""

    def __init__(self, objects: ObjectStore, clock: Clock) -> None:
        self._objects = objects
        self._clock = clock
        self._changes: dict[ResourceKey, ObjectChange] = {}
        self._is_due = asyncio.Event()

    async def run(self) -> None:
        """For ever: write what changed."""
        while True:
            await self._is_due.wait()
            await self._clock.sleep(LINGER_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Write now what changed; what cannot be written waits for the next time."""
        self._is_due.clear()
        changes, self._changes = self._changes, {}
        if not changes:
            return
        try:
            await self._objects.apply(list(changes.values()))
        except StoreError as error:
            logger.warning("pods.status.not-kept pods=%d reason=%s; tried again in %gs", len(changes), error, LINGER_SECONDS)
            self._changes = changes | self._changes
            self._is_due.set()

    def status(self, pod: Pod) -> Object:
        key = _key(pod)
        try:
            waiting = self._changes.get(key)
            stored = self._objects.get(key) if waiting is None else None
            body = waiting.body if waiting is not None else stored.body if stored is not None else b"{}"
            row = orjson.loads(body or b"{}")
            return dict(row["status"]) if row.get("uid") == pod.uid else {}
        except (StoreError, orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            logger.warning("pods.status.unreadable pod=%s/%s reason=%s", pod.namespace, pod.name, error)
            return {}

    async def settle(self, pod: Pod, status: Object) -> None:
        change = _change(pod, status)
        self._changes.pop(change.key, None)
        await self._objects.apply([change])

    def changed(self, pod: Pod, status: Object) -> None:
        self._put(_change(pod, status))

    def forget(self, pod: Pod) -> None:
        self._put(ObjectChange("delete", _key(pod), "", b""))

    def forget_all_but(self, names: set[tuple[str, str]]) -> None:
        """Drop the rows of pods that are not here (namespace, name)."""
        for stored in self._objects.list(LOCAL_POD_STATUS):
            if (stored.key.namespace, stored.key.name) not in names:
                self._put(ObjectChange("delete", stored.key, "", b""))

    def _put(self, change: ObjectChange) -> None:
        self._changes[change.key] = change
        self._is_due.set()


def _key(pod: Pod) -> ResourceKey:
    return ResourceKey(LOCAL_POD_STATUS, pod.namespace, pod.name)


def _change(pod: Pod, status: Object) -> ObjectChange:
    return ObjectChange("update", _key(pod), "", orjson.dumps({"uid": pod.uid, "status": status}))
