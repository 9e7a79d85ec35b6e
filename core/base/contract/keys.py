"""Addresses: a route's `resource` string parsed once into a `ResourceKey`, and formatted once (docs/protocol.md, resource grammar)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple, NewType

NodeName = NewType("NodeName", str)

NO_NAMESPACE = "null"
"""What stands in a wire resource for the namespace of a cluster-scoped object."""

EDGE_NODE_LABEL = "node-role.kubernetes.io/edge"
"""The label, with an empty value, that makes a Node an edge node."""

NODE_COMMON_NAME = "system:node:"
"""Prefix of the common name in a node's certificate."""

LOCAL_POD_STATUS = "podstatus"
"""The kind of the rows in which a node keeps its pods' last statuses for itself."""

LOCAL_KINDS = frozenset({LOCAL_POD_STATUS})
"""Kinds of rows that are the node's own: the cloud is not told of them and cannot write them."""

NODE_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
"""A DNS subdomain, as Kubernetes wants for node names; use `fullmatch`."""


class ResourceKey(NamedTuple):
    """What a message is about. Cluster-scoped objects have namespace "".

    Ordinary objects have their lower-case kind (`pod`, `configmap`, `device`, ...). Device traffic that is not about an object has the
    kinds `twin/edge_updated`, `twin/cloud_updated`, `state/update`, with the device's namespace ("" for a one-level id) and name.
    Everything else (`node`, `membership`, `membership/detail`, `twin`, `k8s/ca.crt`, MQTT topics, task strings) is one kind with neither.
    """

    kind: str
    namespace: str = ""
    name: str = ""

    def __str__(self) -> str:
        return format_resource(self)


_DEVICE_SUFFIXES = ("twin/edge_updated", "twin/cloud_updated", "state/update")


CACHED_CHARACTERS = 512
"""Longer resources are not remembered: what a peer sends must not fill the memory. Kubernetes' own names stay below it."""


def parse_resource(resource: str) -> ResourceKey:
    """The key of a wire resource: already trimmed of `node/<node>/`."""
    return _remembered(resource) if len(resource) <= CACHED_CHARACTERS else _parse(resource)


def _parse(resource: str) -> ResourceKey:
    if resource.startswith("device/"):
        for suffix in _DEVICE_SUFFIXES:
            if resource.endswith("/" + suffix):
                identity = resource[len("device/") : -len(suffix) - 1].split("/", 2)
                if len(identity) == 1:
                    return ResourceKey(suffix, "", identity[0])
                if len(identity) == 2:
                    return ResourceKey(suffix, identity[0], identity[1])
    parts = resource.split("/", 3)
    if len(parts) == 3 and all(parts) and parts[0] != "membership":
        namespace = "" if parts[0] == NO_NAMESPACE else parts[0]
        return ResourceKey(parts[1], namespace, parts[2])
    return ResourceKey(resource)


_remembered = lru_cache(maxsize=4096)(_parse)


def format_resource(key: ResourceKey) -> str:
    """The wire resource of a key; the inverse of `parse_resource`."""
    if key.kind in _DEVICE_SUFFIXES:
        identity = f"{key.namespace}/{key.name}" if key.namespace else key.name
        return f"device/{identity}/{key.kind}"
    if not key.name:
        return key.kind
    return f"{key.namespace or NO_NAMESPACE}/{key.kind}/{key.name}"


class DeviceId(NamedTuple):
    """A device: `<namespace>/<name>` in KubeEdge from 1.17 on, the bare name before."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"
