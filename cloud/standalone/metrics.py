"""metrics.k8s.io/v1beta1, for `kubectl top`: every answer is made of what the nodes say of themselves (/stats/summary)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Final

import orjson

from pinnace.cloud.standalone.kinds import Kind
from pinnace.cloud.standalone.kubelets import Kubelets
from pinnace.cloud.standalone.negotiation import negotiate, rendered
from pinnace.cloud.standalone.reading import Filter
from pinnace.cloud.standalone.requests import Answer, Request, Target
from pinnace.cloud.standalone.state import Item, Object, State
from pinnace.cloud.standalone.status import ApiError, not_found

logger = logging.getLogger(__name__)

FRESH_SECONDS: Final = 5.0
"""For so long a node's summary is used again."""
ANSWER_SECONDS: Final = 10.0
SUMMARY_BYTES: Final = 4 << 20
_PARALLEL: Final = 16
_WINDOW: Final = "10s"


class Metrics:
    """Answers get and list of NodeMetrics and PodMetrics. Nodes that do not answer are left out, as Kubernetes does."""

    def __init__(self, state: State, kubelets: Kubelets, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._state = state
        self._kubelets = kubelets
        self._clock = clock
        self._summaries: dict[str, tuple[float, Object]] = {}
        self._slots = asyncio.Semaphore(_PARALLEL)

    async def answer(self, request: Request, target: Target) -> Answer:
        _, as_yaml = negotiate(request)
        kind = target.kind
        if target.verb == "get":
            items = await self._measured(kind, self._items(kind, target.scope, target.name))
            if not items:
                raise not_found(kind.group, kind.plural, target.name)
            return rendered(request, {"kind": kind.kind, "apiVersion": kind.api_version, **items[0]}, as_yaml=as_yaml)
        wanted = Filter(request, kind)
        chosen = [item for item in self._items(kind, target.namespace, "") if wanted.matches(item)]
        body = {"kind": kind.list_name, "apiVersion": kind.api_version, "metadata": {}, "items": await self._measured(kind, chosen)}
        return rendered(request, body, as_yaml=as_yaml)

    def _items(self, kind: Kind, namespace: str | None, name: str) -> list[Item]:
        """The Nodes or Pods themselves."""
        table = self._state.table(kind.plural)
        if name:
            item = table.get(namespace or "", name)
            return [item] if item is not None else []
        return list(table.items(namespace if kind.namespaced else ""))

    async def _measured(self, kind: Kind, items: list[Item]) -> list[Object]:
        pairs = [(item, item.name if kind.plural == "nodes" else _node_of(item)) for item in items]
        names = {node for _, node in pairs if node}
        summaries = dict(zip(names, await asyncio.gather(*(self._summary(node) for node in names)), strict=True))
        found = []
        for item, node in pairs:
            summary = summaries.get(node) or {}
            made = _node_usage(summary) if kind.plural == "nodes" else _pod_usage(summary, item)
            if made is not None:
                found.append({"metadata": _metadata(item), **made})
        return found

    async def _summary(self, node: str) -> Object:
        """A node's /stats/summary; {} when it does not answer."""
        at, known = self._summaries.get(node, (float("-inf"), {}))
        if self._clock() - at < FRESH_SECONDS:
            return known
        try:
            async with self._slots, asyncio.timeout(ANSWER_SECONDS):
                answered = await self._kubelets.ask(node, "/stats/summary")
                body = await answered.text(SUMMARY_BYTES)
            if answered.head.status != 200:
                raise ValueError(body[:300].decode(errors="replace").strip())
            summary = orjson.loads(body)
            if not isinstance(summary, dict):
                raise ValueError("no JSON object")  # noqa: TRY004 - as all that is no summary
        except (ApiError, TimeoutError, ValueError) as error:
            logger.info("api.metrics.missing node=%s reason=%s", node, str(error) or type(error).__name__)
            self._summaries.pop(node, None)
            return {}
        self._summaries[node] = (self._clock(), summary)
        return summary


def _node_of(item: Item) -> str:
    return str((item.decode().get("spec") or {}).get("nodeName") or "")


def _metadata(item: Item) -> Object:
    metadata: Object = {"name": item.name}
    if item.namespace:
        metadata["namespace"] = item.namespace
    if item.labels:
        metadata["labels"] = dict(item.labels)
    metadata["creationTimestamp"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return metadata


def _node_usage(summary: Object) -> Object | None:
    return _usage_of(summary.get("node") or {})


def _pod_usage(summary: Object, item: Item) -> Object | None:
    for pod in summary.get("pods") or ():
        reference = pod.get("podRef") or {}
        if (reference.get("namespace"), reference.get("name")) == (item.namespace, item.name):
            usages = [(each.get("name", ""), _usage_of(each)) for each in pod.get("containers") or ()]
            listed = [{"name": name, "usage": usage["usage"]} for name, usage in usages if usage is not None]
            at = next((usage for _, usage in usages if usage is not None), None)
            return {"timestamp": at["timestamp"], "window": at["window"], "containers": listed} if at is not None else None
    return None


def _usage_of(entry: Object) -> Object | None:
    cpu, memory = entry.get("cpu") or {}, entry.get("memory") or {}
    nanos, size = cpu.get("usageNanoCores"), memory.get("workingSetBytes")
    if not isinstance(nanos, int) or not isinstance(size, int):
        return None
    usage: dict[str, Any] = {"cpu": f"{nanos}n", "memory": f"{size >> 10}Ki"}
    return {"timestamp": cpu.get("time"), "window": _WINDOW, "usage": usage}
