"""What is told of changes, and what a new adapter finds."""

from __future__ import annotations

import asyncio

import pytest
from contract.runtime.installations import Installation
from contract.runtime.pods import TestPod, until

from pinnace.core.base.runtime import ContainerState, Runtime, SandboxState


@pytest.fixture
async def heard(pod: TestPod) -> list[str]:
    """The uids told so far."""
    told: list[str] = []
    pod.runtime.on_change(told.append)
    return told


async def until_told(told: list[str], uid: str) -> None:
    async def is_told() -> bool:
        return uid in told

    await until(is_told, what="the change")


async def test_end_of_a_container_is_told(pod: TestPod, heard: list[str]) -> None:
    container_id = await pod.shell("while ! test -e /tmp/go; do sleep 0.02; done")
    await until_told(heard, pod.uid)
    await pod.exec(container_id, "sleep 1.5; touch /tmp/go &")
    await pod.ended(container_id)
    heard.clear()
    other = await pod.start(("sleep", "1"))
    await until_told(heard, pod.uid)
    heard.clear()
    await pod.ended(other)
    await until_told(heard, pod.uid)


async def test_only_pods_that_changed_are_told(pod: TestPod, runtime: Runtime, heard: list[str]) -> None:
    await pod.start()
    await until_told(heard, pod.uid)
    other = TestPod(runtime, pod.folder, pod.cgroup)
    try:
        container = await other.run(("true",))
        await until_told(heard, other.uid)
        heard.clear()
        await runtime.remove_container(container.id)
        await other.start(("sleep", "0.2"))
        await until_told(heard, other.uid)
        assert pod.uid not in heard
    finally:
        await other.remove()


async def test_new_adapter_sees_everything_and_what_ended_meanwhile(pod: TestPod, installation: Installation) -> None:
    running = await pod.start(labels={"a": "1"})
    short = await pod.shell("echo up; sleep 0.5; echo over; exit 9")
    await pod.until_said(short, "up")
    before = {each.id: each for each in await pod.runtime.containers(pod.uid)}
    await pod.runtime.close()
    log = before[short].log_path

    async def is_over() -> bool:
        return "over" in log.read_text()

    await until(is_over, what="the container's last word")
    again = pod.runtime = installation.adapter()
    told: list[str] = []
    again.on_change(told.append)
    await again.start()
    task = asyncio.create_task(again.run())
    try:

        async def has_ended() -> bool:
            return (await again.container(short)).state is ContainerState.EXITED

        await until(has_ended, what="the container's end")
        after = {each.id: each for each in await again.containers(pod.uid)}
        assert after[running] == before[running]
        assert (after[short].exit_code, after[short].reason) == (9, "Error")
        assert [each.state for each in await again.sandboxes(pod.uid)] == [SandboxState.READY]
        assert (await again.exec_sync(running, ("echo", "still"), 20)).stdout == b"still\n"
        await again.stop_container(running, 0)
        await until_told(told, pod.uid)
        await again.remove_sandbox(pod.sandbox_id)
        assert list(await again.containers(pod.uid)) == []
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await again.close()


@pytest.mark.bookkeeping
async def test_state_is_well(runtime: Runtime) -> None:
    state = await runtime.state()
    assert state.problem == ""
    assert state.network_problem == ""
    assert state.version
    assert state.name == runtime.name
