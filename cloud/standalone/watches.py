"""Watches: history first, then live changes, one JSON line each; bounded, and a slow reader is dropped (Kubernetes API, watches)."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import AsyncIterator, Callable

import orjson

from pinnace.cloud.standalone.kinds import Kind
from pinnace.cloud.standalone.negotiation import Form, negotiate
from pinnace.cloud.standalone.reading import Filter
from pinnace.cloud.standalone.requests import Answer, Request, Target, integer
from pinnace.cloud.standalone.state import Change, Item, State
from pinnace.cloud.standalone.status import ApiError, Cause, expired, internal, invalid_option
from pinnace.cloud.standalone.views import Views, shaped

logger = logging.getLogger(__name__)

MAX_WAITING = 4096
MAX_WAITING_BYTES = 32 << 20
BOOKMARK_SECONDS = 60.0
LAST_BOOKMARK_SECONDS = 2.0
CHUNK_BYTES = 64 << 10


class Pending:
    """Changes a watch has not sent yet. Beyond the bound it takes no more and calls `overrun` once: the client has to list anew."""

    def __init__(self, overrun: Callable[[], None]) -> None:
        self._overrun = overrun
        self._changes: deque[Change] = deque()
        self._bytes = 0
        self._waiter: asyncio.Future[None] | None = None
        self.is_overrun = False

    def put(self, change: Change) -> None:
        if self.is_overrun:
            return
        self._changes.append(change)
        self._bytes += len(change.item.body)
        if len(self._changes) > MAX_WAITING or self._bytes > MAX_WAITING_BYTES:
            self.is_overrun = True
            self._changes.clear()
            self._overrun()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def take(self) -> Change | None:
        if not self._changes:
            return None
        change = self._changes.popleft()
        self._bytes -= len(change.item.body)
        return change

    async def wait(self, seconds: float) -> None:
        """Until there is a change, or the time is over."""
        if self._changes or self.is_overrun:
            return
        self._waiter = asyncio.get_running_loop().create_future()
        timer = asyncio.get_running_loop().call_later(seconds, _wake, self._waiter)
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class Watches:
    """Answers watch."""

    def __init__(self, state: State, views: Views) -> None:
        self._state = state
        self._views = views
        self.is_closing = False
        self._open: set[Pending] = set()

    def close(self) -> None:
        """End all watches at the next opportunity: the server stops."""
        self.is_closing = True
        for pending in self._open:
            pending.is_overrun = True
            if pending._waiter is not None:
                _wake(pending._waiter)

    def answer(self, request: Request, target: Target) -> Answer:
        form, as_yaml = negotiate(request, Form.TABLE, Form.PARTIAL, Form.PARTIAL_LIST)
        del as_yaml
        wanted = Filter(request, target.kind)
        text = request.query.get("resourceVersion", "")
        if text and not text.isdecimal():
            raise internal(f'resourceVersion: Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax')
        has_initial = request.query.get("sendInitialEvents", "")
        match = request.query.get("resourceVersionMatch", "")
        if has_initial and match != "NotOlderThan":
            why = "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            raise invalid_option("ListOptions", Cause("FieldValueForbidden", why, "resourceVersionMatch"))
        if match and not has_initial:
            why = "Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
            raise invalid_option("ListOptions", Cause("FieldValueForbidden", why, "resourceVersionMatch"))
        seconds = integer(request, "timeoutSeconds") or 0
        answer = Answer(200)

        def overrun() -> None:
            logger.warning("api.watch.dropped resource=%s user=%s: the client reads too slowly", target.kind.table, request.user.name)
            answer.abandon()

        watch = _Watch(self._state, self._views, target, wanted=wanted, form=form, include=request.query.get("includeObject", ""))
        watch.has_bookmarks = request.flag("allowWatchBookmarks")
        watch.begins_with_list = has_initial == "true" or (not has_initial and int(text or 0) == 0)
        watch.says_initial_end = has_initial == "true" and watch.has_bookmarks
        watch.version = int(text or 0)
        watch.seconds = float(seconds) if seconds > 0 else random.uniform(1800, 3600)  # noqa: S311 - spreads reconnects
        watch.pending = Pending(overrun)
        answer.stream = self._stream(watch)
        return answer

    async def _stream(self, watch: _Watch) -> AsyncIterator[bytes]:
        self._open.add(watch.pending)
        try:
            async for chunk in watch.lines():
                yield chunk
                if self.is_closing:
                    return
        finally:
            self._open.discard(watch.pending)


class _Watch:
    """One watch from its first line to its end."""

    has_bookmarks = False
    begins_with_list = True
    says_initial_end = False
    version = 0
    seconds = 1800.0

    def __init__(self, state: State, views: Views, target: Target, *, wanted: Filter, form: Form, include: str) -> None:
        self._state = state
        self._views = views
        self._kind: Kind = target.kind
        self._namespace = target.namespace if target.kind.namespaced else ""
        self._filter = wanted
        self._form = Form.PARTIAL if form is Form.PARTIAL_LIST else form
        self._include = include
        self._has_columns = True
        self.pending = Pending(lambda: None)

    async def lines(self) -> AsyncIterator[bytes]:
        """The stream in chunks of whole lines; several changes that wait share a chunk."""
        loop = asyncio.get_running_loop()
        table = self._state.table(self._kind.table)
        ends = loop.time() + self.seconds
        bookmark = min(loop.time() + BOOKMARK_SECONDS, max(ends - LAST_BOOKMARK_SECONDS, loop.time()))
        if not self.begins_with_list and self.version < table.floor:
            yield self._error(expired(f"too old resource version: {self.version} ({table.floor})"))
            return
        unsubscribe = self._state.subscribe(table, self._offer)
        try:
            version = self._state.version
            if self.begins_with_list:
                items = [item for item in table.items(self._namespace) if self._filter.matches(item)]
                for chunk in _chunks([await self._line("ADDED", item) for item in items]):
                    yield chunk
                if self.says_initial_end:
                    yield self._bookmark(version, is_initial_end=True)
                self.version = max(self.version, version)
            else:
                missed = [change for change in table.since(self.version) if change.version <= version]
                for chunk in _chunks([line for change in missed if (line := await self._changed(change))]):
                    yield chunk
                self.version = max(self.version, version)
            while True:
                lines = []
                while (change := self.pending.take()) is not None:
                    if change.version > self.version and (line := await self._changed(change)):
                        lines.append(line)
                for chunk in _chunks(lines):
                    yield chunk
                now = loop.time()
                if self.pending.is_overrun:
                    return
                if self.has_bookmarks and now >= bookmark:
                    yield self._bookmark(self._state.version)
                    last = ends - LAST_BOOKMARK_SECONDS
                    bookmark = min(now + BOOKMARK_SECONDS, last) if now < last else ends + 1
                if now >= ends:
                    return
                await self.pending.wait(min(ends, bookmark if self.has_bookmarks else ends) - now)
        finally:
            unsubscribe()

    def _offer(self, change: Change) -> None:
        if self._namespace is None or change.item.namespace == self._namespace:
            self.pending.put(change)

    async def _changed(self, change: Change) -> bytes | None:
        """The line of a change as the selectors see it: leaving the selection is DELETED, entering it ADDED."""
        item, previous = change.item, change.previous
        if self._namespace is not None and item.namespace != self._namespace:
            return None
        if self._filter.is_open:
            return await self._line(change.type, item)
        was = previous is not None and self._filter.matches(previous)
        if change.type == "DELETED":
            return await self._line("DELETED", item) if was or self._filter.matches(item) else None
        if self._filter.matches(item):
            return await self._line("MODIFIED" if was else "ADDED", item)
        if was and previous is not None:
            return await self._line("DELETED", previous, version=change.version)
        return None

    async def _line(self, kind: str, item: Item, *, version: int | None = None) -> bytes:
        body = await self._views.body(self._kind, item)
        if version is not None:
            obj = orjson.loads(body)
            obj["metadata"]["resourceVersion"] = str(version)
            body = orjson.dumps(obj)
        if self._form is not Form.OBJECT:
            body = orjson.dumps(shaped(self._kind, body, self._form, self._include, has_columns=self._has_columns))
            self._has_columns = False
        return b'{"type":"' + kind.encode() + b'","object":' + body + b"}\n"

    def _bookmark(self, version: int, *, is_initial_end: bool = False) -> bytes:
        metadata: dict[str, object] = {"resourceVersion": str(version)}
        if is_initial_end:
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
        obj: dict[str, object] = {"kind": self._kind.kind, "apiVersion": self._kind.api_version, "metadata": metadata}
        if self._form is Form.PARTIAL:
            obj |= {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
        elif self._form is Form.TABLE:
            rows = [{"cells": [], "object": obj}]
            obj = {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "columnDefinitions": None, "rows": rows}
        return orjson.dumps({"type": "BOOKMARK", "object": obj}) + b"\n"

    def _error(self, error: ApiError) -> bytes:
        return orjson.dumps({"type": "ERROR", "object": error.status()}) + b"\n"


def _chunks(lines: list[bytes]) -> list[bytes]:
    """Lines joined into chunks of a sensible size."""
    chunks: list[bytes] = []
    gathered: list[bytes] = []
    size = 0
    for line in lines:
        gathered.append(line)
        size += len(line)
        if size >= CHUNK_BYTES:
            chunks.append(b"".join(gathered))
            gathered, size = [], 0
    if gathered:
        chunks.append(b"".join(gathered))
    return chunks
