"""A database that is damaged, read-only or full: the last good state is used, the Node and the log say what is wrong, and all recovers."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rig.asker import Asker, wanted
from rig.kube import DEVICES, KubeClient
from rig.mqtt import MqttClient
from rig.system import DEVICE, NODE, System, eventually, reported, set_desired

pytestmark = [pytest.mark.mosquitto, pytest.mark.timeout(180)]

UPDATE = f"$hw/events/device/default/{DEVICE}/twin/update"
ROOM = 2 << 20
BULK = 400_000
"""More than fits into what the database has taken already."""


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where the edge keeps its database; what is mounted there goes with the test."""
    found = tmp_path / "edge"
    found.mkdir()
    yield found
    subprocess.run(["umount", "-l", str(found)], check=False, capture_output=True)


def fill(folder: Path) -> Path:
    """Take all the space there is."""
    ballast = folder / "ballast"
    with ballast.open("ab", buffering=0) as file:
        for size in (65536, 4096):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return ballast


def log_of(system: System) -> str:
    return system.edge.log.read_text()


async def newest_refused(system: System) -> int:
    """The newest version of the device that did not fit on the disk."""
    return max((int(each) for each in re.findall(rf"sync.refused .*{DEVICE}' version=(\d+)", log_of(system))), default=0)


async def said(kube: KubeClient, system: System, kind: str, *words: str) -> None:
    """Wait until the Node's condition `kind` is False and its message has the words."""
    found = await eventually(
        lambda: condition(kube, kind),
        lambda answer: answer.get("status") == "False" and all(word in answer["message"] for word in words),
        system,
    )
    assert found["reason"] == "Degraded"


async def recovered(kube: KubeClient, system: System, kind: str) -> None:
    await eventually(lambda: condition(kube, kind), lambda answer: answer.get("status") == "True", system)


async def condition(kube: KubeClient, kind: str) -> Any:
    node = await kube.get(f"/api/v1/nodes/{NODE}")
    return next((each for each in node["status"]["conditions"] if each["type"] == kind), {})


async def device(kube: KubeClient) -> Any:
    return await kube.get(f"{DEVICES}/{DEVICE}")


async def report(system: System, kube: KubeClient, value: str) -> None:
    """A mapper's report reaches the API."""
    async with MqttClient(system.mqtt_port, "reporter") as client:
        client.publish(UPDATE, b'{"event_id":"","timestamp":1,"twin":{"red":{"actual":{"value":"%s"}}}}' % value.encode())
        await eventually(lambda: device(kube), lambda found: reported(found).get("red") == value, system)


async def test_a_damaged_database(tmp_path: Path, folder: Path) -> None:
    system = System(tmp_path)
    path = folder / "edgecore.db"
    async with system.running() as kube, Asker(system) as asker:
        await eventually(lambda: asker.ask(DEVICE), lambda answer: wanted(answer) == "OFF", system)
        await system.edge.stop()
        shutil.copy(path, folder / "edgecore.db.snapshot")
        path.write_bytes(random.Random(1).randbytes(path.stat().st_size))
        await system.cloud.kill()  # so that nothing comes back from there
        asker.answers.clear()
        await system.edge.start()
        await eventually(lambda: asker.ask(DEVICE), lambda answer: wanted(answer) == "OFF", system)
        assert "health.degraded fact=store.damaged" in log_of(system)
        assert "store.restored" in log_of(system)

        await system.cloud.start()
        await said(kube, system, "StoreDamagedHealthy", "set aside", "Check the disk")
        (aside,) = folder.glob("edgecore.db.damaged-*")
        aside.unlink()
        await recovered(kube, system, "StoreDamagedHealthy")
        assert "health.recovered fact=store.damaged" in log_of(system)


@pytest.mark.root
async def test_a_read_only_database(tmp_path: Path, folder: Path) -> None:
    system = System(tmp_path)
    async with system.running() as kube, Asker(system) as asker:
        await eventually(lambda: asker.ask(DEVICE), lambda answer: wanted(answer) == "OFF", system)
        await system.edge.stop()
        await system.cloud.kill()
        mount("--bind", str(folder), str(folder))
        mount("-o", "remount,bind,ro", str(folder))
        asker.answers.clear()
        await system.edge.start()
        await eventually(lambda: asker.ask(DEVICE), lambda answer: wanted(answer) == "OFF", system)
        assert "health.degraded fact=store.writable" in log_of(system)

        await system.cloud.start()
        await said(kube, system, "StoreWritableHealthy", "cannot be written", "working with the last stored state")
        await report(system, kube, "ON")
        mount("-o", "remount,bind,rw", str(folder))
        await recovered(kube, system, "StoreWritableHealthy")
        assert "health.recovered fact=store.writable" in log_of(system)
        await set_desired(kube, {"red": "ON"})
        await eventually(lambda: asker.ask(DEVICE), lambda answer: wanted(answer) == "ON", system)


@pytest.mark.root
async def test_a_damaged_database_that_cannot_be_replaced_yet(tmp_path: Path, folder: Path) -> None:
    system = System(tmp_path)
    path = folder / "edgecore.db"
    async with system.running() as kube, Asker(system) as asker:
        await eventually(lambda: asker.ask(DEVICE), lambda answer: wanted(answer) == "OFF", system)
        await system.edge.stop()
        shutil.copy(path, folder / "edgecore.db.snapshot")
        path.write_bytes(random.Random(1).randbytes(path.stat().st_size))
        mount("--bind", str(folder), str(folder))
        mount("-o", "remount,bind,ro", str(folder))
        asker.answers.clear()
        await system.edge.start()
        await eventually(lambda: asker.ask(DEVICE), lambda answer: wanted(answer) == "OFF", system)
        await said(kube, system, "StoreWritableHealthy", "damaged")
        mount("-o", "remount,bind,rw", str(folder))
        await recovered(kube, system, "StoreWritableHealthy")
        await said(kube, system, "StoreDamagedHealthy", "set aside")


@pytest.mark.root
async def test_a_full_database(tmp_path: Path, folder: Path) -> None:
    mount("-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(folder))
    system = System(tmp_path)
    async with system.running() as kube, Asker(system) as asker:
        await eventually(lambda: asker.ask(DEVICE), lambda answer: wanted(answer) == "OFF", system)
        ballast = fill(folder)
        await set_desired(kube, {"red": "x" * BULK})
        await said(kube, system, "StoreWritableHealthy", "no space left")
        assert "health.degraded fact=store.writable" in log_of(system)
        await report(system, kube, "busy")
        await system.edge.kill()
        await system.cloud.kill()
        asker.answers.clear()
        await system.edge.start()
        await eventually(lambda: asker.ask(DEVICE), lambda answer: wanted(answer) == "OFF", system)
        await system.cloud.start()
        await said(kube, system, "StoreWritableHealthy", "no space left")

        await set_desired(kube, {"red": "ON"})
        version = int((await device(kube))["metadata"]["resourceVersion"])
        await eventually(lambda: newest_refused(system), lambda refused: refused >= version, system)
        ballast.unlink()
        await recovered(kube, system, "StoreWritableHealthy")
        await eventually(lambda: asker.ask(DEVICE), lambda answer: wanted(answer) == "ON", system)
