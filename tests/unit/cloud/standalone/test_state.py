"""The rows in memory: what readers and writers see, history, snapshots, failed writes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pinnace.cloud.standalone import state as state_module
from pinnace.cloud.standalone.state import Change, Item, encode
from pinnace.cloud.standalone.status import ApiError


def obj(name: str, **content: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": f"u-{name}"}, "data": content, "kind": "ConfigMap", "apiVersion": "v1"}


def test_type_comes_first_and_can_be_left_out() -> None:
    body = encode(obj("a", k="v"))
    assert body.startswith(b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{')
    item = Item("default", "a", 1, obj("a", k="v"), body)
    assert item.without_type() == b'{"metadata":{"name":"a","uid":"u-a"},"data":{"k":"v"}}'


async def test_readers_see_a_write_after_its_commit(parts: Any) -> None:
    table = parts.state.table("configmaps")
    item, written = parts.state.put(table, obj("a"), namespace="default", name="a")
    assert table.get("default", "a") is None
    assert table.latest("default", "a") is item
    await written
    assert table.get("default", "a") is item
    assert parts.state.version == item.version


async def test_listeners_get_changes_in_order(parts: Any) -> None:
    table = parts.state.table("configmaps")
    seen: list[Change] = []
    end = parts.state.subscribe(table, seen.append)
    futures = [parts.state.put(table, obj("a", n=str(index)), namespace="default", name="a")[1] for index in range(50)]
    futures.append(parts.state.remove(table, obj("a"), namespace="default", name="a")[1])
    await asyncio.gather(*futures)
    end()
    await parts.state.put(table, obj("b"), namespace="default", name="b")[1]
    assert [change.type for change in seen] == ["ADDED", *["MODIFIED"] * 49, "DELETED"]
    assert [change.version for change in seen] == sorted(change.version for change in seen)
    assert table.get("default", "a") is None


async def test_the_past_can_be_seen_until_it_is_forgotten(parts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "HISTORY_CHANGES", 4)
    table = parts.state.table("configmaps")
    for index in range(3):
        await parts.state.put(table, obj("a", n=str(index)), namespace="default", name="a")[1]
    before = parts.state.version
    await parts.state.remove(table, obj("a"), namespace="default", name="a")[1]
    await parts.state.put(table, obj("b"), namespace="default", name="b")[1]
    past = table.at(before)
    assert set(past["default"]) == {"a"}
    assert past["default"]["a"].decode()["data"] == {"n": "2"}
    assert [change.type for change in table.since(before)] == ["DELETED", "ADDED"]
    assert table.floor < before
    for index in range(5):
        await parts.state.put(table, obj("c", n=str(index)), namespace="default", name="c")[1]
    assert table.floor > before


async def test_a_failed_write_leaves_no_trace(parts: Any) -> None:
    table = parts.state.table("configmaps")
    await parts.state.put(table, obj("a", n="1"), namespace="default", name="a")[1]
    parts.store._connection.execute("PRAGMA query_only=1")
    first = parts.state.put(table, obj("a", n="2"), namespace="default", name="a")[1]
    second = parts.state.remove(table, obj("a"), namespace="default", name="a")[1]
    for future in (first, second):
        with pytest.raises(ApiError, match="was not stored"):
            await future
    item = table.latest("default", "a")
    assert item is not None
    assert item.decode()["data"] == {"n": "1"}
    parts.store._connection.execute("PRAGMA query_only=0")
    await parts.state.put(table, obj("a", n="3"), namespace="default", name="a")[1]
    assert table.get("default", "a").decode()["data"] == {"n": "3"}
