"""What the controllers of named objects have in common: a round for each object of their kind, begun by what changes around it."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from pinnace.cloud.standalone.controllers.owning import Owning, owner_names
from pinnace.cloud.standalone.controllers.rounds import Rounds
from pinnace.cloud.standalone.deletion import Deletion
from pinnace.cloud.standalone.objects import Objects
from pinnace.cloud.standalone.state import Change, Table

Key = tuple[str, str]
"""(namespace, name)"""


class Controller(ABC):
    """Of one kind. A change of an object makes a round for it; what else does so `_changed` says, `_reconcile` is the round (Rounds)."""

    def __init__(
        self, objects: Objects, deletion: Deletion, component: str, plural: str, group: str = "", *, wall: Callable[[], float] = time.time
    ) -> None:
        self._own = Owning(objects, deletion, component, wall=wall)
        self._kind = self._own.kind(plural, group)
        self._pods = self._own.kind("pods")
        self._rounds: Rounds[Key] = Rounds(component.removesuffix("-controller"), self._reconcile)
        self._touch_all()
        objects.state.subscribe_all(self._heard)

    async def run(self) -> None:
        """For ever."""
        await self._rounds.run()

    @abstractmethod
    def _changed(self, table: Table, change: Change) -> None:
        """An object of another kind changed."""

    @abstractmethod
    async def _reconcile(self, key: Key) -> float | None: ...

    def _heard(self, table: Table, change: Change) -> None:
        if table.resource == self._kind.table:
            self._rounds.touch((change.item.namespace, change.item.name))
        else:
            self._changed(table, change)

    def _touch_all(self, namespace: str | None = None) -> None:
        for item in self._own.items(self._kind, namespace):
            self._rounds.touch((item.namespace, item.name))

    def _touch_owners(self, change: Change) -> None:
        """Of an object that changed: who owns or owned it, and all that may adopt it when nobody does."""
        item = change.item
        for each in owner_names((item, change.previous), self._kind):
            self._rounds.touch(each)
        if b'"controller":true' not in item.body and item.labels:
            self._touch_all(item.namespace)
