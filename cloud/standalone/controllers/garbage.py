"""The garbage collector: objects whose owners are gone go too; foreground and orphan deletions are carried out."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import NamedTuple

from pinnace.cloud.standalone.controllers.rounds import Rounds
from pinnace.cloud.standalone.deletion import DeleteOptions, Deletion
from pinnace.cloud.standalone.kinds import Kind
from pinnace.cloud.standalone.objects import Objects
from pinnace.cloud.standalone.state import Change, Item, Object, Table
from pinnace.cloud.standalone.status import ApiError

logger = logging.getLogger(__name__)


class Key(NamedTuple):
    table: str
    namespace: str
    name: str


class Garbage:
    """Knows who owns whom by uid; works through keys that may need something done."""

    def __init__(self, objects: Objects, deletion: Deletion) -> None:
        self._objects = objects
        self._deletion = deletion
        self._alive: dict[str, Key] = {}
        self._owners: dict[Key, frozenset[str]] = {}
        self._dependents: dict[str, set[Key]] = {}
        self._rounds: Rounds[Key] = Rounds("garbage", self._reconcile)
        for table in objects.state.tables():
            for item in table.items(None):
                self._note(Key(table.resource, item.namespace, item.name), item)
        objects.state.subscribe_all(self._changed)

    def _note(self, key: Key, item: Item) -> None:
        self._alive[item.uid] = key
        is_owned = b'"ownerReferences"' in item.body
        if is_owned or key in self._owners:
            owners = (
                frozenset(each.get("uid", "") for each in item.decode()["metadata"].get("ownerReferences") or ())
                if is_owned
                else frozenset()
            )
            self._own(key, owners)
        if self._owners.get(key) or b'"foregroundDeletion"' in item.body or b'"orphan"' in item.body:
            self._rounds.touch(key)

    def _own(self, key: Key, owners: frozenset[str]) -> None:
        before = self._owners.get(key, frozenset())
        for uid in before - owners:
            self._dependents[uid].discard(key)
            if not self._dependents[uid]:
                del self._dependents[uid]
            if uid in self._alive:
                self._rounds.touch(self._alive[uid])
        for uid in owners - before:
            self._dependents.setdefault(uid, set()).add(key)
        if owners:
            self._owners[key] = owners
        else:
            self._owners.pop(key, None)

    def _changed(self, table: Table, change: Change) -> None:
        key = Key(table.resource, change.item.namespace, change.item.name)
        if change.type != "DELETED":
            self._note(key, change.item)
            return
        self._own(key, frozenset())
        if self._alive.get(change.item.uid) == key:
            del self._alive[change.item.uid]
        for dependent in self._dependents.get(change.item.uid, ()):
            self._rounds.touch(dependent)

    async def run(self) -> None:
        await self._rounds.run()

    async def _reconcile(self, key: Key) -> None:
        item = self._objects.state.table(key.table).get(key.namespace, key.name)
        kind = self._objects.registry.by_table(key.table)
        if item is None or kind is None:
            return
        metadata = item.decode()["metadata"]
        if "deletionTimestamp" in metadata:
            finalizers = metadata.get("finalizers") or ()
            if "orphan" in finalizers:
                await self._orphan(kind, item)
            elif "foregroundDeletion" in finalizers:
                await self._foreground(kind, item)
            return
        references = metadata.get("ownerReferences") or []
        if not references:
            return
        living = [each for each in references if self._is_alive(each.get("uid", ""), key.namespace)]
        if not living:
            await self._deletion.delete(kind, key.name, key.namespace, DeleteOptions(policy="Background", uid=item.uid))
            logger.info("api.garbage.collected resource=%s namespace=%s name=%s", *key)
        elif len(living) < len(references):
            await self._disown(kind, key, {each["uid"] for each in references} - {each["uid"] for each in living})
        elif all(self._is_ending(each["uid"]) for each in living):
            await self._deletion.delete(kind, key.name, key.namespace, DeleteOptions(policy="Foreground", uid=item.uid))

    def _is_alive(self, uid: str, namespace: str) -> bool:
        """An owner in another namespace counts as absent."""
        owner = self._alive.get(uid)
        return owner is not None and owner.namespace in {"", namespace}

    def _is_ending(self, uid: str) -> bool:
        """Whether the owner is in a foreground deletion, which takes its dependents first."""
        key = self._alive[uid]
        item = self._objects.state.table(key.table).get(key.namespace, key.name)
        return item is not None and b'"foregroundDeletion"' in item.body and "deletionTimestamp" in item.decode()["metadata"]

    def _living_dependents(self, uid: str) -> Iterator[tuple[Key, Item]]:
        for key in list(self._dependents.get(uid, ())):
            item = self._objects.state.table(key.table).get(key.namespace, key.name)
            if item is not None:
                yield key, item

    async def _foreground(self, kind: Kind, item: Item) -> None:
        is_blocked = False
        for key, dependent in self._living_dependents(item.uid):
            self._rounds.touch(key)
            references = dependent.decode()["metadata"].get("ownerReferences") or ()
            is_blocked = is_blocked or any(each.get("uid") == item.uid and each.get("blockOwnerDeletion") for each in references)
        if not is_blocked:
            await self._release(kind, item, "foregroundDeletion")

    async def _orphan(self, kind: Kind, item: Item) -> None:
        for key, _ in self._living_dependents(item.uid):
            owned = self._objects.registry.by_table(key.table)
            if owned is not None:
                await self._disown(owned, key, {item.uid})
        await self._release(kind, item, "orphan")

    async def _release(self, kind: Kind, item: Item, finalizer: str) -> None:
        def released(obj: Object) -> Object:
            obj["metadata"]["finalizers"] = [each for each in obj["metadata"].get("finalizers", ()) if each != finalizer]
            return obj

        await self._objects.change(kind, item.name, item.namespace, released)

    async def _disown(self, kind: Kind, key: Key, uids: set[str]) -> None:
        def disowned(obj: Object) -> Object:
            references = obj["metadata"].get("ownerReferences", ())
            obj["metadata"]["ownerReferences"] = [each for each in references if each.get("uid") not in uids]
            return obj

        try:
            await self._objects.change(kind, key.name, key.namespace, disowned)
        except ApiError as error:
            if error.code != 404:
                raise
