"""Deployments and their ReplicaSets on a real store, where nothing runs the pods."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from rig.waiting import eventually

from pinnace.cloud.standalone.controllers.deployments import Deployments

Obj = dict[str, Any]
APPS = "apps"


@dataclass
class World:
    """The deployment `d` and what became of it."""

    parts: Any

    async def make(self, **spec: Any) -> None:
        template = {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}
        body = {"replicas": 1, "selector": {"matchLabels": {"app": "a"}}, "template": template, **spec}
        await self.parts.make("deployments", "d", "default", group=APPS, spec=body)

    async def change(self, plural: str, name: str, change: Callable[[Obj], object]) -> None:
        def changed(old: Obj) -> Obj:
            change(old)
            return old

        await self.parts.objects.change(self.parts.kind(plural, APPS), name, "default", changed)

    async def set_image(self, image: str, plural: str = "deployments", name: str = "d") -> None:
        await self.change(plural, name, lambda old: old["spec"]["template"]["spec"]["containers"][0].update(image=image))

    async def sets(self) -> list[Obj]:
        return [item.decode() for item in self.parts.state.table(self.parts.kind("replicasets", APPS).table).items("default")]

    async def read(self) -> Obj:
        made: Obj = self.parts.state.table(self.parts.kind("deployments", APPS).table).get("default", "d").decode()
        return made

    async def until_observed(self) -> Obj:
        """The deployment once its status is of its present generation."""
        found: Obj = await eventually(self.read, lambda found: found["status"].get("observedGeneration") == found["metadata"]["generation"])
        return found


@pytest.fixture
async def world(parts: Any) -> AsyncIterator[World]:
    running = asyncio.create_task(Deployments(parts.objects, parts.deletion).run())
    yield World(parts)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_a_replica_set_that_was_edited_is_replaced(world: World) -> None:
    await world.make()
    (edited,) = await eventually(world.sets, bool)
    await world.set_image("i:2", "replicasets", edited["metadata"]["name"])
    sets = await eventually(world.sets, lambda found: len(found) == 2)
    (new,) = (each for each in sets if each["metadata"]["uid"] != edited["metadata"]["uid"])
    assert new["spec"]["template"]["spec"]["containers"][0]["image"] == "i:1"
    assert new["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2"
    await world.change("deployments", "d", lambda old: old["spec"].update(minReadySeconds=1))
    found = await world.until_observed()
    assert (found["status"]["collisionCount"], len(await world.sets())) == (1, 2)
