"""Pods down to the nodes they are bound to, whole and to nobody else, until the node said that nothing of them runs any more."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from pinnace.cloud.controllers.answers import typed
from pinnace.cloud.controllers.items import Item, Known, digest_of
from pinnace.cloud.controllers.sync import SyncController
from pinnace.cloud.kube.resources import PODS
from pinnace.cloud.ports import Downlink, KubeApi, Object
from pinnace.cloud.watch import Change, KeyWorkers, ObjectCache
from pinnace.cloud.watch.cache import Identity
from pinnace.core.base.contract.envelopes import Operation
from pinnace.core.base.contract.keys import EDGE_NODE_LABEL, NodeName

logger = logging.getLogger(__name__)

_CHANGES_BY_ITSELF = frozenset({"resourceVersion", "generation", "managedFields"})


def node_of(pod: Object) -> NodeName:
    """The node a pod is bound to, "" while it is bound to none."""
    return NodeName((pod.get("spec") or {}).get("nodeName") or "")


def is_edge(node: Object | None) -> bool:
    return node is not None and EDGE_NODE_LABEL in (node["metadata"].get("labels") or {})


def pod_digest(pod: Object) -> str:
    """What of a pod concerns its node: everything but the status, which comes from there, and what changes by itself."""
    return digest_of([{key: value for key, value in pod["metadata"].items() if key not in _CHANGES_BY_ITSELF}, pod.get("spec")])


def pod_trim(nodes: ObjectCache) -> Callable[[Object], None]:
    """A cache's `trim`. A pod bound to a node that is no edge node, or to none, is only remembered with its identity and node: of the
    pods of a big cluster most are of no concern here. One whose Node is not known (yet) is kept whole."""

    def trim(pod: Object) -> None:
        pod["metadata"].pop("managedFields", None)
        name = node_of(pod)
        node = nodes.get("", name) if name else None
        if name and (node is None or is_edge(node)):
            return
        pod.pop("status", None)
        pod["metadata"] = {key: value for key, value in pod["metadata"].items() if key in {"name", "namespace", "uid", "resourceVersion"}}
        pod["spec"] = {"nodeName": name} if name else {}

    return trim


def is_whole(pod: Object) -> bool:
    """Whether a cached pod was not trimmed."""
    return "containers" in (pod.get("spec") or {})


def readiness(status: Any) -> str | None:
    """The status of the Ready condition in a pod's status or a patch of it."""
    conditions = status.get("conditions") if isinstance(status, dict) else None
    for each in conditions if isinstance(conditions, list) else ():
        if isinstance(each, dict) and each.get("type") == "Ready":
            return str(each.get("status"))
    return None


class PodController:
    """An `ItemSource` for Pod. Added after the sources of what pods use, so that this comes before the pod."""

    kinds = frozenset({PODS.kind})

    def __init__(self, api: KubeApi, sync: SyncController, *, pods: ObjectCache, nodes: ObjectCache) -> None:
        self._api = api
        self._sync = sync
        self._pods = pods
        self._bound: defaultdict[NodeName, set[Identity]] = defaultdict(set)
        self._ready: dict[str, str] = {}
        self.workers: KeyWorkers[NodeName] = KeyWorkers("pods.whole", self._fetch)
        pods.on_change(self._pod_changed)
        nodes.on_change(self._node_changed)
        sync.add_source(self)

    def is_ready(self) -> bool:
        return self._pods.is_synced

    def wanted(self, node: NodeName, known: Iterable[Known]) -> list[Item]:
        found = (self._pods.get(*each) for each in sorted(self._bound.get(node, ())))
        return [_item(pod) for pod in found if pod is not None and is_whole(pod)]

    def removed(self, node: NodeName, known: Known) -> list[Downlink]:
        return []

    def of_node(self, node: NodeName, namespace: str) -> list[Object]:
        """The pods of a node in a namespace."""
        found = (self._pods.get(*each) for each in self._bound.get(node, ()) if each.namespace == namespace)
        return [pod for pod in found if pod is not None]

    def reported(self, uid: str, status: Any) -> None:
        """A node is about to say this of its pod: when the API shows another readiness later, it was not the node that said so."""
        ready = readiness(status)
        if ready is not None:
            self._ready[uid] = ready

    def _pod_changed(self, change: Change) -> None:
        old, new = change.old, change.new
        is_another = old is not None and (new is None or new["metadata"]["uid"] != old["metadata"]["uid"])
        if old is not None and (is_another or (new is not None and node_of(new) != node_of(old))):
            self._bound[node_of(old)].discard(change.key)
            if not self._bound[node_of(old)]:
                del self._bound[node_of(old)]
        if old is not None and is_another:
            self._ready.pop(old["metadata"]["uid"], None)
            if node_of(old) and is_whole(old):
                self._sync.withdraw(node_of(old), _item(old))
        if new is None or not node_of(new):
            return
        self._bound[node_of(new)].add(change.key)
        if not is_whole(new):
            return
        if old is not None and not is_another and self._is_unsaid(old, new):
            self._sync.forget_sent(node_of(new), new["metadata"]["uid"])
        self._sync.offer(node_of(new), _item(new))

    def _is_unsaid(self, old: Object, new: Object) -> bool:
        """Whether somebody else than the node changed the pod's readiness: the node, once told, says again how it is."""
        before, after = readiness(old.get("status")), readiness(new.get("status"))
        return before is not None and before != after and after != self._ready.setdefault(new["metadata"]["uid"], before)

    def _node_changed(self, change: Change) -> None:
        if is_edge(change.new) and change.old is not None and not is_edge(change.old):
            self.workers.touch(NodeName(change.key.name))

    async def _fetch(self, node: NodeName) -> None:
        """Read the pods of a node that became an edge node with pods already on it."""
        if all(is_whole(pod) for key in self._bound.get(node, ()) if (pod := self._pods.get(*key)) is not None):
            return
        for pod in (await self._api.list(PODS, field_selector=f"spec.nodeName={node}"))[0]:
            self._pods.renew(pod)
        self._sync.touch(node)


def _item(pod: Object) -> Item:
    made = typed(pod, PODS)
    # One that is already ending when a node hears of it comes as an update, as upstream sends it.
    first = Operation.UPDATE if "deletionTimestamp" in pod["metadata"] else Operation.INSERT
    return Item(PODS, made, pod_digest(pod), first=first)
