"""What a node's troubles mean for its pods: not ready while it is silent, and gone once they tolerate its taints no longer.

As Kubernetes has it: a taint of effect NoExecute ends pods that do not tolerate it at once, and those that tolerate it for a time
(`tolerationSeconds`, which every pod has for 300 s unless it says otherwise) after that time. On a node that is silent such a pod stays
Terminating until the node says that it has ended, or is deleted.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from pinnace.cloud.standalone.controllers.owning import Owning
from pinnace.cloud.standalone.controllers.podfacts import condition, is_active, is_ready, moment
from pinnace.cloud.standalone.controllers.rounds import Rounds
from pinnace.cloud.standalone.deletion import Deletion
from pinnace.cloud.standalone.objects import Objects, now_text
from pinnace.cloud.standalone.state import Change, Object, Table
from pinnace.core.base.contract.scheduling import NO_EXECUTE, tolerates

logger = logging.getLogger(__name__)

COMPONENT: Final = "taint-eviction-controller"


def eviction_time(taints: Sequence[Object], tolerations: Sequence[Object]) -> float | None:
    """When a pod has to go from a node with these taints, in Unix seconds: 0 at once, None never."""
    ends: list[float] = []
    for taint in taints:
        if taint.get("effect") != NO_EXECUTE:
            continue
        borne = [each for each in tolerations if tolerates(each, taint)]
        if not borne:
            return 0.0
        limits = [each["tolerationSeconds"] for each in borne if each.get("tolerationSeconds") is not None]
        if limits:
            ends.append(moment(taint.get("timeAdded")) + max(0, min(limits)))
    return min(ends, default=None)


class Evictions:
    """The controller; its keys are nodes."""

    def __init__(self, objects: Objects, deletion: Deletion, *, wall: Callable[[], float] = time.time) -> None:
        self._own = Owning(objects, deletion, COMPONENT, wall=wall)
        self._nodes = self._own.kind("nodes")
        self._pods = self._own.kind("pods")
        self._troubled: set[str] = set()
        self._since: dict[str, dict[tuple[str, str], str]] = {}
        self._rounds: Rounds[str] = Rounds("eviction", self._reconcile)
        for item in self._own.items(self._nodes):
            self._rounds.touch(item.name)
        objects.state.subscribe_all(self._changed)

    async def run(self) -> None:
        await self._rounds.run()

    def _changed(self, table: Table, change: Change) -> None:
        item, before = change.item, change.previous
        if table.resource == self._nodes.table:
            if before is None or change.type == "DELETED" or _trouble(item.decode()) != _trouble(before.decode()):
                self._rounds.touch(item.name)
        elif table.resource == self._pods.table and self._troubled and change.type != "DELETED":
            node = item.decode()["spec"].get("nodeName")
            if node in self._troubled:
                self._rounds.touch(node)

    async def _reconcile(self, name: str) -> float | None:
        self._troubled.discard(name)
        node = self._own.find(self._nodes, name)
        taints, is_silent = _trouble(node) if node is not None else ([], False)
        if not taints and not is_silent:
            self._since.pop(name, None)
            return None
        self._troubled.add(name)
        now, again = self._own.wall(), None
        taints = self._dated(name, taints, now_text(now))
        text = f'"nodeName":"{name}"'.encode()
        for pod in [item.decode() for item in self._own.items(self._pods) if text in item.body]:
            if pod["spec"].get("nodeName") != name or not is_active(pod):
                continue
            if is_silent and is_ready(pod):
                await self._unready(pod, name)
            at = eviction_time(taints, pod["spec"].get("tolerations") or ())
            if at is not None and at <= now:
                await self._own.say(pod, "TaintManagerEviction", f"Marking for deletion Pod {_full(pod)}")
                await self._own.delete(self._pods, pod)
                logger.warning("api.pod.evicted pod=%s node=%s: it does not tolerate the node's taints", _full(pod), name)
            elif at is not None:
                again = at - now if again is None else min(again, at - now)
        return again

    def _dated(self, node: str, taints: Sequence[Object], now: str) -> list[Object]:
        """The taints with the time each came at; for one that does not tell, as those of kubectl, when it was first seen."""
        known = self._since.get(node, {})
        marks = [(each.get("key", ""), each.get("value", "")) for each in taints]
        since = self._since[node] = {mark: known.get(mark, now) for mark in marks}
        return [{**each, "timeAdded": each.get("timeAdded") or since[mark]} for mark, each in zip(marks, taints, strict=True)]

    async def _unready(self, pod: Object, node: str) -> None:
        """Nobody knows of a pod on a silent node whether it serves."""

        def unready(old: Object) -> Object:
            for each in (old.get("status") or {}).get("conditions") or ():
                if each.get("type") == "Ready" and each.get("status") == "True":
                    each |= {"status": "False", "lastTransitionTime": now_text(self._own.wall())}
            return old

        metadata = pod["metadata"]
        await self._own.objects.change(self._pods, metadata["name"], metadata["namespace"], unready, subresource="status")
        await self._own.say(pod, "NodeNotReady", f"Node {node} is not ready", is_warning=True)


def _trouble(node: Object) -> tuple[list[Object], bool]:
    """A node's NoExecute taints, and whether its agent fell silent."""
    taints = [each for each in (node.get("spec") or {}).get("taints") or () if each.get("effect") == NO_EXECUTE]
    return taints, condition(node, "Ready").get("status") == "Unknown"


def _full(pod: Object) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
