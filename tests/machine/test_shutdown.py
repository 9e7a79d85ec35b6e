"""Graceful shutdown with the real logind: it waits as long as pods take, and hears nothing more of us afterwards."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.podcontrol import FakePodControl
from fakes.podevents import FakeEvents

from pinnace.core.base.pod import Pod
from pinnace.core.base.settings.edged import KubeletSettings
from pinnace.core.pods.upkeep.shutdown import PROBLEM, NodeShutdown

LOGIN, MANAGER = "org.freedesktop.login1", "org.freedesktop.login1.Manager"


async def busctl(*arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        "busctl", "--json=short", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    said, wrong = await process.communicate()
    assert process.returncode == 0, wrong
    return said.decode()


async def inhibitors() -> list[list[str]]:
    found = json.loads(await busctl("call", LOGIN, "/org/freedesktop/login1", MANAGER, "ListInhibitors") or "{}")
    return [each for each in found["data"][0] if each[1] == "pinnace"]


@pytest.fixture
def power_stays_on() -> Iterator[None]:
    """poweroff.target does nothing, so that logind's part is played to its end."""
    unit = Path("/run/systemd/system/poweroff.target")
    unit.parent.mkdir(parents=True, exist_ok=True)
    unit.write_text("[Unit]\nDescription=Nothing\n")
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    yield
    unit.unlink()
    subprocess.run(["systemctl", "daemon-reload"], check=True)


async def until(what: str, condition: object) -> None:
    assert callable(condition)
    async with asyncio.timeout(60):
        while not (found := condition()):
            await asyncio.sleep(0.05)
    assert found, what


async def test_logind_waits_for_the_pods(power_stays_on: None) -> None:
    pod = Pod({"metadata": {"name": "web", "uid": "u"}, "spec": {"terminationGracePeriodSeconds": 30}, "status": {"phase": "Running"}})
    control, events, gate = FakePodControl(pod), FakeEvents(), asyncio.Event()

    async def wait(uid: str) -> None:
        await gate.wait()

    control.evicting = wait
    settings = KubeletSettings(shutdown_grace_period="40s", shutdown_grace_period_critical_pods="5s")
    made = NodeShutdown(control, events, settings)
    task = asyncio.create_task(made.run())
    async with asyncio.timeout(60):
        while not (held := await inhibitors()):
            await asyncio.sleep(0.1)
    assert held[0][0] == "shutdown"
    assert held[0][3] == "delay"
    delay = json.loads(await busctl("get-property", LOGIN, "/org/freedesktop/login1", MANAGER, "InhibitDelayMaxUSec"))
    assert delay["data"] == 40_000_000, "logind was told how long we need"

    await busctl("call", LOGIN, "/org/freedesktop/login1", MANAGER, "PowerOff", "b", "false")
    await until("pods are being ended", lambda: control.evictions)
    assert made.problem == PROBLEM
    assert control.evictions[0].grace_seconds == 30
    preparing = json.loads(await busctl("get-property", LOGIN, "/org/freedesktop/login1", MANAGER, "PreparingForShutdown"))
    assert preparing["data"] is True
    assert await inhibitors(), "it waits"
    gate.set()
    await until("logind went on and found that the machine stays", lambda: not made.problem)
    async with asyncio.timeout(60):
        while not await inhibitors():
            await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert not await inhibitors()
