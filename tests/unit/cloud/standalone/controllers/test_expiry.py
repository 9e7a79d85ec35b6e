"""Old events go, and so do pods whose node is gone."""

from __future__ import annotations

import time
from typing import Any

from pinnace.cloud.standalone.controllers.expiry import Expiry
from pinnace.cloud.standalone.objects import now_text


async def test_events_last_an_hour(parts: Any) -> None:
    clock = {"wall": time.time()}
    expiry = Expiry(parts.objects, parts.deletion, wall=lambda: clock["wall"])
    involved = {"kind": "Pod", "namespace": "default", "name": "p"}
    await parts.make("events", "old", "default", involvedObject=involved)
    await parts.make("events", "repeated", "default", involvedObject=involved, lastTimestamp=now_text(clock["wall"] + 1800))
    await expiry.look()
    assert parts.state.table("events").count() == 2
    clock["wall"] += 3700
    await expiry.look()
    assert [item.name for item in parts.state.table("events").items(None)] == ["repeated"]


async def test_pods_follow_their_node(parts: Any) -> None:
    clock = {"now": 0.0}
    expiry = Expiry(parts.objects, parts.deletion, now=lambda: clock["now"])
    container = {"name": "c", "image": "i"}
    await parts.make("nodes", "here")
    for name, node in (("stays", "here"), ("orphan", "gone")):
        await parts.make("pods", name, "default", spec={"nodeName": node, "containers": [container]})
    await parts.make("pods", "unbound", "default", spec={"containers": [container]})
    await expiry.look()
    clock["now"] = 30.0
    await expiry.look()
    assert parts.state.table("pods").count() == 3
    clock["now"] = 41.0
    await expiry.look()
    assert {item.name for item in parts.state.table("pods").items(None)} == {"stays", "unbound"}
