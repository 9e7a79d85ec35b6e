"""Faults in the middle of twin updates, on real processes: each is killed at each step of an update, the link is cut at any byte.

Desired values are numbers that only grow. Whatever happens, in the end the device has the last one, the API shows it as reported, and
neither the device nor any watcher of the API ever saw an older number after a newer one. Every run is made by its seed:
`PINNACE_SOAK=1` runs 500 of them, the suite the first 50, which hold every pair of process and step.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from fakes.cutproxy import CutProxy, Plan
from rig.kube import DEVICES, KubeClient
from rig.mqtt import MqttClient
from rig.processes import Child
from rig.system import DEVICE, ROOT, System, eventually, reported

PROCESSES = ("broker", "api", "cloud", "edge", "mapper")
STEPS = (
    "before the write",
    "write under way",
    "write answered",
    "delta published",
    "report published",
    "report answered",
    "shown in the API",
)
KILLS = [*itertools.product(PROCESSES, STEPS)]
RUNS = 500 if os.environ.get("PINNACE_SOAK") else 50
PROPERTY = "red"
TOPIC = f"$hw/events/device/default/{DEVICE}"

pytestmark = [pytest.mark.mosquitto, pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]


class Stage:
    """One system for all runs of this module, with everything that was ever seen of the property."""

    def __init__(self, system: System, kube: KubeClient, proxy: CutProxy, mapper: Child, ledger: Path) -> None:
        self.system = system
        self.kube = kube
        self.proxy = proxy
        self.mapper = mapper
        self.ledger = ledger
        self.number = 0
        self.shown: list[str] = []
        self._index = 0
        self._heard: dict[str, asyncio.Event] = {}
        self.observer: MqttClient

    def child(self, name: str) -> Child:
        children = dict(zip(PROCESSES, (*self.system.children, self.mapper), strict=True))
        return children[name]

    def heard(self, topic: str, payload: bytes, _when: float) -> None:
        """Note that a value passed the broker: which of the steps that was."""
        step = {"twin/update/delta": STEPS[3], "twin/update": STEPS[4], "twin/update/result": STEPS[5]}.get(topic.removeprefix(TOPIC + "/"))
        if step is not None and step in self._heard and f'"{self.number}"'.encode() in payload:
            self._heard[step].set()

    async def applied(self) -> list[int]:
        """The numbers that the device was given, in order."""
        lines = await asyncio.to_thread(self.ledger.read_text)
        return [int(value) for name, value in (line.split(" ", 1) for line in lines.splitlines()) if name == PROPERTY and value.isdigit()]

    async def find_index(self) -> None:
        device = await self.kube.get(f"{DEVICES}/{DEVICE}")
        self._index = [each["name"] for each in device["spec"]["properties"]].index(PROPERTY)

    async def want(self, number: int) -> None:
        """Set the desired value, as often as it takes until the API says yes."""
        path = f"/spec/properties/{self._index}"
        patch = [
            {"op": "test", "path": f"{path}/name", "value": PROPERTY},
            {"op": "add", "path": f"{path}/desired", "value": {"value": str(number)}},
        ]
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(aiohttp.ClientError, ConnectionError):
                    status, body = await self.kube.ask("PATCH", f"{DEVICES}/{DEVICE}", patch, content_type="application/json-patch+json")
                    if status == 200:
                        return
                    assert status >= 429, body
                await asyncio.sleep(0.02)

    async def device(self) -> Any:
        with contextlib.suppress(aiohttp.ClientError, ConnectionError):
            status, body = await self.kube.ask("GET", f"{DEVICES}/{DEVICE}")
            if status == 200:
                return body
        return {}

    async def watch(self) -> None:
        """Follow what the API shows, for ever."""
        while True:
            with contextlib.suppress(aiohttp.ClientError, ConnectionError, AssertionError):
                version = (await self.kube.get(DEVICES))["metadata"]["resourceVersion"]
                async with self.kube.watch(DEVICES, version) as events:
                    async for event in events:
                        value = reported(event["object"]).get(PROPERTY)
                        if event["type"] != "BOOKMARK" and value is not None and value.isdigit():
                            self.shown.append(value)
            await asyncio.sleep(0.05)

    async def crash(self, name: str) -> None:
        """kill -9, and start it again."""
        child = self.child(name)
        await child.kill()
        await child.start()

    async def updates(self, count: int, fault: Any, step: str, delay: float) -> None:
        """Some updates in a row; during the last one the fault comes at its step."""
        await self.observer.until_ready()
        for _ in range(count - 1):
            self.number += 1
            await self.want(self.number)
        self.number += 1
        self._heard = {step: asyncio.Event()}
        if step == STEPS[0]:
            await fault()
        writing = asyncio.create_task(self.want(self.number))
        if step == STEPS[1]:
            await asyncio.sleep(delay)
            await fault()
        await writing
        if step in STEPS[3:6]:
            async with asyncio.timeout(60):
                await self._heard[step].wait()
        elif step == STEPS[6]:
            await self.settled()
        if step in STEPS[2:]:
            await asyncio.sleep(delay)
            await fault()

    async def settled(self) -> None:
        """The last number is the device's, and the API shows it."""
        wanted = str(self.number)

        async def state() -> Any:
            numbers = await self.applied()
            return (str(numbers[-1]) if numbers else "", reported(await self.device()).get(PROPERTY))

        await eventually(state, lambda found: found == (wanted, wanted), self.system)

    async def check_order(self) -> None:
        numbers = await self.applied()
        assert numbers == sorted(numbers), "the device was given an older value after a newer one"
        shown = [int(each) for each in self.shown]
        assert shown == sorted(shown), "the API showed an older value after a newer one"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    folder = tmp_path_factory.mktemp("faults")
    system = System(folder)
    ledger = folder / "ledger"
    async with CutProxy("127.0.0.1", system.hub_port) as proxy:
        system.link_port = proxy.port
        async with system.running() as kube:
            mapper = Child(
                "mapper",
                [
                    sys.executable, str(ROOT / "tests" / "rig" / "echo_mapper.py"), "--broker", f"tcp://127.0.0.1:{system.mqtt_port}",
                    "--device", DEVICE, "--file", str(ledger), "--properties", PROPERTY,
                ],
                folder / "mapper.log",
            )  # fmt: skip
            made = Stage(system, kube, proxy, mapper, ledger)
            watching = asyncio.create_task(made.watch())
            try:
                await mapper.start()
                await made.find_index()
                async with MqttClient(system.mqtt_port, "observer", f"{TOPIC}/#", listener=made.heard) as made.observer:
                    made.number = 1
                    await made.want(1)
                    await made.settled()
                    yield made
            finally:
                watching.cancel()
                await mapper.kill()


@pytest.mark.parametrize("seed", range(RUNS))
async def test_desired_and_reported_agree_after_a_fault(stage: Stage, seed: int) -> None:
    draw = random.Random(seed)
    count, delay = draw.randint(1, 4), draw.choice((0.0, 0.0, draw.uniform(0.0, 0.02)))
    if seed < len(KILLS) or seed % 5 < 2:
        name, step = KILLS[seed % len(KILLS)] if seed < len(KILLS) else draw.choice(KILLS)
        await stage.updates(count, lambda: stage.crash(name), step, delay)
    else:
        is_up = draw.random() < 0.5
        # Some connections after the cut one end early too: in TLS, in the upgrade, in what is sent again.
        for _ in range(draw.randint(0, 2)):
            position = draw.randint(0, 8000)
            stage.proxy.plan(Plan(cut_up=position) if draw.random() < 0.5 else Plan(cut_down=position))

        async def cut() -> None:
            stage.proxy.cut_after(draw.randint(0, 3000), up=is_up)

        await stage.updates(count, cut, draw.choice(STEPS), delay)
    await stage.settled()
    await stage.check_order()
