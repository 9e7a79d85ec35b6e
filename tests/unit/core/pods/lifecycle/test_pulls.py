"""Image policies, pulls and their back-off, the local image while the registry is silent."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.runtime import make_image
from rig.pods import PodWorld, pod

from pinnace.core.base.pod import Object
from pinnace.core.base.runtime import PullFailed
from pinnace.core.base.settings.edged import EdgedSettings

UNREACHABLE = PullFailed("connection refused", reason="RegistryUnavailable", is_unreachable=True)


def main(policy: str = "", image: str = "app:1") -> list[Object]:
    return [{"name": "main", "image": image, **({"imagePullPolicy": policy} if policy else {})}]


async def test_present_is_enough_for_a_tag(world: PodWorld) -> None:
    await world.apply(pod())
    assert not world.runtime.images.pulled


@pytest.mark.parametrize("image", ["app", "app:latest", "host:5000/app"])
async def test_no_tag_and_latest_are_pulled_each_time(world: PodWorld, image: str) -> None:
    world.runtime.images.add(image)
    world.runtime.images.remote[image] = make_image(image)
    await world.apply(pod(containers=main(image=image)))
    assert world.runtime.images.pulled == [image]
    assert world.runtime.running("main")
    assert [each.reason for each in world.events.told][:2] == ["Pulling", "Pulled"]
    assert "Image size: 1000 bytes." in world.events.told[1].message


async def test_never(world: PodWorld) -> None:
    await world.apply(pod(containers=main("Never", "far:1")))
    waiting = world.container()["state"]["waiting"]
    assert waiting["reason"] == "ErrImageNeverPull"
    assert waiting["message"] == 'Container image "far:1" is not present with pull policy of Never'
    world.runtime.images.add("far:1")
    await world.advance(11)
    assert world.runtime.running("main")


async def test_a_failing_pull_is_told_then_held_back_10_20_40_seconds(world: PodWorld) -> None:
    await world.apply(pod(containers=main(image="far:1")))
    waiting = world.api()["containerStatuses"][0]["state"]["waiting"]
    assert waiting["reason"] == "ErrImagePull"
    assert waiting["message"] == 'failed to pull image "far:1": far:1: not found'
    await world.advance(3)
    waiting = world.api()["containerStatuses"][0]["state"]["waiting"]
    assert waiting["reason"] == "ImagePullBackOff"
    assert waiting["message"].startswith('Back-off pulling image "far:1": ErrImagePull: failed to pull image "far:1"')
    moments: list[int] = []
    began = world.clock.now() - 3
    while len(moments) < 4:
        count = len(world.runtime.images.pulled)
        await world.advance(1)
        if len(world.runtime.images.pulled) > count:
            moments.append(round(world.clock.now() - began))
            began = world.clock.now()
    assert moments == [10, 20, 40, 80]
    world.runtime.images.remote["far:1"] = make_image("far:1")
    await world.advance(161)
    assert world.api()["phase"] == "Running"
    assert world.container()["restartCount"] == 0


async def test_a_clock_set_back_holds_no_pull_back_for_long(world: PodWorld) -> None:
    await world.apply(pod(containers=main(image="far:1")))
    await world.advance(3)
    world.clock.set_wall(world.clock.wall() - 3600)
    world.runtime.images.remote["far:1"] = make_image("far:1")
    await world.advance(60)
    assert world.runtime.running("main")


async def test_a_clock_set_back_holds_no_failing_image_back_for_long_nor_lets_it_loop(world: PodWorld) -> None:
    await world.apply(pod(containers=main(image="far:1")))
    world.clock.set_wall(world.clock.wall() - 3600)
    await world.advance(300)
    assert 3 <= len(world.runtime.images.pulled) <= 8


@pytest.mark.parametrize("policy", ["IfNotPresent", "Never"])
async def test_an_imported_image_ends_the_back_off(world: PodWorld, policy: str) -> None:
    await world.apply(pod(containers=main(policy, "far:1")))
    await world.advance(200)
    assert not world.runtime.running("main")
    world.runtime.images.add("far:1")
    world.service.images_came()
    await world.settle()
    assert world.runtime.running("main")


async def test_a_bad_name_says_so(world: PodWorld) -> None:
    await world.apply(pod(containers=main(image="Bad:1")))
    assert world.container()["state"]["waiting"]["reason"] == "InvalidImageName"


async def test_one_pull_at_a_time(world: PodWorld) -> None:
    images = world.runtime.images
    images.gate = asyncio.Event()
    for index in range(3):
        images.remote[f"far:{index}"] = make_image(f"far:{index}")
        await world.apply(pod(f"p{index}", containers=main(image=f"far:{index}")))
    assert images.under_way == 1
    images.gate.set()
    await world.settle()
    assert images.most_under_way == 1
    assert len(world.runtime.running()) == 3


async def test_other_containers_go_on_while_one_is_pulled(world: PodWorld) -> None:
    world.runtime.images.gate = asyncio.Event()
    await world.apply(pod(containers=[{"name": "first"}, {"name": "second", "image": "far:1"}, {"name": "third"}]))
    assert [each.name for each in world.runtime.running()] == ["first"]  # in the order of the spec
    world.exit("first", 1)
    await world.settle()
    assert world.runtime.one("first").attempt == 1
    world.runtime.images.remote["far:1"] = make_image("far:1")
    world.runtime.images.gate.set()
    await world.settle()
    assert {each.name for each in world.runtime.running()} == {"first", "second", "third"}


async def test_always_takes_the_local_image_while_the_registry_is_silent(world: PodWorld) -> None:
    world.runtime.images.remote["app:1"] = UNREACHABLE
    await world.apply(pod(containers=main("Always")))
    assert world.runtime.running("main")
    warning = next(each for each in world.events.told if each.reason == "LocalImageUsed")
    assert warning.kind == "Warning"
    assert "connection refused" in warning.message
    await world.apply(pod("two", containers=main("Always")))
    assert world.runtime.images.pulled == ["app:1"]  # not asked again within half a minute
    assert len(world.runtime.running()) == 2


async def test_a_registry_that_answers_with_no_is_believed(world: PodWorld) -> None:
    world.runtime.images.remote["app:1"] = PullFailed("unauthorized")
    await world.apply(pod(containers=main("Always")))
    assert world.container()["state"]["waiting"]["reason"] == "ErrImagePull"
    assert not world.runtime.running()


async def test_silence_counts_as_unreachable_soon_when_offline(world: PodWorld) -> None:
    world.uplink.disconnect()
    world.runtime.images.gate = asyncio.Event()
    await world.apply(pod(containers=main("Always")))
    assert not world.runtime.running()
    await world.advance(2)
    assert world.runtime.running("main")
    assert world.runtime.images.under_way == 0


async def test_a_pull_that_hangs_holds_up_nobody_who_has_a_local_image(world: PodWorld) -> None:
    world.uplink.disconnect()
    world.runtime.images.gate = asyncio.Event()
    await world.objects.apply(
        [world.cloud.write(pod("stuck", containers=main(image="far:1"))), world.cloud.write(pod(containers=main("Always")))]
    )
    await world.restart(online=False)
    await world.advance(3)
    assert world.runtime.images.under_way == 1
    assert world.status()["phase"] == "Running"


async def test_an_imported_image_satisfies_always(world: PodWorld) -> None:
    world.runtime.images.add("app:1", is_pinned=True)
    await world.apply(pod(containers=main("Always")))
    assert world.runtime.running("main")
    assert not world.runtime.images.pulled


async def test_the_local_image_can_be_forbidden(tmp_path: Path) -> None:
    settings = replace(EdgedSettings(pod_logs_dir=tmp_path / "logs"), local_image_when_offline=False)
    world = PodWorld(tmp_path, settings=settings)
    await world.start()
    try:
        world.runtime.images.remote["app:1"] = UNREACHABLE
        await world.apply(pod(containers=main("Always")))
        assert world.container()["state"]["waiting"]["reason"] == "RegistryUnavailable"
        assert not world.runtime.running()
    finally:
        await world.stop()
