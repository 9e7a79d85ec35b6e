"""get and list: from memory, with selectors, pages and resource versions (Kubernetes API concepts: API chunking, resource versions)."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

import orjson

from pinnace.cloud.standalone import selectors
from pinnace.cloud.standalone.kinds import Kind
from pinnace.cloud.standalone.negotiation import Form, negotiate, rendered
from pinnace.cloud.standalone.requests import Answer, Request, Target, integer
from pinnace.cloud.standalone.state import Item, Namespaced, State, Table
from pinnace.cloud.standalone.status import Cause, bad_request, expired, invalid_option, not_found, too_large_version
from pinnace.cloud.standalone.views import Views, partial, row, shaped, table

CONTINUE_TEXT = (
    "The provided continue parameter is too old to display a consistent list result. Start a new list without the continue parameter."
)


class Filter:
    """Which items a request wants: label and field selectors."""

    def __init__(self, request: Request, kind: Kind) -> None:
        labels, fields = request.query.get("labelSelector", ""), request.query.get("fieldSelector", "")
        self.labels = selectors.parse_labels(labels) if labels else None
        self.fields = selectors.parse_fields(fields, kind) if fields else None
        self.is_open = self.labels is None and self.fields is None
        self.name = self.fields.name if self.fields is not None else None
        self.namespace = self.fields.namespace if self.fields is not None else None
        self.is_by_field = self.fields is not None and not self.fields.is_simple

    def matches(self, item: Item) -> bool:
        if self.is_open:
            return True
        if self.name is not None and item.name != self.name:
            return False
        if self.labels is not None and not self.labels.matches(item.labels):
            return False
        if self.fields is None:
            return True
        if self.is_by_field:
            return self.fields.matches(item.decode())
        return self.fields.matches({"metadata": {"name": item.name, "namespace": item.namespace}})


def requested_version(request: Request) -> int | None:
    """The resourceVersion of a get or list; None when absent. Raises 400."""
    text = request.query.get("resourceVersion", "")
    if not text:
        return None
    if not text.isdecimal():
        what = "strconv.ParseUint"
        raise bad_request(f'invalid resource version: resourceVersion: Invalid value: "{text}": {what}: parsing "{text}": invalid syntax')
    return int(text)


class Reading:
    """Answers get and list."""

    def __init__(self, state: State, views: Views) -> None:
        self._state = state
        self._views = views

    async def get(self, request: Request, target: Target) -> Answer:
        form, as_yaml = negotiate(request, Form.TABLE, Form.PARTIAL)
        version = requested_version(request)
        if version is not None and version > self._state.version:
            raise too_large_version(version, self._state.version)
        item = self.item(target)
        body = await self._views.body(target.kind, item)
        return rendered(request, shaped(target.kind, body, form, request.query.get("includeObject", "")), as_yaml=as_yaml)

    def item(self, target: Target) -> Item:
        """The committed item a path names. Raises 404."""
        found = self._state.table(target.kind.table).get(target.scope, target.name)
        if found is None:
            raise not_found(target.kind.group, target.kind.plural, target.name)
        return found

    async def collection(self, request: Request, target: Target) -> Answer:
        kind = target.kind
        form, as_yaml = negotiate(request, Form.TABLE, Form.PARTIAL_LIST)
        wanted = Filter(request, kind)
        items, metadata = self._page(request, target, wanted)
        if form is Form.OBJECT and not as_yaml and "pretty" not in request.query:
            return rendered(request, await self._whole(kind, items, metadata))
        bodies = [orjson.loads(body) for body in await self._views.bodies(kind, items)]
        if form is Form.TABLE:
            include = request.query.get("includeObject", "")
            return rendered(request, table(kind, [row(kind, obj, include) for obj in bodies], metadata), as_yaml=as_yaml)
        if form is Form.PARTIAL_LIST:
            head: dict[str, Any] = {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1"}
            return rendered(request, head | {"metadata": metadata, "items": [partial(obj) for obj in bodies]}, as_yaml=as_yaml)
        return rendered(request, self.list_object(kind, bodies, metadata), as_yaml=as_yaml)

    def list_object(self, kind: Kind, objects: Iterable[dict[str, Any]], metadata: dict[str, Any]) -> dict[str, Any]:
        if not kind.is_custom:
            objects = [{key: value for key, value in obj.items() if key not in {"kind", "apiVersion"}} for obj in objects]
        return {"kind": kind.list_name, "apiVersion": kind.api_version, "metadata": metadata, "items": list(objects)}

    async def _whole(self, kind: Kind, items: list[Item], metadata: dict[str, Any]) -> bytes:
        """The common list, spliced from the stored bytes."""
        if kind.is_custom:
            metadata = {"continue": "", **metadata}
            parts = await self._views.bodies(kind, items)
        elif all(item.api_version == kind.api_version for item in items):
            parts = [item.without_type() for item in items]
        else:
            parts = [orjson.dumps({key: value for key, value in orjson.loads(body).items() if key not in {"kind", "apiVersion"}})
                     for body in await self._views.bodies(kind, items)]  # fmt: skip
        head = orjson.dumps({"kind": kind.list_name, "apiVersion": kind.api_version, "metadata": metadata})
        return head[:-1] + b',"items":[' + b",".join(parts) + b"]}"

    def _page(self, request: Request, target: Target, wanted: Filter) -> tuple[list[Item], dict[str, Any]]:
        """The items of one page and the list's metadata."""
        rows = self._state.table(target.kind.table)
        namespace = (target.namespace if target.namespace is not None else wanted.namespace) if target.kind.namespaced else ""
        limit = max(0, integer(request, "limit") or 0)
        version, start, is_past = self._position(request, rows)
        limit = 0 if request.query.get("resourceVersion") == "0" and not request.query.get("resourceVersionMatch") else limit
        source = _ordered(rows.at(version), namespace) if is_past else rows.items(namespace)
        if wanted.name is not None and not is_past and namespace is not None:
            one = rows.get(namespace, wanted.name)
            source = iter([one] if one is not None else [])
        metadata: dict[str, Any] = {"resourceVersion": str(version)}
        items = [item for item in source if wanted.matches(item)] if not wanted.is_open else list(source)
        if start is not None:
            items = [item for item in items if (item.namespace, item.name) > start]
        if limit and len(items) > limit:
            last = items[limit - 1]
            metadata["continue"] = _token(version, last)
            if wanted.is_open:
                metadata["remainingItemCount"] = len(items) - limit
            items = items[:limit]
        return items, metadata

    def _position(self, request: Request, rows: Table) -> tuple[int, tuple[str, str] | None, bool]:
        """The version to show, the key to go on after, and whether that version lies in the past."""
        current = self._state.version
        match = request.query.get("resourceVersionMatch", "")
        token = request.query.get("continue", "")
        if token:
            if request.query.get("resourceVersion", "") not in {"", "0"}:
                raise bad_request("specifying resource version is not allowed when using continue")
            version, start = _read_token(token)
            if version < rows.floor or version > current:
                raise expired(CONTINUE_TEXT)
            return version, start, version < current
        version_asked = requested_version(request)
        if match and version_asked is None:
            why = "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"
            raise invalid_option("ListOptions", Cause("FieldValueForbidden", why, "resourceVersionMatch"))
        if match not in {"", "Exact", "NotOlderThan"}:
            why = f'Unsupported value: "{match}": supported values: "Exact", "NotOlderThan"'
            raise invalid_option("ListOptions", Cause("FieldValueNotSupported", why, "resourceVersionMatch"))
        if match == "Exact" and version_asked == 0:
            why = 'Forbidden: resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
            raise invalid_option("ListOptions", Cause("FieldValueForbidden", why, "resourceVersionMatch"))
        if version_asked is not None and version_asked > current:
            raise too_large_version(version_asked, current)
        if match == "Exact" and version_asked is not None:
            if version_asked < rows.floor:
                raise expired()
            return version_asked, None, version_asked < current
        return current, None, False


def _ordered(rows: Namespaced, namespace: str | None) -> Iterable[Item]:
    for each in sorted(rows) if namespace is None else [namespace]:
        row_items = rows.get(each, {})
        yield from (row_items[name] for name in sorted(row_items))


def _token(version: int, last: Item) -> str:
    text = orjson.dumps({"v": "meta.k8s.io/v1", "rv": version, "start": f"{last.namespace}/{last.name}\0"})
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def _read_token(token: str) -> tuple[int, tuple[str, str]]:
    try:
        found = orjson.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        namespace, _, name = found["start"].rstrip("\0").partition("/")
        return int(found["rv"]), (namespace, name)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise bad_request("invalid continue token: continue key is not valid: it is not one of this server") from None
