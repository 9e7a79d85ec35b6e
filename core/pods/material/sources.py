"""The API objects pods are made from: out of the store, and out of the cloud when the store has never had them.

What is asked for is stored before it is used or acknowledged (docs/protocol.md, config maps and secrets). One query an object at a time;
a failed one is not repeated before its back-off is over or the link came back. A push of the object ends the wait as well.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

import orjson

from pinnace.core.base.aio.backoff import Backoff
from pinnace.core.base.aio.clock import Clock
from pinnace.core.base.contract.answers import object_of
from pinnace.core.base.contract.envelopes import Envelope, Group, Operation, Source, ack, new
from pinnace.core.base.contract.keys import ResourceKey, format_resource
from pinnace.core.base.errors import LinkError, PinnaceError, RemoteError, StoreError
from pinnace.core.base.pod import Object
from pinnace.core.base.ports import ObjectChange, ObjectStore, Uplink

logger = logging.getLogger(__name__)

QUERY_SECONDS: Final = 15.0
FAILURES_BOUND: Final = 512
"""Failed queries that are remembered; the oldest is forgotten first and may then be asked again at once."""


class SourceMissing(PinnaceError):
    """An object cannot be had now. `is_absent`: the cloud says that there is none."""

    retryable = True

    def __init__(self, message: str, *, is_absent: bool = False) -> None:
        super().__init__(message)
        self.is_absent = is_absent


class _Failure(NamedTuple):
    error: SourceMissing
    backoff: Backoff
    until: float


class Queries:
    """Questions to the cloud, one of a key at a time, with back-off."""

    def __init__(self, uplink: Uplink, clock: Clock) -> None:
        self._uplink = uplink
        self._clock = clock
        self._running: dict[ResourceKey, asyncio.Task[Object]] = {}
        self._failures: OrderedDict[ResourceKey, _Failure] = OrderedDict()

    @property
    def connected(self) -> bool:
        return self._uplink.connected

    def forgive(self, key: ResourceKey | None = None) -> None:
        """Ask again at once: for one key, or for all when the link is back."""
        if key is None:
            self._failures.clear()
        else:
            self._failures.pop(key, None)

    def start(self, key: ResourceKey, ask: Callable[[], Awaitable[Object]], *, what: str) -> asyncio.Task[Object]:
        """The query that is under way, or a new one; `what` is how people call it. Raises SourceMissing while it is too early or there is
        no link."""
        running = self._running.get(key)
        if running is not None:
            return running
        failure = self._failures.get(key)
        if not self._uplink.connected:
            raise SourceMissing(f"{what} is not stored on this node and the cloud cannot be reached; it is asked for when the link is back")
        if failure is not None and self._clock.now() < failure.until:
            raise SourceMissing(str(failure.error), is_absent=failure.error.is_absent)
        task = asyncio.create_task(self._guarded(what, ask), name=f"query {what[:80]}")
        self._running[key] = task
        task.add_done_callback(lambda done: self._ended(key, what, done))
        return task

    async def _guarded(self, what: str, ask: Callable[[], Awaitable[Object]]) -> Object:
        try:
            return await ask()
        except RemoteError as error:
            is_absent = error.reason == "NotFound" or error.code == 404
            raise SourceMissing(f"{what} {'not found' if is_absent else f'cannot be had: {error}'}", is_absent=is_absent) from error
        except (LinkError, StoreError) as error:
            raise SourceMissing(f"{what} cannot be had: {error}") from error

    def _ended(self, key: ResourceKey, what: str, task: asyncio.Task[Object]) -> None:
        self._running.pop(key, None)
        error = None if task.cancelled() else task.exception()
        if error is None:
            self._failures.pop(key, None)
            return
        if not isinstance(error, SourceMissing):
            logger.error("pods.query.failed object=%r", what, exc_info=error)
            error = SourceMissing(f"{what} cannot be had: {type(error).__name__}")
        known = self._failures.pop(key, None)
        backoff = known.backoff if known is not None else Backoff(1.0, 120.0)
        self._failures[key] = _Failure(error, backoff, self._clock.now() + backoff.next())
        if len(self._failures) > FAILURES_BOUND:
            self._failures.popitem(last=False)
        if known is None or str(known.error) != str(error):
            logger.warning("pods.source.missing object=%r reason=%s", what, error)

    async def request(self, resource: str, content: object = None) -> Envelope:
        """Raises LinkError."""
        message = new(Source.EDGED, Group.META, Operation.QUERY, resource, content)
        return await self._uplink.request(message, timeout_seconds=QUERY_SECONDS)

    def acknowledge(self, answer: Envelope) -> None:
        self._uplink.post(ack(answer))


class Sources:
    """Config maps, secrets, claims and persistent volumes as decoded objects."""

    def __init__(self, objects: ObjectStore, queries: Queries) -> None:
        self._objects = objects
        self._queries = queries
        self._arrivals: dict[ResourceKey, asyncio.Event] = {}

    def stored(self, key: ResourceKey) -> Object | None:
        """Raises StoreError when it has to be read back and cannot be."""
        found = self._objects.get(key)
        if found is None:
            return None
        try:
            content = orjson.loads(found.body)
        except orjson.JSONDecodeError:
            return None
        return content if isinstance(content, dict) and isinstance(content.get("metadata"), dict) else None

    async def get(self, key: ResourceKey, *, newest: bool = False) -> Object:
        """The stored object, else the cloud's. With `newest` the cloud is asked first when it is there, and what is stored serves when
        it does not answer. Raises SourceMissing."""
        try:
            held = self.stored(key)
        except StoreError as error:
            raise SourceMissing(f"{named(key)} cannot be read: {error}") from error
        if held is not None and not (newest and self._queries.connected):
            return held
        try:
            return await asyncio.shield(self._queries.start(key, lambda: self._ask(key), what=named(key)))
        except SourceMissing as error:
            if held is None or error.is_absent:
                raise
            return held

    async def needed(self, key: ResourceKey, *, optional: bool) -> Object | None:
        """`get`, and None for an optional one that the cloud does not have, or cannot be asked for. Raises SourceMissing, also for an
        optional one whose query failed: what starts without it would be without it for good."""
        try:
            return await self.get(key)
        except SourceMissing as error:
            if optional and (error.is_absent or not self._queries.connected):
                return None
            raise

    async def changed(self, change: ObjectChange) -> None:
        """A push was stored: for `Sync.on_change` of the four kinds."""
        self._queries.forgive(change.key)
        if change.operation != Operation.DELETE and (arrival := self._arrivals.get(change.key)) is not None:
            arrival.set()

    async def _ask(self, key: ResourceKey) -> Object:
        arrival = self._arrivals[key] = asyncio.Event()
        pushed = asyncio.create_task(arrival.wait())
        answered = asyncio.create_task(self._queries.request(format_resource(key)))
        try:
            await asyncio.wait({pushed, answered}, return_when=asyncio.FIRST_COMPLETED)
            if arrival.is_set() and (held := self.stored(key)) is not None:
                return held
            return await self._keep(key, await answered)
        finally:
            del self._arrivals[key]
            for each in (pushed, answered):
                each.cancel()
            await asyncio.gather(pushed, answered, return_exceptions=True)

    async def _keep(self, key: ResourceKey, answer: Envelope) -> Object:
        """Store what the cloud gave, unless a push was faster with something newer, and acknowledge it."""
        obj = object_of(answer)
        metadata = obj.get("metadata")
        if not isinstance(metadata, dict) or metadata.get("name") != key.name:
            raise RemoteError(f"the cloud's answer is no {named(key)}", reason="InternalError")
        version = answer.resource_version or str(metadata.get("resourceVersion") or "")
        held = self._objects.get(key)
        if held is not None and _is_newer(held.version, version) and (stored := self.stored(key)) is not None:
            obj = stored
        elif held is None or held.version != version or not version:
            operation = Operation.INSERT if held is None else Operation.UPDATE
            await self._objects.apply([ObjectChange(operation, key, version, orjson.dumps(obj))])
        self._queries.acknowledge(answer)
        return obj


def named(key: ResourceKey) -> str:
    """As people say it."""
    return f'{key.kind} "{key.namespace}/{key.name}"' if key.namespace else f'{key.kind} "{key.name}"'


def _is_newer(version: str, than: str) -> bool:
    """Of two versions of one object, as the cloud's own queue compares them."""
    return version.isdecimal() and than.isdecimal() and int(version) > int(than)
