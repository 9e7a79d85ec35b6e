"""The ports through which cloudcore's parts meet; `server.py` wires them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from pinnace.core.base.contract.keys import NodeName, ResourceKey
from pinnace.ext.records import Envelope

Object = dict[str, Any]
"""A Kubernetes object as decoded JSON."""
Patch = bytes | Object | list[Object]
"""The body of a patch: encoded JSON, a merge patch, or a JSON patch."""


class Resource(NamedTuple):
    """A kind as the API serves it: group ("" for core), version, plural name, kind, and whether it lives in namespaces."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


class WatchEvent(NamedTuple):
    """One line of a watch: type ADDED, MODIFIED, DELETED, BOOKMARK or ERROR, and the object it carries."""

    type: str
    object: Object


class KubeApi(Protocol):
    """The API server, whichever it is. Every call raises RemoteError with the API's reason and code (404 NotFound, 409 Conflict, ...),
    LinkError when the server cannot be reached."""

    async def get(self, resource: Resource, name: str, namespace: str = "", *, subresource: str = "") -> Object: ...

    async def list(
        self, resource: Resource, namespace: str = "", *, label_selector: str = "", field_selector: str = ""
    ) -> tuple[list[Object], str]:
        """All objects (paged underneath, kind and apiVersion filled in) and the list's resource version."""
        ...

    def watch(
        self, resource: Resource, namespace: str = "", *, resource_version: str, label_selector: str = ""
    ) -> AsyncIterator[WatchEvent]:
        """Events after `resource_version` until the server ends the stream; 410 Gone raises RemoteError(code=410)."""
        ...

    async def create(self, resource: Resource, body: Object, namespace: str = "", *, name: str = "", subresource: str = "") -> Object: ...

    async def replace(self, resource: Resource, body: Object, name: str, namespace: str = "", *, subresource: str = "") -> Object: ...

    async def patch(
        self,
        resource: Resource,
        name: str,
        patch: Patch,
        namespace: str = "",
        *,
        content_type: str = "application/merge-patch+json",
        subresource: str = "",
    ) -> Object: ...

    async def delete(self, resource: Resource, name: str, namespace: str = "", *, body: Object | None = None) -> Object: ...


@dataclass(slots=True)
class Downlink:
    """One push to a node. `key` is trimmed of the node. With `acknowledged`, the hub repeats it until the node stored it and then calls
    its `stored` listener; it is kept latest-per-`uid` (a query's answer by its own id). Without, it is sent once if the node is there."""

    key: ResourceKey
    operation: str
    body: bytes
    source: str
    group: str
    resource_version: str = ""
    uid: str = ""
    parent_id: str = ""
    acknowledged: bool = True
    digest: str = ""
    """Comes back with `stored`: what of the content the sync controller remembers. The hub does not look at it."""


class NodeHub(Protocol):
    """All connected nodes, as the controllers see them."""

    def push(self, node: NodeName, message: Downlink) -> None:
        """Queue for a node. Acknowledged messages for an absent node are dropped here: the API objects and ObjectSyncs are the durable
        truth, and the sync controller sends them when the node connects."""
        ...

    def connected(self) -> frozenset[NodeName]: ...

    def disconnect(self, node: NodeName, reason: str) -> None: ...


class UplinkHandler(Protocol):
    """What the hub calls for a message of a node that is neither keepalive nor acknowledgement. `key` is the parsed, node-less address.
    The answers are sent back in order. An exception is logged with the message's id and answers nothing."""

    async def __call__(self, node: NodeName, key: ResourceKey, message: Envelope) -> list[Envelope]: ...


StoredListener = Callable[[NodeName, Downlink], Awaitable[None]]
"""Called when a node confirmed that an acknowledged push is durable there."""

ConnectionListener = Callable[[NodeName, bool], Awaitable[None]]
"""Called with True after a node's session began and False after it ended."""


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """Who a connection speaks for, by its certificate. `wire` is our own wire version offered in the upgrade, 0 for an upstream edge;
    `machine` its machine-id, "" where it tells none."""

    node: NodeName
    project: str = ""
    wire: int = 0
    machine: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
