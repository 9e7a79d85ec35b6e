"""What goes wrong around a pod: a full disk, something busy, an orphan that is found late."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import orjson
import pytest
from fakes.podparts import FakeMaterials
from rig.pods import PodWorld, pod

from pinnace.core.base.contract.keys import LOCAL_POD_STATUS, ResourceKey
from pinnace.core.base.errors import StoreError, StoreFull
from pinnace.core.base.ports import ObjectChange
from pinnace.core.base.runtime import RuntimeFailed
from pinnace.core.pods.ports import VolumesNotReady

RECORD = ResourceKey(LOCAL_POD_STATUS, "default", "web")


async def test_an_evicted_pod_frees_its_disk_though_the_store_is_full(world: PodWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.apply(pod())
    apply = world.objects.apply

    async def full(changes: Sequence[ObjectChange]) -> None:
        if world.materials.left:
            raise StoreFull("no space left on the disk")
        await apply(changes)

    monkeypatch.setattr(world.objects, "apply", full)
    evicting = asyncio.create_task(world.service.evict("uid-web", reason="Evicted", message="The node was low.", grace_seconds=0))
    await world.settle()
    assert evicting.done()
    assert not world.materials.left
    assert orjson.loads(world.objects.stored[RECORD].body)["status"]["reason"] == "Evicted"


async def test_a_shorter_grace_counts_though_the_pod_ends_already(world: PodWorld) -> None:
    world.runtime.deaf.add("main")
    await world.apply(pod())
    first = asyncio.create_task(world.service.evict("uid-web", reason="Terminated", message="shutdown", grace_seconds=600))
    await world.settle()
    second = asyncio.create_task(world.service.evict("uid-web", reason="Evicted", message="The node was low.", grace_seconds=0))
    await world.advance(5)
    assert first.done()
    assert second.done()
    assert world.status()["reason"] == "Terminated"


async def test_what_is_busy_keeps_only_its_own_leftovers(world: PodWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    unmount = FakeMaterials.unmount

    async def busy(materials: FakeMaterials, pod_uid: str) -> None:
        if pod_uid == "uid-busy":
            raise VolumesNotReady("a volume is busy")
        await unmount(materials, pod_uid)

    monkeypatch.setattr(FakeMaterials, "unmount", busy)
    world.materials.left = {"uid-busy", *(f"uid-{number}" for number in range(9))}
    world.cgroups.made.add("uid-gone")
    await world.advance(61)
    assert world.materials.left == {"uid-busy"}
    assert not world.cgroups.made


async def test_a_runtime_that_tells_nothing_keeps_no_volumes(world: PodWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(pod_uid: str = "") -> Sequence[object]:
        raise RuntimeFailed("the runtime does not answer")

    monkeypatch.setattr(world.runtime, "sandboxes", silent)
    world.materials.left = {"uid-gone"}
    await world.advance(61)
    assert not world.materials.left


async def test_an_orphan_found_late_takes_no_record_of_who_has_its_name_now(world: PodWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.apply(pod(uid="uid-old"))
    await world.stop()
    world.cloud.write(pod(uid="uid-new"))
    await world.objects.apply([world.cloud.write(pod(uid="uid-new"))])
    sandboxes = world.runtime.sandboxes

    async def silent(pod_uid: str = "") -> Sequence[object]:
        if pod_uid:
            return await sandboxes(pod_uid)
        raise RuntimeFailed("the runtime does not answer")

    monkeypatch.setattr(world.runtime, "sandboxes", silent)
    await world.restart()
    await world.advance(30)
    assert orjson.loads(world.objects.stored[RECORD].body)["uid"] == "uid-new"
    monkeypatch.setattr(world.runtime, "sandboxes", sandboxes)
    await world.advance(60)
    assert {each.labels["io.kubernetes.pod.uid"] for each in world.runtime.running()} == {"uid-new"}
    assert orjson.loads(world.objects.stored[RECORD].body)["uid"] == "uid-new"


async def test_a_record_that_was_not_written_is_tried_again(world: PodWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    apply = world.objects.apply
    refused = 0

    async def refuses_once(changes: Sequence[ObjectChange]) -> None:
        nonlocal refused
        if not refused and changes and changes[0].key.kind == LOCAL_POD_STATUS:
            refused += 1
            raise StoreError("the disk was busy")
        await apply(changes)

    monkeypatch.setattr(world.objects, "apply", refuses_once)
    await world.apply(pod())
    await world.advance(25)
    assert refused
    assert orjson.loads(world.objects.stored[RECORD].body)["status"]["phase"] == "Running"


async def test_an_agent_that_ends_in_order_keeps_the_last_statuses(world: PodWorld) -> None:
    await world.apply(pod())
    await world.advance(11)
    world.exit("main", 1)
    await world.settle()
    assert world.container()["restartCount"] == 1
    await world.stop()
    kept = orjson.loads(world.objects.stored[RECORD].body)["status"]
    assert kept["containerStatuses"][0]["restartCount"] == 1
