"""The rules of writing where two writers meet."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pinnace.cloud.standalone.objects import equal
from pinnace.cloud.standalone.status import ApiError


async def test_concurrent_changes_all_count(parts: Any) -> None:
    await parts.make("configmaps", "a", "default", data={})
    kind = parts.kind("configmaps")

    async def add(index: int) -> None:
        await parts.objects.change(kind, "a", "default", lambda old: {**old, "data": {**(old.get("data") or {}), f"k{index}": "1"}})

    await asyncio.gather(*(add(index) for index in range(100)))
    item = parts.state.table("configmaps").get("default", "a")
    assert len(item.decode()["data"]) == 100


async def test_of_two_creators_one_wins(parts: Any) -> None:
    results = await asyncio.gather(*(parts.make("configmaps", "a", "default") for _ in range(5)), return_exceptions=True)
    refused = [each for each in results if isinstance(each, ApiError)]
    assert len(refused) == 4
    assert {each.reason for each in refused} == {"AlreadyExists"}


async def test_a_version_asked_for_is_insisted_on(parts: Any) -> None:
    made = await parts.make("configmaps", "a", "default")
    version = made["metadata"]["resourceVersion"]
    kind = parts.kind("configmaps")

    def insisting(text: str) -> Any:
        return lambda old: {**old, "data": {"n": text}, "metadata": {**old["metadata"], "resourceVersion": version}}

    changes = (parts.objects.change(kind, "a", "default", insisting(str(index))) for index in range(3))
    results = await asyncio.gather(*changes, return_exceptions=True)
    assert sum(isinstance(each, ApiError) and each.code == 409 for each in results) == 2


@pytest.mark.parametrize(
    ("left", "right", "same"), [(True, 1, False), ({"a": [1, 2]}, {"a": [1, 2]}, True), ({"a": 1}, {"a": True}, False)]
)
def test_equality_is_that_of_json(left: Any, right: Any, same: bool) -> None:
    assert equal(left, right) is same
