"""What the streams need of the other services; `agent.py` hands it in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pinnace.core.base.pod import Object, Pod


class PodBook(Protocol):
    """The pods of this node."""

    def pods(self) -> Sequence[Pod]:
        """With their newest status."""
        ...

    def recent_events(self, pod_uid: str = "") -> Sequence[Object]:
        """The last Event objects of a pod, of the node itself for ""; the oldest first."""
        ...


class Shelf(Protocol):
    """What `pinnace get` shows besides pods, as decoded Kubernetes objects from the store."""

    def node(self) -> Object | None: ...

    def devices(self) -> Sequence[Object]: ...
