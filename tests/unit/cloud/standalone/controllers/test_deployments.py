"""Deployments and their ReplicaSets on a real store, where nothing runs the pods."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from fakes.clock import FakeClock
from rig.waiting import eventually

from pinnace.cloud.standalone.controllers.deployments import Deployments

Obj = dict[str, Any]
APPS = "apps"


@dataclass
class World:
    """The deployment `d` and what became of it; `told` are the moments somebody who watches it sees."""

    parts: Any
    clock: FakeClock = field(default_factory=FakeClock)
    told: list[Obj] = field(default_factory=list)

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

    async def until_observed(self, wanted: Callable[[Obj], object] = bool) -> Obj:
        """The deployment once its status is of its present generation and like that."""

        def is_it(found: Obj) -> object:
            return found["status"].get("observedGeneration") == found["metadata"]["generation"] and wanted(found)

        found: Obj = await eventually(self.read, is_it)
        return found


def progress(found: Obj) -> str:
    conditions = found.get("status", {}).get("conditions", [])
    return next((each["reason"] for each in conditions if each["type"] == "Progressing"), "")


@pytest.fixture
async def world(parts: Any) -> AsyncIterator[World]:
    made = World(parts)
    table = parts.state.table(parts.kind("deployments", APPS).table)
    parts.state.subscribe(table, lambda change: made.told.append(change.item.decode()))
    running = asyncio.create_task(Deployments(parts.objects, parts.deletion, wall=made.clock.wall).run())
    yield made
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


async def test_a_corrected_rollout_is_not_called_timed_out(world: World) -> None:
    async def timed_out() -> None:
        await world.until_observed(lambda found: progress(found) != "")
        await world.clock.advance(11)
        await world.change("deployments", "d", lambda old: old["metadata"].update(annotations={"at": str(world.clock.wall())}))
        await world.until_observed(lambda found: progress(found) == "ProgressDeadlineExceeded")
        world.told.clear()

    await world.make(progressDeadlineSeconds=10)
    await timed_out()
    await world.set_image("i:2")
    assert progress(await world.until_observed()) == "NewReplicaSetCreated"
    await timed_out()
    await world.set_image("i:1")
    assert progress(await world.until_observed()) == "FoundNewReplicaSet"
    observed = [each for each in world.told if each["metadata"]["generation"] == each["status"]["observedGeneration"]]
    assert "ProgressDeadlineExceeded" not in map(progress, observed)


async def test_a_change_in_the_midst_of_a_round_is_observed_by_the_next_one(world: World) -> None:
    changes: list[asyncio.Task[None]] = []
    seen: list[tuple[int, int]] = []

    sets = world.parts.state.table(world.parts.kind("replicasets", APPS).table)

    def heard(table: Any, change: Any) -> None:
        if table is sets and not changes:
            changes.append(asyncio.create_task(world.set_image("i:2")))
        elif change.item.name == "d":
            seen.append((change.item.decode().get("status", {}).get("observedGeneration", 0), sets.count()))

    world.parts.state.subscribe_all(heard)
    await world.make()
    await world.until_observed(lambda found: found["metadata"]["generation"] == 2)
    assert all(observed <= there for observed, there in seen), seen
    await changes[0]
