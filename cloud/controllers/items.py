"""The objects a node should have and the records of those it has: what is compared, and the messages that make up for the difference. Pure.

A record is an ObjectSync (ClusterObjectSync for cluster-scoped objects), named `<node>.<uid>`, with the object's resource version in its
status as KubeEdge keeps it and, beside it, `objectDigest`: a digest of what was sent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import orjson

from pinnace.cloud.ports import Downlink, Object, Resource
from pinnace.cloud.watch import version_number
from pinnace.core.base.contract.envelopes import Group, Operation, Source
from pinnace.core.base.contract.keys import NodeName, ResourceKey


@dataclass(frozen=True, slots=True)
class Item:
    """An object a node should have, as it is to be sent. `digest` stands for the content that matters to the node; `preface` makes what
    goes out just before the object, each time it is sent."""

    resource: Resource
    object: Object
    digest: str
    source: str = Source.EDGECONTROLLER
    first: str = Operation.INSERT
    preface: Callable[[], list[Downlink]] | None = None

    @property
    def uid(self) -> str:
        return str(self.object["metadata"]["uid"])

    @property
    def version(self) -> str:
        return str(self.object["metadata"].get("resourceVersion", ""))


@dataclass(frozen=True, slots=True)
class Known:
    """What a node is known to have of an object, from its sync object."""

    node: NodeName
    uid: str
    kind: str
    namespace: str
    name: str
    version: str
    digest: str
    at: int = 0
    """The sync object's own resource version: of two records the one with the greater is the later."""

    @property
    def sync_name(self) -> str:
        return f"{self.node}.{self.uid}"


class ItemSource(Protocol):
    """A controller that says what nodes should have of the kinds it governs."""

    kinds: frozenset[str]

    def is_ready(self) -> bool:
        """Whether its caches are in; before that nothing is sent and, above all, nothing deleted."""
        ...

    def wanted(self, node: NodeName, known: Iterable[Known]) -> list[Item]:
        """In the order of sending. `known` are the objects of its kinds the node has."""
        ...

    def removed(self, node: NodeName, known: Known) -> list[Downlink]:
        """What goes out before the `delete` of an object the node should no longer have."""
        ...


def digest_of(value: Any) -> str:
    """A short digest of a JSON value, whatever the order of its keys."""
    return hashlib.blake2b(orjson.dumps(value, option=orjson.OPT_SORT_KEYS), digest_size=12).hexdigest()


def content_digest(obj: Object) -> str:
    """The digest of an object without what changes by itself."""
    metadata = {key: value for key, value in obj["metadata"].items() if key not in {"resourceVersion", "managedFields", "generation"}}
    return digest_of({**obj, "metadata": metadata})


def parse_sync(obj: Object) -> Known | None:
    """A sync object as a record, None when its name is not `<node>.<uid>`."""
    node, dot, uid = obj["metadata"]["name"].rpartition(".")
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    if not dot or not node:
        return None
    return Known(
        NodeName(node), uid, str(spec.get("objectKind", "")), obj["metadata"].get("namespace", ""), str(spec.get("objectName", "")),
        str(status.get("objectResourceVersion", "")), str(status.get("objectDigest", "")),
        version_number(obj["metadata"].get("resourceVersion", "")),
    )  # fmt: skip


def is_behind(known: Known | None, item: Item) -> bool:
    """Whether a node that has `known` should be sent `item`. Without a digest (an upstream cloudcore wrote it) versions decide."""
    if known is None or known.version in {"", "0"}:
        return True
    if known.digest:
        return known.digest != item.digest
    return version_number(item.version) > version_number(known.version)


def downlink_of(item: Item, *, is_first: bool) -> Downlink:
    metadata = item.object["metadata"]
    return Downlink(
        key=ResourceKey(item.resource.kind.lower(), metadata.get("namespace", ""), metadata["name"]),
        operation=item.first if is_first else Operation.UPDATE,
        body=orjson.dumps(item.object),
        source=item.source,
        group=Group.RESOURCE,
        resource_version=item.version,
        uid=item.uid,
        digest=item.digest,
    )


def withdrawal_of(item: Item) -> Downlink:
    """The `delete` with the whole object, as it last was."""
    return replace(downlink_of(item, is_first=False), operation=Operation.DELETE, digest="")


def deletion_of(known: Known, source: str) -> Downlink:
    metadata = {"name": known.name, "uid": known.uid} | ({"namespace": known.namespace} if known.namespace else {})
    return Downlink(
        key=ResourceKey(known.kind.lower(), known.namespace, known.name),
        operation=Operation.DELETE,
        body=orjson.dumps({"metadata": metadata}),
        source=source,
        group=Group.RESOURCE,
        uid=known.uid,
    )
