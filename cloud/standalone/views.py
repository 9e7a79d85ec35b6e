"""An object as a client sees it: converted to the version asked for, then whole, as metadata only, or as table rows."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Protocol

import orjson

from pinnace.cloud.standalone import printing
from pinnace.cloud.standalone.events import as_new_event
from pinnace.cloud.standalone.kinds import Kind
from pinnace.cloud.standalone.negotiation import Form
from pinnace.cloud.standalone.state import Item, Object, encode

CACHED_CONVERSIONS = 8192


class Converter(Protocol):
    """Turns custom objects into another version of their kind (conversion strategies None and Webhook)."""

    async def convert(self, kind: Kind, objects: Sequence[Object]) -> list[Object]: ...


class Views:
    """Renders items for a kind. Converted bodies are remembered by uid, resource version and API version."""

    def __init__(self, converter: Converter) -> None:
        self._converter = converter
        self._converted: OrderedDict[tuple[str, int, str], bytes] = OrderedDict()

    def forget(self) -> None:
        """Conversion may give something else from now on."""
        self._converted.clear()

    async def bodies(self, kind: Kind, items: Sequence[Item]) -> list[bytes]:
        """The items' JSON in the kind's version; what is stored so already is not touched."""
        missing: dict[tuple[str, int, str], Object] = {}
        found: dict[tuple[str, int, str], bytes] = {}
        for item in items:
            key = (item.uid, item.version, kind.api_version)
            if item.api_version == kind.api_version:
                continue
            if key in self._converted:
                found[key] = self._converted[key]
            else:
                missing[key] = item.decode()
        if missing:
            for key, obj in zip(missing, await self.converted(kind, list(missing.values())), strict=True):
                found[key] = self._converted[key] = encode(obj)
        bodies = []
        for item in items:
            is_native = item.api_version == kind.api_version
            bodies.append(item.body if is_native else found[item.uid, item.version, kind.api_version])
        while len(self._converted) > CACHED_CONVERSIONS:
            self._converted.popitem(last=False)
        return bodies

    async def body(self, kind: Kind, item: Item) -> bytes:
        return item.body if item.api_version == kind.api_version else (await self.bodies(kind, [item]))[0]

    async def decoded(self, kind: Kind, item: Item) -> Object:
        obj: Object = orjson.loads(await self.body(kind, item))
        return obj

    async def converted(self, kind: Kind, objects: Sequence[Object]) -> list[Object]:
        """Decoded objects in the kind's version."""
        if kind.is_custom:
            return await self._converter.convert(kind, objects)
        if kind.table == "events":
            return [as_new_event(obj, kind) for obj in objects]
        return [{**obj, "apiVersion": kind.api_version, "kind": kind.kind} for obj in objects]


def partial(obj: Object) -> Object:
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}


def row(kind: Kind, obj: Object, include: str) -> Object:
    """One table row; `include` is the query's includeObject: Metadata (default), Object or None."""
    cells = printing.cells(kind, obj, time.time())
    if include == "None":
        return {"cells": cells}
    return {"cells": cells, "object": obj if include == "Object" else partial(obj)}


def table(kind: Kind, rows: list[Object], metadata: Object, *, has_columns: bool = True) -> Object:
    columns: Any = printing.columns(kind) if has_columns else None
    return {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "columnDefinitions": columns, "rows": rows}


def shaped(kind: Kind, body: bytes, form: Form, include: str, *, has_columns: bool = True) -> Any:
    """One object (its JSON in the kind's version) in the form asked for: bytes as they are, or a decoded table or metadata."""
    if form is Form.OBJECT:
        return body
    obj: Object = orjson.loads(body)
    if form is Form.TABLE:
        version = {"resourceVersion": obj["metadata"].get("resourceVersion", "")}
        return table(kind, [row(kind, obj, include)], version, has_columns=has_columns)
    return partial(obj)
