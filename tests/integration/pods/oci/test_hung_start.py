"""What does not come back while a container starts, as where the server of a mount is away: it is ended, and nobody else has to wait."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from contract.runtime.pods import TestPod, until
from rig.oci import OciHome

from pinnace.core.base.runtime import ContainerState, RuntimeFailed
from pinnace.core.pods.oci import shims
from pinnace.core.pods.oci.files import start_time
from pinnace.core.pods.oci.runtime import OciRuntime

pytestmark = [pytest.mark.containers, pytest.mark.root]
CRUN = """#!/bin/sh
case "$*" in
    *--version*) echo crun version 1.0 ;;
    *) sleep 1234 & echo $$ $! >>{told}; sleep 1235 ;;
esac
"""

LATE = """#!/bin/sh
echo $PPID $$ >>{told}
kill -STOP $PPID
exec {then}
"""
"""Its shim answers nobody any more, as one that waits for a disk."""


@pytest.fixture
def told(tmp_path: Path) -> Path:
    """Where the program that hangs tells of its processes."""
    return tmp_path / "told"


@pytest.fixture
async def hanging(home: OciHome, told: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OciRuntime]:
    crun = told.with_name("crun")
    crun.write_text(CRUN.format(told=told))
    crun.chmod(0o755)
    monkeypatch.setattr(shims, "START_SECONDS", 2)
    settings = replace(home.settings, crun=str(crun), root_dir=home.folder / "hung/root", run_dir=home.folder / "hung/run")
    made = OciRuntime(settings, home.images, bridge=home.bridge)
    await made.start()
    yield made
    await made.close()


async def test_it_is_ended_with_all_it_started_and_told(hanging: OciRuntime, told: Path, tmp_path: Path, cgroup: str) -> None:
    pod = TestPod(hanging, tmp_path, cgroup)
    container_id = await pod.create(("sleep", "1000"))
    with pytest.raises(RuntimeFailed, match="crun did not end within 2 s: is the server or disk of a mount away") as caught:
        await hanging.start_container(container_id)
    assert caught.value.reason == "StartError"
    container = await hanging.container(container_id)
    assert (container.state, container.exit_code, container.reason) == (ContainerState.EXITED, 128, "StartError")
    await until(lambda: _are_gone(*map(int, told.read_text().split())), what="the end of all it started")
    await pod.remove()


async def test_who_wants_it_stopped_or_gone_meanwhile_waits_for_that(hanging: OciRuntime, told: Path, tmp_path: Path, cgroup: str) -> None:
    """Also when its pod has given up on the start: nothing goes on beside its removal."""
    pod = TestPod(hanging, tmp_path, cgroup)
    container_id = await pod.create(("sleep", "1000"))
    starting = asyncio.create_task(hanging.start_container(container_id))
    async with asyncio.timeout(20):
        while not told.exists():
            await asyncio.sleep(0.02)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    await hanging.stop_container(container_id, 0)
    assert (await hanging.container(container_id)).reason == "StartError"
    await hanging.remove_container(container_id)
    await pod.remove()


@pytest.mark.parametrize("then", ['crun "$@"', "sleep 1234"], ids=["container", "crun"])
async def test_a_shim_that_answers_too_late_is_ended_with_all_it_started(
    hanging: OciRuntime, told: Path, cgroup: str, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    """What was told as never started does not run after all, whether it ran already or was on its way."""
    monkeypatch.setattr(shims, "CALL_SECONDS", 1)
    told.with_name("crun").write_text(LATE.format(told=told, then=then))
    pod = TestPod(hanging, told.parent, cgroup)
    container_id = await pod.create(("sleep", "1000"))
    with pytest.raises(RuntimeFailed, match="did not end within 3 s") as caught:
        await hanging.start_container(container_id)
    assert caught.value.reason == "StartError"
    container = await hanging.container(container_id)
    assert (container.state, container.exit_code, container.reason) == (ContainerState.EXITED, 128, "StartError")
    shim, crun = (int(each) for each in told.read_text().split())
    await until(lambda: _are_gone(shim, crun), what="the end of the shim and its crun")
    await until(lambda: _is_cleared(container_id), what="the end of the container")
    await pod.remove()


async def _are_gone(*pids: int) -> bool:
    return not any(start_time(pid) for pid in pids)


async def _is_cleared(container_id: str) -> bool:
    return not list(Path("/sys/fs/cgroup").glob(f"*/*/*/{container_id}"))


async def test_a_shim_that_waits_for_the_disk_of_its_log_is_ended(
    hanging: OciRuntime, home: OciHome, tmp_path: Path, cgroup: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shims, "CALL_SECONDS", 1)
    pod = TestPod(hanging, tmp_path, cgroup)
    container_id = await pod.create(("sleep", "1000"))
    log = (await hanging.container(container_id)).log_path
    os.mkfifo(log)  # opened for writing as soon as somebody reads
    with pytest.raises(RuntimeFailed, match="did not end within 3 s"):
        await hanging.start_container(container_id)
    shim = int((home.folder / "hung/run/oci/containers" / container_id / "shim").read_text().split()[0])
    await until(lambda: _are_gone(shim), what="the end of the shim")
    await pod.remove()
