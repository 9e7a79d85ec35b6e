"""ConfigMaps, Secrets and claims down to the nodes whose pods use them, and nothing else of them to anybody."""

from __future__ import annotations

import functools
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable

from pinnace.cloud.controllers.answers import error_answer, forbidden, typed, value_answer
from pinnace.cloud.controllers.items import Item, Known, content_digest
from pinnace.cloud.controllers.references import Reference, references_of
from pinnace.cloud.controllers.sync import SyncController
from pinnace.cloud.kube.resources import CONFIG_MAPS, SECRETS, VOLUME_CLAIMS
from pinnace.cloud.ports import Downlink, KubeApi, Object, Resource
from pinnace.cloud.watch import Change, ObjectCache
from pinnace.cloud.watch.cache import Identity
from pinnace.core.base.contract.envelopes import Operation
from pinnace.core.base.contract.keys import NodeName, ResourceKey
from pinnace.core.base.errors import PinnaceError
from pinnace.ext.records import Envelope

logger = logging.getLogger(__name__)

PROFILE_PREFIX = "device-profile-config-"
"""ConfigMaps of this prefix and a node's name are that node's, whether a pod uses them or not (KubeEdge 1.1's mappers read them)."""
_RESOURCES = {each.kind: each for each in (CONFIG_MAPS, SECRETS, VOLUME_CLAIMS)}
_BY_ADDRESS = {each.kind.lower(): each for each in _RESOURCES.values()}


class ConfigController:
    """An `ItemSource` for ConfigMap, Secret and PersistentVolumeClaim, and the answers to a node's queries for them."""

    kinds = frozenset(_RESOURCES)

    def __init__(self, api: KubeApi, sync: SyncController, *, pods: ObjectCache, caches: Iterable[ObjectCache]) -> None:
        """`caches` are those of the three kinds."""
        self._api = api
        self._sync = sync
        self._pods = pods
        self._caches = {each.resource.kind: each for each in caches}
        self._used: dict[Identity, tuple[NodeName, frozenset[Reference]]] = {}
        self._needs: defaultdict[NodeName, Counter[Reference]] = defaultdict(Counter)
        self._nodes: defaultdict[Reference, Counter[NodeName]] = defaultdict(Counter)
        self._profiles: defaultdict[NodeName, set[Reference]] = defaultdict(set)
        pods.on_change(self._pod_changed)
        for kind, cache in self._caches.items():
            cache.on_change(functools.partial(self._changed, _RESOURCES[kind]))
        sync.add_source(self)

    def is_ready(self) -> bool:
        return self._pods.is_synced and all(cache.is_synced for cache in self._caches.values())

    def needs(self, node: NodeName) -> list[Reference]:
        """What the pods of a node use."""
        return sorted(self._needs.get(node, ()))

    def users(self, reference: Reference) -> list[NodeName]:
        """The nodes whose pods use it."""
        return sorted(self._nodes.get(reference, ()))

    def may_have(self, node: NodeName, reference: Reference) -> bool:
        """Whether a pod of the node uses it, or it is the node's own."""
        if reference in self._needs.get(node, ()):
            return True
        return reference.kind == CONFIG_MAPS.kind and reference.name == PROFILE_PREFIX + node

    def wanted(self, node: NodeName, known: Iterable[Known]) -> list[Item]:
        references = self._needs.get(node, Counter()).keys() | self._profiles.get(node, set())
        found = ((each, self._caches[each.kind].get(each.namespace, each.name)) for each in sorted(references))
        return [_item(_RESOURCES[each.kind], obj) for each, obj in found if obj is not None]

    def removed(self, node: NodeName, known: Known) -> list[Downlink]:
        return []

    async def query(self, node: NodeName, key: ResourceKey, message: Envelope) -> list[Envelope]:
        """`<ns>/<configmap|secret|persistentvolumeclaim>/<name>`: the object from the API, kind and apiVersion filled in."""
        resource = _BY_ADDRESS[key.kind]
        if message.operation != Operation.QUERY:
            return [error_answer(message, f"{key.kind}: {message.operation} is not for nodes")]
        if not self.may_have(node, Reference(resource.kind, key.namespace, key.name)):
            logger.warning("config.refused node=%s resource=%s: none of its pods uses it", node, key)
            return [error_answer(message, forbidden(node, str(key))["message"])]
        try:
            obj = await self._api.get(resource, key.name, key.namespace)
        except PinnaceError as error:
            return [error_answer(message, str(error))]
        sent = _item(resource, obj)
        return [value_answer(message, sent.object, resource_version=sent.version)]

    def _changed(self, resource: Resource, change: Change) -> None:
        reference = Reference(resource.kind, *change.key)
        nodes = set(self._nodes.get(reference, ()))
        if resource is CONFIG_MAPS and change.key.name.startswith(PROFILE_PREFIX):
            owner = NodeName(change.key.name.removeprefix(PROFILE_PREFIX))
            (self._profiles[owner].discard if change.new is None else self._profiles[owner].add)(reference)
            nodes.add(owner)
        for node in nodes:
            if change.new is None:
                self._sync.touch(node)
            else:
                self._sync.offer(node, _item(resource, change.new))

    def _pod_changed(self, change: Change) -> None:
        before = self._used.pop(change.key, None)
        after = _use(change.new)
        if after is not None:
            self._used[change.key] = after
        if before == after:
            return
        if after is not None:
            self._count(*after, 1)
        if before is not None:
            self._count(*before, -1)
        for use in (before, after):
            if use is not None and use[1]:
                self._sync.touch(use[0])

    def _count(self, node: NodeName, references: frozenset[Reference], step: int) -> None:
        for reference in references:
            self._needs[node][reference] += step
            self._nodes[reference][node] += step
            if not self._needs[node][reference]:
                del self._needs[node][reference]
                del self._nodes[reference][node]
            if not self._nodes[reference]:
                del self._nodes[reference]
        if not self._needs[node]:
            del self._needs[node]


def _use(pod: Object | None) -> tuple[NodeName, frozenset[Reference]] | None:
    """Where a pod is and what it uses; None for one that is nowhere."""
    node = ((pod or {}).get("spec") or {}).get("nodeName")
    return (NodeName(node), references_of(pod)) if pod is not None and node else None


def _item(resource: Resource, obj: Object) -> Item:
    made = typed(obj, resource)
    made["metadata"] = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
    # Upstream never sends a Secret as `insert`, and an edge takes `update` for both.
    return Item(resource, made, content_digest(made), first=Operation.UPDATE if resource is SECRETS else Operation.INSERT)
