"""A kind's objects as the API server last showed them, kept by one list and then a watch.

A watch that ends is taken up where it stood; one that is too old (410) lists again, and what the list shows as changed, added or vanished
is told like events. Bookmarks move the resume point without an event.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from pinnace.cloud.ports import KubeApi, Object, Resource
from pinnace.core.base.aio.backoff import Backoff
from pinnace.core.base.errors import LinkError, RemoteError

logger = logging.getLogger(__name__)

_SHORT_SECONDS = 1.0
"""A watch that the server ends sooner than this is taken up again with back-off."""


class Identity(NamedTuple):
    """An object's place within its kind; namespace "" for cluster-scoped kinds."""

    namespace: str
    name: str


def identity(obj: Object) -> Identity:
    metadata = obj["metadata"]
    return Identity(metadata.get("namespace", ""), metadata["name"])


def version_number(version: str) -> int:
    """A resource version as a number, 0 for what is none. KubeEdge compares them so on both ends of the wire."""
    return int(version) if version.isdecimal() else 0


def is_newer(obj: Object, than: Object) -> bool:
    """Whether `obj` is a later state than `than`; of objects without numeric versions the first is taken as later."""
    mine = version_number(obj["metadata"].get("resourceVersion", ""))
    other = version_number(than["metadata"].get("resourceVersion", ""))
    return mine > other if mine and other else True


@dataclass(frozen=True, slots=True)
class Change:
    """What happened to an object: `old` is None for a new one, `new` None for one that is gone."""

    key: Identity
    old: Object | None
    new: Object | None


Listener = Callable[[Change], None]
"""Called in the order of the events; it only notes what is to be done and never waits."""


class ObjectCache:
    """A service: `run()` follows the kind for ever. The objects are shared with everybody and must not be changed."""

    def __init__(
        self,
        api: KubeApi,
        resource: Resource,
        *,
        label_selector: str = "",
        backoff: Backoff | None = None,
        trim: Callable[[Object], None] | None = None,
    ) -> None:
        """`trim` may drop parts of an object that nobody reads before it is kept."""
        self.resource = resource
        self._api = api
        self._selector = label_selector
        self._backoff = backoff or Backoff(0.2, 10.0)
        self._trim = trim
        self._objects: dict[Identity, Object] = {}
        self._listeners: list[Listener] = []
        self._synced = asyncio.Event()
        self._version = ""
        self._listed = ""
        self._broken_by = ""
        self._began = math.inf
        self.lists = 0
        """How many times everything was listed; a test's view on "no relist"."""

    def on_change(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def get(self, namespace: str, name: str) -> Object | None:
        return self._objects.get(Identity(namespace, name))

    def renew(self, obj: Object) -> None:
        """Take an object that was read elsewhere, unless it is older than what is here, or gone."""
        known = self._objects.get(identity(obj))
        if known is not None and known["metadata"].get("uid") == obj["metadata"].get("uid") and not is_newer(known, obj):
            self._tell(identity(obj), obj)

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[Object]:
        """The objects of this moment; safe against changes while iterating."""
        return iter(list(self._objects.values()))

    @property
    def is_synced(self) -> bool:
        return self._synced.is_set()

    async def synced(self) -> None:
        """Return once the first list is in."""
        await self._synced.wait()

    async def run(self) -> None:
        while True:
            try:
                if not self._version:
                    await self._list()
                await self._follow()
            except RemoteError as error:
                if error.code == 410:
                    logger.info("watch.expired kind=%s: listing again", self.resource.kind)
                    is_repeated, self._version = self._version == self._listed, ""
                    if not is_repeated:
                        continue
                await self._pause(error)
            except LinkError as error:
                await self._pause(error)

    async def _pause(self, error: Exception) -> None:
        """Wait before the next attempt. What is wrong is said once, and again when it is something else or held for a while."""
        if asyncio.get_running_loop().time() - self._began > _SHORT_SECONDS:
            self._works()
        level = logging.DEBUG if str(error) == self._broken_by else logging.WARNING
        self._broken_by = str(error)
        delay = self._backoff.next()
        logger.log(level, "watch.broken kind=%s retry_in=%.1fs error=%s", self.resource.kind, delay, error)
        await asyncio.sleep(delay)

    def _works(self) -> None:
        self._backoff.reset()
        if self._broken_by:
            self._broken_by = ""
            logger.info("watch.resumed kind=%s", self.resource.kind)

    async def _list(self) -> None:
        items, version = await self._api.list(self.resource, label_selector=self._selector)
        self.lists += 1
        found = {identity(obj): obj for obj in items}
        for key in [key for key in self._objects if key not in found]:
            self._tell(key, None)
        for key, obj in found.items():
            known = self._objects.get(key)
            if known is None or known["metadata"].get("resourceVersion") != obj["metadata"].get("resourceVersion"):
                self._tell(key, obj)
        self._version = self._listed = version
        self._synced.set()

    async def _follow(self) -> None:
        self._began = asyncio.get_running_loop().time()
        async for event in self._api.watch(self.resource, resource_version=self._version, label_selector=self._selector):
            self._works()
            version = event.object["metadata"].get("resourceVersion", "")
            if event.type in {"ADDED", "MODIFIED", "DELETED"}:
                self._tell(identity(event.object), None if event.type == "DELETED" else event.object)
            if version:
                self._version = version
        if asyncio.get_running_loop().time() - self._began < _SHORT_SECONDS:
            await asyncio.sleep(self._backoff.next())

    def _tell(self, key: Identity, new: Object | None) -> None:
        old = self._objects.get(key)
        if new is None:
            if old is None:
                return
            del self._objects[key]
        else:
            if self._trim is not None:
                self._trim(new)
            self._objects[key] = new
        change = Change(key, old, new)
        for listener in self._listeners:
            try:
                listener(change)
            except Exception:  # one listener's fault must not stop the others
                logger.exception("watch.listener-failed kind=%s key=%s/%s", self.resource.kind, *key)


def drop_managed_fields(obj: Object) -> None:
    """A `trim` for all kinds: who last wrote which field is long and read by nobody here."""
    obj["metadata"].pop("managedFields", None)
