"""What a node says of its pods' runtime from the first moment on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from fakes.clock import FakeClock
from fakes.runtime import FakeRuntime
from fakes.uplink import FakeUplink

from pinnace.core.base.contract.keys import NodeName
from pinnace.core.base.errors import LinkError
from pinnace.core.base.settings.edged import EdgedSettings, KubeletSettings
from pinnace.core.meta.store import Store
from pinnace.core.pods.host import PodNode
from pinnace.ext.records import Envelope


class SlowRuntime(FakeRuntime):
    """Not ready until its start is let go on."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Event()
        self.problem = "the runtime was not started yet"

    async def start(self) -> None:
        await self.go_on.wait()
        self.problem = ""


def silent(envelope: Envelope) -> Envelope:
    raise LinkError("nobody answers here")


@contextlib.asynccontextmanager
async def running(folder: Path, runtime: FakeRuntime, clock: FakeClock) -> AsyncIterator[tuple[PodNode, list[str]]]:
    """The node, and what it has told of its runtime."""
    kubelet = KubeletSettings(cgroup_root=f"/{folder.name}", static_pod_path=folder / "manifests")
    settings = EdgedSettings(root_directory=folder / "kubelet", pod_logs_dir=folder / "logs", tailored_kubelet_config=kubelet)
    async with Store(folder / "edge.db") as store:
        node = PodNode(
            settings, NodeName("n"), capacity={"cpu": "2", "memory": "1Gi"}, addresses=tuple, objects=store, uplink=FakeUplink(silent),
            outbox=store.outbox, clock=clock, runtime=runtime,
        )  # fmt: skip
        told: list[str] = []
        node.on_change(lambda: told.append(node.problem))
        task = asyncio.create_task(node.run())
        try:
            yield node, told
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def until(claim: object) -> None:
    assert callable(claim)
    async with asyncio.timeout(20):
        while not claim():
            await asyncio.sleep(0.005)


async def test_a_runtime_is_told_of_as_soon_as_it_has_started(tmp_path: Path) -> None:
    """Nobody moves the clock on: it is the start that is waited for, not the next look."""
    runtime = SlowRuntime()
    async with running(tmp_path, runtime, FakeClock()) as (node, told):
        assert node.problem
        runtime.go_on.set()
        await until(lambda: told)
        assert told == [""]
        assert node.runtime == "fake://1"


async def test_a_runtime_that_does_not_start_is_told_of_all_the_same(tmp_path: Path) -> None:
    clock = FakeClock()
    async with running(tmp_path, SlowRuntime(), clock) as (node, told):
        await until(lambda: clock._sleepers)
        while not told:
            await clock.advance(0.5)
        assert told[0] == "the runtime was not started yet"
        assert node.problem == told[0]
