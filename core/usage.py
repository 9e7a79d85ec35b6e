"""What the agent holds in memory right now, by queue, pod and device: for `pinnace footprint`, asked through the socket for root."""

from __future__ import annotations

import _tracemalloc  # built in; `tracemalloc` itself is loaded when somebody traces
import asyncio
import gc
import threading
import time
from typing import TYPE_CHECKING, Any

from pinnace.core.base.contract.keys import ResourceKey

if TYPE_CHECKING:
    from pinnace.core.base.pod import Pod
    from pinnace.core.hub.service import HubLink
    from pinnace.core.meta.store import Store
    from pinnace.core.stream.ports import PodBook
    from pinnace.core.twins.service import TwinService


class Usage:
    """Counts and bytes of bodies; what the interpreter adds to each body is in the process's memory and not in here."""

    def __init__(self, *, store: Store, twins: TwinService, link: HubLink, book: PodBook) -> None:
        self._store = store
        self._twins = twins
        self._link = link
        self._book = book

    async def read(self) -> dict[str, Any]:
        """As JSON. With `heap` when allocations are traced (PYTHONTRACEMALLOC, a profiling build): that takes a moment, off the loop."""
        twins = self._twins.usage()
        for device in twins["devices"]:
            device["waiting"] = self._store.outbox.waiting_for(device["name"])
            namespace, _, name = device["name"].rpartition("/")
            device["object_bytes"] = self._store.cached(ResourceKey("device", namespace or "default", name))
        found = {
            **self._store.usage(),
            "inbox": twins["inbox"],
            "link": self._link.usage(),
            "pods": [self._pod(each) for each in self._book.pods()],
            "devices": twins["devices"],
            "tasks": len(asyncio.all_tasks()),
            "threads": threading.active_count(),
            "garbage": {"tracked": list(gc.get_count()), "frozen": gc.get_freeze_count()},
            "cpu_seconds": round(time.process_time(), 3),
        }
        if _tracemalloc.is_tracing():
            from pinnace.core.base.observe import allocations

            found["heap"] = await asyncio.to_thread(allocations.read)
        return found

    def _pod(self, pod: Pod) -> dict[str, Any]:
        return {
            "name": f"{pod.namespace}/{pod.name}",
            "uid": pod.uid,
            "containers": len(pod.spec.get("containers") or ()),
            "object_bytes": self._store.cached(ResourceKey("pod", pod.namespace, pod.name)),
            "events": len(self._book.recent_events(pod.uid)),
        }
