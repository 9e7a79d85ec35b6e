"""The evictor: what it does when something runs low, and that it does no more."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Any

import pytest
from fakes.clock import FakeClock
from fakes.podcontrol import FakePodControl
from fakes.podevents import FakeEvents

from pinnace.core.base.errors import PinnaceError
from pinnace.core.base.pod import Pod
from pinnace.core.base.settings.edged import KubeletSettings
from pinnace.core.pods.rules.eviction import Level, PodUse
from pinnace.core.pods.upkeep.eviction import Evictor

MIB = 1 << 20
PLENTY = {"memory.available": Level(1 << 30, 2 << 30), "nodefs.available": Level(50, 100)}
LOW_MEMORY = {**PLENTY, "memory.available": Level(50 * MIB, 2 << 30)}
LOW_DISK = {**PLENTY, "nodefs.available": Level(5, 100)}


def pod(uid: str, **spec: Any) -> Pod:
    return Pod({"metadata": {"name": uid, "uid": uid}, "spec": {"containers": [{"name": "c"}], **spec}, "status": {"phase": "Running"}})


class Machine:
    """Implements Meter. `memory` and `disk` are bytes by pod."""

    def __init__(self) -> None:
        self.now: dict[str, Level] = dict(PLENTY)
        self.memory: dict[str, int] = {}
        self.volumes: dict[str, dict[str, int]] = {}
        self.walked = 0

    async def levels(self) -> dict[str, Level]:
        return self.now

    async def uses(self, pods: Sequence[Pod], *, with_disk: bool) -> list[PodUse]:
        self.walked += with_disk
        return [
            PodUse(each, memory=self.memory.get(each.uid, 0), disk=each.uid == "big", volumes=self.volumes.get(each.uid, {}))
            for each in pods
        ]


class Stage:
    def __init__(self, *pods: Pod) -> None:
        self.clock, self.machine, self.events, self.control = FakeClock(), Machine(), FakeEvents(), FakePodControl(*pods)
        self.freed: list[str] = []
        self.frees = False
        self.evictor = Evictor(
            self.machine, self.control, self.events, KubeletSettings(), relief=[self._containers, self._images], clock=self.clock
        )
        self.changes = 0
        self.evictor.on_change(self._changed)

    def _changed(self) -> None:
        self.changes += 1

    async def _containers(self) -> None:
        self.freed.append("containers")
        raise PinnaceError("no luck")

    async def _images(self) -> int:
        self.freed.append("images")
        if self.frees:
            self.machine.now = dict(PLENTY)
        return 1

    async def look(self) -> None:
        await self.evictor.look()
        await self.clock.advance(10)

    def evicted(self) -> list[str]:
        return [each.uid for each in self.control.evictions]


async def test_with_plenty_nothing_happens() -> None:
    stage = Stage(pod("a"))
    await stage.look()
    assert not stage.evictor.pressures
    assert not stage.control.evictions
    assert not stage.events.told
    assert not stage.freed


async def test_memory_one_pod_a_look_until_it_is_enough() -> None:
    stage = Stage(pod("small"), pod("large"), pod("critical", priority=2_000_000_000))
    stage.machine.memory = {"small": 10 * MIB, "large": 90 * MIB, "critical": 900 * MIB}
    stage.machine.now = LOW_MEMORY
    await stage.look()
    assert stage.evictor.pressures == {"MemoryPressure"}
    assert stage.evicted() == ["large"]
    eviction = stage.control.evictions[0]
    assert (eviction.reason, eviction.grace_seconds) == ("Evicted", 0)
    assert eviction.message == "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. "
    assert stage.events.reasons == ["NodeHasInsufficientMemory", "Evicted"]
    await stage.look()
    await stage.look()
    assert stage.evicted() == ["large", "small"], "who is critical stays, who has ended is not evicted again"
    assert not stage.freed, "images give no memory back"


async def test_a_condition_holds_for_five_minutes_and_is_told_twice() -> None:
    stage = Stage()
    stage.machine.now = LOW_MEMORY
    await stage.look()
    stage.machine.now = PLENTY
    for _ in range(29):
        await stage.look()
    assert stage.evictor.pressures == {"MemoryPressure"}
    await stage.look()
    assert not stage.evictor.pressures
    assert stage.changes == 2
    assert stage.events.told[-1].message == "Node status is now: NodeHasSufficientMemory"


async def test_disk_is_freed_before_any_pod_goes() -> None:
    stage = Stage(pod("big"))
    stage.machine.now, stage.frees = LOW_DISK, True
    await stage.look()
    assert stage.freed == ["containers", "images"], "one that fails does not keep the next from trying"
    assert not stage.control.evictions
    assert "EvictionThresholdMet" in stage.events.reasons


async def test_a_disk_that_cannot_even_be_freed_costs_a_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(pod("big"))

    async def broken() -> None:
        raise OSError(errno.EROFS, "Read-only file system", "/var/log/pods")

    monkeypatch.setattr(stage.evictor, "_relief", (broken, *stage.evictor._relief))
    stage.machine.now = {**LOW_DISK, "memory.available": Level(50 * MIB, 2 << 30)}
    await stage.look()
    assert stage.freed == ["containers", "images"]
    assert stage.evicted() == ["big"]
    assert "Attempting to reclaim ephemeral-storage" in [each.message for each in stage.events.told]


async def test_a_pod_that_does_not_end_is_not_the_only_one_ever_evicted() -> None:
    stage = Stage(pod("stuck"), pod("next"))
    stage.machine.memory = {"stuck": 90 * MIB, "next": 10 * MIB}
    stage.machine.now = LOW_MEMORY

    async def end(uid: str) -> None:
        if uid == "stuck":
            raise TimeoutError

    stage.control.evicting = end
    await stage.look()
    await stage.look()
    await stage.look()
    assert stage.evicted() == ["stuck", "next"]


async def test_disk_that_cannot_be_freed_costs_a_pod() -> None:
    stage = Stage(pod("idle"), pod("big"))
    stage.machine.now = LOW_DISK
    await stage.look()
    assert stage.evicted() == ["big"]
    assert stage.machine.walked == 1


async def test_a_pod_over_its_own_limit_goes_whatever_the_node_has() -> None:
    cache = {"name": "cache", "emptyDir": {"sizeLimit": "1Mi"}}
    stage = Stage(pod("greedy", volumes=[cache]), pod("modest", volumes=[cache]), pod("plain"))
    stage.machine.volumes = {"greedy": {"cache": 2 * MIB}, "modest": {"cache": MIB}}
    await stage.look()
    assert stage.evicted() == ["greedy"]
    assert stage.control.evictions[0].message == 'Usage of EmptyDir volume "cache" exceeds the limit "1Mi". '
    for _ in range(5):
        await stage.look()
    assert stage.machine.walked == 1, "measuring costs: once a minute"
    await stage.look()
    assert stage.machine.walked == 2
    assert not stage.evictor.pressures


async def test_a_failing_eviction_does_not_end_the_watch() -> None:
    stage = Stage(pod("a"))
    stage.machine.now = LOW_MEMORY

    async def refuse(uid: str) -> None:
        raise PinnaceError("the runtime is away")

    stage.control.evicting = refuse
    import asyncio

    running = asyncio.create_task(stage.evictor.run())
    await stage.clock.advance(25)
    assert len(stage.control.evictions) == 3
    running.cancel()
