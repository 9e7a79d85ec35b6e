"""The life of nodes: one whose lease is 40 s old is Unknown and tainted unreachable; a healthy one is freed (as Kubernetes does)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from pinnace.cloud.standalone.controllers.podfacts import moment
from pinnace.cloud.standalone.kinds import Kind
from pinnace.cloud.standalone.objects import Objects, equal, now_text
from pinnace.cloud.standalone.state import Object
from pinnace.cloud.standalone.status import ApiError

logger = logging.getLogger(__name__)

GRACE_SECONDS = 40.0
LOOK_SECONDS = 2.0
UNREACHABLE = "node.kubernetes.io/unreachable"
NOT_READY = "node.kubernetes.io/not-ready"
_CONDITIONS = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")


class Nodes:
    """Looks at leases every two seconds. Times are judged by when *this* server saw a lease or node change, not by the node's clock."""

    def __init__(
        self,
        objects: Objects,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        self._objects = objects
        self._now = now
        self._sleep = sleep
        self._grace = grace_seconds
        self._seen: dict[str, tuple[str, str, float]] = {}

    async def run(self) -> None:
        while True:
            await self.look()
            await self._sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Judge every node once."""
        nodes = self._objects.state.table("nodes")
        names = [item.name for item in nodes.items("")]
        for gone in self._seen.keys() - set(names):
            del self._seen[gone]
        for name in names:
            try:
                await self._judge(name)
            except ApiError as error:
                if error.code not in {404, 409}:
                    logger.warning("api.node.failed name=%s error=%s", name, error.message)

    async def _judge(self, name: str) -> None:
        item = self._objects.state.table("nodes").get("", name)
        if item is None:
            return
        node = item.decode()
        lease = self._objects.state.table("leases.coordination.k8s.io").get("kube-node-lease", name)
        renewed = (lease.decode().get("spec") or {}).get("renewTime", "") if lease is not None else ""
        ready: Object = next((each for each in (node.get("status") or {}).get("conditions") or () if each.get("type") == "Ready"), {})
        beat = ready.get("lastHeartbeatTime") or ""
        before = self._seen.get(name)
        if before is None:
            # After a restart the clocks say how old the news is; a node just registered gets the whole grace.
            newest = max(moment(renewed), moment(beat), moment(node["metadata"].get("creationTimestamp")))
            age = min(max(0.0, time.time() - newest), self._grace)
            self._seen[name] = before = (renewed, beat, self._now() - age)
        elif (renewed, beat) != before[:2]:
            self._seen[name] = before = (renewed, beat, self._now())
        is_silent = self._now() - before[2] >= self._grace
        kind = self._objects.registry.get("", "v1", "nodes")
        assert kind is not None
        if is_silent and ready.get("status") != "Unknown":
            await self._objects.change(kind, name, "", _unknown, subresource="status")
            fresh = next(each for each in _unknown(node)["status"]["conditions"] if each["type"] == "Ready")
            self._seen[name] = (renewed, fresh.get("lastHeartbeatTime") or "", before[2])
            logger.warning("api.node.silent name=%s seconds=%.0f: its lease was not renewed", name, self._now() - before[2])
        await self._taint(kind, name)

    async def _taint(self, kind: Kind, name: str) -> None:
        item = self._objects.state.table("nodes").latest("", name)
        if item is None:
            return
        node = item.decode()
        if not equal(_taints(node), (node.get("spec") or {}).get("taints") or []):
            await self._objects.change(kind, name, "", _tainted)


def _unknown(node: Object) -> Object:
    """The node with all that its agent reports set to Unknown."""
    status = dict(node.get("status") or {})
    found = {each["type"]: each for each in status.get("conditions") or ()}
    listed = []
    for kind in [*_CONDITIONS, *(kind for kind in found if kind not in _CONDITIONS)]:
        old = found.get(kind)
        if kind not in _CONDITIONS or (old is not None and old.get("status") == "Unknown"):
            listed.append(old)
            continue
        reason, message = "NodeStatusUnknown", "Kubelet stopped posting node status."
        if old is None:
            reason, message = "NodeStatusNeverUpdated", "Kubelet never posted node status."
        listed.append({
            "type": kind, "status": "Unknown",
            "lastHeartbeatTime": (old or {}).get("lastHeartbeatTime") or node["metadata"]["creationTimestamp"],
            "lastTransitionTime": now_text(), "reason": reason, "message": message,
        })  # fmt: skip
    return {**node, "status": {**status, "conditions": listed}}


def _taints(node: Object) -> list[Object]:
    """The taints the node should have by its Ready condition; others are kept."""
    now = now_text()
    taints: list[Object] = list((node.get("spec") or {}).get("taints") or ())
    ready = next((each.get("status") for each in (node.get("status") or {}).get("conditions") or () if each.get("type") == "Ready"), None)
    wanted = {("Unknown"): UNREACHABLE, "False": NOT_READY}.get(str(ready)) if ready is not None else None
    kept = [each for each in taints if each.get("key") not in {UNREACHABLE, NOT_READY} or each.get("key") == wanted]
    if wanted is not None:
        for effect in ("NoSchedule", "NoExecute"):
            if not any(each.get("key") == wanted and each.get("effect") == effect for each in kept):
                kept.append({"key": wanted, "effect": effect, "timeAdded": now})
    return kept


def _tainted(node: Object) -> Object:
    spec = dict(node.get("spec") or {})
    taints = _taints(node)
    if taints:
        spec["taints"] = taints
    else:
        spec.pop("taints", None)
    return {**node, "spec": spec}
