"""The agent ends at any moment of pods coming, crashing and going, and begins again over what is there."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from rig.pods import PodWorld, pod


class Churn:
    """One seeded run. `expected` are the containers that may not be disturbed: they run and their pods are wanted."""

    def __init__(self, world: PodWorld, seed: int) -> None:
        self.world = world
        self.random = random.Random(seed)
        self.wanted: set[str] = set()
        self.number = 0

    async def step(self) -> None:
        match self.random.choice(["add", "add", "delete", "crash", "wait", "kill", "kill", "cut"]):
            case "add":
                name = f"p{self.number}"
                self.number += 1
                self.wanted.add(name)
                self.world.cloud.downlink.append(self.world.cloud.write(pod(name, containers=[{"name": "a"}, {"name": "b"}])))
            case "delete" if self.wanted:
                name = self.random.choice(sorted(self.wanted))
                self.wanted.discard(name)
                self.world.cloud.downlink.append(self.world.cloud.begin_deletion(name, self.random.choice([1, 30])))
            case "crash" if self.world.runtime.running():
                self.world.runtime.exit(self.random.choice(self.world.runtime.running()).id, 1)
            case "wait":
                await self.world.advance(self.random.choice([1, 15, 61]))
            case "kill":
                await self.kill()
            case "cut":
                self.world.uplink.disconnect()
                await self.world.settle()
                await self.world.uplink.connect()
            case _:
                pass
        if self.random.random() < 0.5:
            await self.world.settle()
        else:  # somewhere in the middle of what it does
            if self.world.cloud.downlink:
                await self.world.deliver(self.world.cloud.downlink.pop(0))
            for _ in range(self.random.randrange(40)):
                await asyncio.sleep(0)

    async def kill(self) -> None:
        """Nothing that ran and is wanted may have been touched by the new agent."""
        await self.world.stop()
        before = {each.id for each in self.world.runtime.running() if self.owner(each.labels["io.kubernetes.pod.uid"]) in self.wanted}
        await self.world.restart()
        assert before <= {each.id for each in self.world.runtime.running()}

    @staticmethod
    def owner(uid: str) -> str:
        return uid.removeprefix("uid-")


@pytest.mark.parametrize("seed", range(8))
async def test_nothing_is_lost_doubled_or_restarted(tmp_path: Path, seed: int) -> None:
    world = PodWorld(tmp_path)
    await world.start()
    try:
        churn = Churn(world, seed)
        for _ in range(40):
            await churn.step()
        await world.settle()
        await world.advance(400)
        assert set(world.cloud.pods) == churn.wanted
        found = sorted((churn.owner(each.labels["io.kubernetes.pod.uid"]), each.name) for each in world.runtime.running())
        assert found == sorted((name, container) for name in churn.wanted for container in ("a", "b"))
        assert len(world.runtime.boxes) == len(churn.wanted)
        for name in churn.wanted:
            api = world.api(name)
            assert api["phase"] == "Running"
            told = {each["containerID"].removeprefix("fake://") for each in api["containerStatuses"]}
            assert told == {each.id for each in world.runtime.running() if churn.owner(each.labels["io.kubernetes.pod.uid"]) == name}
        assert world.materials.left == {f"uid-{name}" for name in churn.wanted}
    finally:
        await world.stop()
