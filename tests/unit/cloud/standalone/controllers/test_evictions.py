"""Pods leave a tainted node when their time is up, not before."""

from __future__ import annotations

import asyncio
from typing import Any

from rig.waiting import eventually

from pinnace.cloud.standalone.controllers.evictions import Evictions


async def test_a_taint_that_does_not_say_since_when_counts_from_its_sight(parts: Any) -> None:
    clock = {"wall": 1_800_000_000.0}
    await parts.make("nodes", "n", spec={"taints": [{"key": "fire", "effect": "NoExecute"}]})
    bears = {"key": "fire", "operator": "Exists", "tolerationSeconds": 60}
    for name, tolerations in (("a-bears-it", [bears]), ("b-does-not", [])):
        spec = {"nodeName": "n", "containers": [{"name": "c", "image": "i"}], "tolerations": tolerations}
        await parts.make("pods", name, "default", spec=spec)
    evictions = Evictions(parts.objects, parts.deletion, wall=lambda: clock["wall"])
    running = asyncio.create_task(evictions.run())

    async def leaving() -> set[str]:
        return {item.name for item in parts.state.table("pods").items(None) if "deletionTimestamp" in item.decode()["metadata"]}

    assert await eventually(leaving, bool) == {"b-does-not"}
    clock["wall"] += 61
    labelled = {"looked": "at"}
    await parts.objects.change(
        parts.kind("pods"), "a-bears-it", "default", lambda old: {**old, "metadata": {**old["metadata"], "labels": labelled}}
    )
    await eventually(leaving, lambda found: found == {"a-bears-it", "b-does-not"})
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
