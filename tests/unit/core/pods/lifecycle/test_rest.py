"""The machine goes down and comes back: what rested runs again, what was cut short has failed, what comes meanwhile is refused."""

from __future__ import annotations

import asyncio

import pytest
from rig.pods import NODE, PodWorld, pod, static_pod

from pinnace.core.base.pod import Pod


async def rest(world: PodWorld, uid: str, grace: float = 10) -> None:
    resting = asyncio.create_task(world.service.rest(uid, grace_seconds=grace))
    await world.settle()
    assert resting.done()


async def test_a_pod_that_rests_is_not_failed_and_runs_again_after_the_boot_offline(world: PodWorld) -> None:
    await world.apply(pod(containers=[{"name": "main", "lifecycle": {"preStop": {"exec": {"command": ["bye"]}}}}]))
    await rest(world, "uid-web")
    assert not world.runtime.running()
    assert world.hooks.ran == [("main", "bye", 10)]
    assert world.api()["phase"] == "Running"
    assert world.condition("Ready")["status"] == "False"
    await world.advance(100)
    assert not world.runtime.running(), "nothing starts while the machine goes down"
    world.uplink.disconnect()
    world.runtime.reboot()
    await world.restart(online=False)
    assert world.runtime.running("main")
    assert world.container()["restartCount"] == 1


async def test_a_shutdown_that_is_called_off(world: PodWorld) -> None:
    await world.apply(pod())
    await rest(world, "uid-web")
    world.service.wake()
    await world.settle()
    assert world.runtime.running("main")
    await world.delete("web")
    assert ("stop_container", "main:30") in world.runtime.calls, "the grace of the shutdown is forgotten"


async def test_a_pod_that_waits_for_its_image_rests_at_once(world: PodWorld) -> None:
    world.runtime.images.gate = asyncio.Event()
    await world.apply(pod(containers=[{"name": "main", "image": "far:1"}]))
    await rest(world, "uid-web")
    assert not world.runtime.images.under_way


async def test_one_that_is_deleted_while_it_rests_goes(world: PodWorld) -> None:
    await world.apply(pod())
    await rest(world, "uid-web")
    await world.delete("web")
    assert not world.service.pods()
    assert "web" not in world.cloud.pods


async def test_who_waits_for_a_rest_is_let_go(world: PodWorld) -> None:
    world.runtime.deaf.add("main")
    await world.apply(pod())
    waiting = [asyncio.create_task(world.service.rest("uid-web", grace_seconds=600)) for _ in range(2)]
    await world.settle()
    assert not waiting[0].done()
    await world.delete("web", 1)
    await world.advance(5)
    assert all(each.done() for each in waiting)


async def test_what_comes_while_the_machine_goes_down_is_refused(world: PodWorld) -> None:
    await world.apply(pod("early"))
    world.is_closing = True
    await world.apply(pod("late"))
    world.exit("main", 1)
    await world.settle()
    assert (world.api("late")["phase"], world.api("late")["reason"]) == ("Failed", "NodeShutdown")
    assert world.api("late")["message"] == "Pod was rejected as the node is shutting down."
    assert world.starts() == 2, "what was here is not asked again"


@pytest.mark.parametrize(("reason", "starts"), [("Terminated", 2), ("OutOfcpu", 2), ("DeadlineExceeded", 1)])
async def test_a_static_pod_that_the_node_ended_is_tried_again_by_the_next_agent(world: PodWorld, reason: str, starts: int) -> None:
    files = [static_pod()]
    await world.restart(static=files)
    await world.service.evict(files[0].uid, reason=reason, message="so it is", grace_seconds=0)
    await world.settle()
    assert world.status(f"local-{NODE}")["reason"] == reason
    await world.restart(online=False, static=files)
    assert world.starts() == starts
    assert [each.status["phase"] for each in world.service.pods()] == ["Running" if starts == 2 else "Failed"]


async def test_a_static_pod_that_ended_by_itself_stays_ended(world: PodWorld) -> None:
    files: list[Pod] = [static_pod(restartPolicy="Never")]
    await world.restart(static=files)
    world.exit("main", 1)
    await world.settle()
    await world.restart(static=files)
    assert world.starts() == 1
