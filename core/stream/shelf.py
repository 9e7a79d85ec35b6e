"""What `pinnace get` and `describe` show besides pods: the Node as stored, the devices with their twins."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import orjson

from pinnace.core.base.contract.keys import NodeName, ResourceKey
from pinnace.core.base.pod import Object, Pod
from pinnace.core.base.ports import ObjectStore


class NoPods:
    """Implements ports.PodBook for a node that runs none."""

    def pods(self) -> Sequence[Pod]:
        return ()

    def recent_events(self, pod_uid: str = "") -> Sequence[Object]:
        return ()


class StoredShelf:
    """Implements ports.Shelf. `twins` gives each device as membership tells it, twins included."""

    def __init__(self, node: NodeName, objects: ObjectStore, twins: Callable[[], Sequence[bytes]]) -> None:
        self._node = node
        self._objects = objects
        self._twins = twins

    def node(self) -> Object | None:
        """Raises StoreError."""
        stored = self._objects.get(ResourceKey("node", "", self._node))
        return _decoded(stored.body) if stored is not None else None

    def devices(self) -> Sequence[Object]:
        """Device objects; one that is only known by its twins is told by those. Raises StoreError."""
        twins = {str(each.get("id", "")): each for each in map(_decoded, self._twins())}
        found = []
        for stored in self._objects.list("device"):
            path = f"{stored.key.namespace}/{stored.key.name}"
            entry = twins.pop(path, None) or twins.pop(stored.key.name, None)
            found.append({**_decoded(stored.body), **({"twins": entry} if entry is not None else {})})
        found += [{"metadata": {"name": entry.get("name", path)}, "twins": entry} for path, entry in twins.items()]
        return found


def _decoded(body: bytes) -> Object:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}
