"""The duties together: each is at work."""

from __future__ import annotations

import asyncio
from pathlib import Path

from fakes.clock import FakeClock
from fakes.podcontrol import FakePodControl
from fakes.podevents import FakeEvents
from fakes.runtime import FakeRuntime

from pinnace.core.base.settings.edged import EdgedSettings, KubeletSettings
from pinnace.core.pods.upkeep import Upkeep


class Counts:
    def working_set(self, pod_uid: str) -> int:
        return 0

    def tasks(self, pod_uid: str) -> int:
        return 0


async def test_pressure_is_told_and_what_is_left_over_goes(tmp_path: Path) -> None:
    clock = FakeClock()
    runtime, events = FakeRuntime(clock), FakeEvents()
    kubelet = KubeletSettings(eviction_hard={"memory.available": "100%"})
    settings = EdgedSettings(root_directory=tmp_path, pod_logs_dir=tmp_path / "logs", tailored_kubelet_config=kubelet)
    (tmp_path / "logs" / "default_gone_uid").mkdir(parents=True)
    upkeep = Upkeep(runtime, FakePodControl(), events, Counts(), settings, clock=clock)
    changed = asyncio.Event()
    upkeep.on_change(changed.set)
    running = asyncio.create_task(upkeep.run())
    async with asyncio.timeout(20):
        await changed.wait()
    assert upkeep.pressures == {"MemoryPressure"}
    assert upkeep.problem == ""
    async with asyncio.timeout(20):
        while (tmp_path / "logs" / "default_gone_uid").exists():
            await clock.advance(61)
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
