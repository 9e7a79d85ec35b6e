"""A Kubernetes API in memory that implements cloud.ports.KubeApi: versions, conflicts, watches, and failures on demand."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Callable
from typing import Any

import jsonpatch
import jsonpointer
import orjson

from pinnace.cloud.ports import Object, Resource, WatchEvent
from pinnace.core.base.errors import RemoteError

Key = tuple[str, str, str, str]


class FakeKube:
    """`fail_with`, when set, is called before every request with (verb, resource, name) and may raise."""

    def __init__(self) -> None:
        self.objects: dict[Key, Object] = {}
        self.events: list[tuple[int, Resource, str, Object]] = []
        self.fail_with: Callable[[str, Resource, str], None] | None = None
        self.requests: list[tuple[str, str, str]] = []
        self._forgotten = 0
        self._version = 100
        self._changed = asyncio.Condition()

    def put(self, resource: Resource, body: Object) -> Object:
        """Store an object as if somebody else had created or replaced it."""
        meta = body.setdefault("metadata", {})
        key = self._key(resource, meta["name"], meta.get("namespace", ""))
        return self._store(resource, key, copy.deepcopy(body), "MODIFIED" if key in self.objects else "ADDED")

    def find(self, resource: Resource, name: str, namespace: str = "") -> Object | None:
        return self.objects.get(self._key(resource, name, namespace))

    async def get(self, resource: Resource, name: str, namespace: str = "", *, subresource: str = "") -> Object:
        self._begin("get", resource, name)
        return copy.deepcopy(self._found(resource, name, namespace))

    async def list(
        self, resource: Resource, namespace: str = "", *, label_selector: str = "", field_selector: str = ""
    ) -> tuple[list[Object], str]:
        self._begin("list", resource, "")
        found = [
            copy.deepcopy(each)
            for (group, plural, where, _), each in sorted(self.objects.items())
            if (group, plural) == (resource.group, resource.plural) and namespace in ("", where) and _matches(each, label_selector)
        ]
        return found, str(self._version)

    async def watch(
        self, resource: Resource, namespace: str = "", *, resource_version: str, label_selector: str = ""
    ) -> AsyncIterator[WatchEvent]:
        self._begin("watch", resource, "")
        seen = int(resource_version or 0)
        if seen < self._forgotten:
            raise RemoteError(f"too old resource version: {seen} ({self._forgotten})", reason="Expired", code=410)

        def is_behind() -> bool:
            return self._version > seen

        while True:
            if self.fail_with is not None:
                self.fail_with("watching", resource, "")
            for version, kind, event, body in list(self.events):
                if version <= seen:
                    continue
                seen = version
                where = body["metadata"].get("namespace", "")
                if kind == resource and namespace in ("", where) and _matches(body, label_selector):
                    yield WatchEvent(event, copy.deepcopy(body))
            async with self._changed:
                await self._changed.wait_for(is_behind)

    async def create(self, resource: Resource, body: Object, namespace: str = "", *, name: str = "", subresource: str = "") -> Object:
        name = name or body["metadata"]["name"]
        self._begin("create", resource, name)
        key = self._key(resource, name, namespace)
        if key in self.objects:
            raise RemoteError(f'{resource.plural} "{name}" already exists', reason="AlreadyExists", code=409)
        made = copy.deepcopy(body)
        made["metadata"].pop("resourceVersion", None)
        if resource.namespaced:
            made["metadata"]["namespace"] = namespace
        made["metadata"].setdefault("uid", f"uid-{self._version + 1}")
        made["metadata"].setdefault("creationTimestamp", "2026-01-01T00:00:00Z")
        return copy.deepcopy(self._store(resource, key, made, "ADDED"))

    async def replace(self, resource: Resource, body: Object, name: str, namespace: str = "", *, subresource: str = "") -> Object:
        self._begin("replace", resource, name)
        old = self._found(resource, name, namespace)
        given = body["metadata"].get("resourceVersion")
        if given and given != old["metadata"]["resourceVersion"]:
            raise RemoteError(f'{resource.plural} "{name}" was changed meanwhile', reason="Conflict", code=409)
        made = {**copy.deepcopy(old), "status": copy.deepcopy(body.get("status"))} if subresource == "status" else copy.deepcopy(body)
        for kept in ("uid", "creationTimestamp"):
            made["metadata"].setdefault(kept, old["metadata"].get(kept))
        return copy.deepcopy(self._store(resource, self._key(resource, name, namespace), made, "MODIFIED"))

    async def patch(
        self,
        resource: Resource,
        name: str,
        patch: Any,
        namespace: str = "",
        *,
        content_type: str = "application/merge-patch+json",
        subresource: str = "",
    ) -> Object:
        """Merge and JSON patches; a strategic one is merged the same way, which replaces its lists."""
        self._begin("patch", resource, name)
        change: Any = orjson.loads(patch) if isinstance(patch, bytes) else patch
        old = self._found(resource, name, namespace)
        if content_type == "application/json-patch+json":
            try:
                made = jsonpatch.apply_patch(old, change)
            except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException) as error:
                raise RemoteError(str(error), reason="Invalid", code=422) from error
            return copy.deepcopy(self._store(resource, self._key(resource, name, namespace), made, "MODIFIED"))
        given = change.get("metadata", {}).get("resourceVersion")
        if given and given != old["metadata"]["resourceVersion"]:
            raise RemoteError(f'{resource.plural} "{name}" was changed meanwhile', reason="Conflict", code=409)
        made = _merge(copy.deepcopy(old), change)
        return copy.deepcopy(self._store(resource, self._key(resource, name, namespace), made, "MODIFIED"))

    async def delete(self, resource: Resource, name: str, namespace: str = "", *, body: Object | None = None) -> Object:
        self._begin("delete", resource, name)
        gone = copy.deepcopy(self._found(resource, name, namespace))
        del self.objects[self._key(resource, name, namespace)]
        self._record(resource, "DELETED", gone)
        return gone

    def _begin(self, verb: str, resource: Resource, name: str) -> None:
        self.requests.append((verb, resource.plural, name))
        if self.fail_with is not None:
            self.fail_with(verb, resource, name)

    def _key(self, resource: Resource, name: str, namespace: str) -> Key:
        return (resource.group, resource.plural, namespace if resource.namespaced else "", name)

    def _found(self, resource: Resource, name: str, namespace: str) -> Object:
        found = self.objects.get(self._key(resource, name, namespace))
        if found is None:
            raise RemoteError(f'{resource.plural} "{name}" not found', reason="NotFound", code=404)
        return found

    def _store(self, resource: Resource, key: Key, body: Object, event: str) -> Object:
        body.setdefault("apiVersion", resource.api_version)
        body.setdefault("kind", resource.kind)
        self.objects[key] = body
        self._record(resource, event, body)
        return body

    def _record(self, resource: Resource, event: str, body: Object) -> None:
        self._version += 1
        body["metadata"]["resourceVersion"] = str(self._version)
        self.events.append((self._version, resource, event, copy.deepcopy(body)))
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        self._tell = loop.create_task(self._notify())

    def forget(self) -> None:
        """Answer watches from before this moment with 410 Gone."""
        self._forgotten = self._version

    async def interrupt(self) -> None:
        """Let every watch look at `fail_with`."""
        self._version += 1
        await self._notify()

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


def _matches(body: Object, selector: str) -> bool:
    labels = body["metadata"].get("labels") or {}
    for term in filter(None, selector.split(",")):
        name, equals, value = term.partition("=")
        if name not in labels or (equals and labels[name] != value.lstrip("=")):
            return False
    return True


def _merge(target: Any, change: Any) -> Any:
    if not isinstance(change, dict):
        return change
    merged = target if isinstance(target, dict) else {}
    for key, value in change.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merge(merged.get(key), value)
    return merged
