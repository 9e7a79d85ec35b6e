"""No pod is forgotten, whatever becomes of a look at it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from rig.waiting import eventually

from pinnace.cloud.standalone.controllers.scheduler import Scheduler
from pinnace.cloud.standalone.status import ApiError
from pinnace.core.base.aio.backoff import Backoff
from pinnace.core.base.aio.supervise import supervise


@pytest.mark.parametrize("failure", [ApiError(500, "not now"), KeyError("spec")], ids=["refused", "broken"])
async def test_one_whose_look_fails_is_looked_at_again(parts: Any, monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    await parts.make("nodes", "n")
    await parts.make("pods", "p", "default", spec={"containers": [{"name": "c", "image": "i"}]})
    failures, change = [failure], parts.objects.change

    async def failing(*given: Any, **named: Any) -> Any:
        if failures:
            raise failures.pop()
        return await change(*given, **named)

    monkeypatch.setattr(parts.objects, "change", failing)
    scheduler = Scheduler(parts.objects, parts.deletion, retry_seconds=0.0)
    running = asyncio.create_task(supervise("scheduler", scheduler.run, Backoff(0.01, 0.01)))

    async def node() -> str:
        return str(parts.state.table("pods").get("default", "p").decode()["spec"].get("nodeName", ""))

    assert await eventually(node, bool) == "n"
    assert not failures
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
