"""The GPIO mapper as people start it: a process of its own, a real broker, simulated pins that are watched from outside."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from fakes.edge import FakeEdge
from integration.mosquitto import Mosquitto

MODEL = Path(__file__).resolve().parents[3] / "build/samples/traffic-light/model.yaml"
DEVICE = "default/traffic-light-instance-01"
AS_MODULE = ["-m", "pinnace.mappers.gpio"]
AS_COMMAND = ["-c", "import sys; from pinnace.mappers.commands import mapper; sys.exit(mapper.main(sys.argv[1:]))", "gpio"]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path) as broker:
        yield broker


@contextlib.asynccontextmanager
async def process(*arguments: str, start: list[str] | None = None) -> AsyncIterator[subprocess.Popen[str]]:
    """The mapper, ready; ended afterwards."""
    read, write = os.pipe()
    started = subprocess.Popen(
        [sys.executable, *(start or AS_MODULE), *arguments, "--ready-fd", str(write)],
        pass_fds=[write], stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    os.close(write)
    try:
        assert await asyncio.to_thread(os.read, read, 16) == b"ready\n", started.communicate()
        yield started
    finally:
        os.close(read)
        if started.poll() is None:
            started.kill()
        started.communicate()


async def levels(reader: asyncio.StreamReader, wanted: dict[str, int]) -> None:
    """Read the pins' socket until they are so."""
    async with asyncio.timeout(20):
        while json.loads(await reader.readline())["levels"] != wanted:
            pass


@pytest.mark.mosquitto
@pytest.mark.parametrize("start", [AS_MODULE, AS_COMMAND], ids=["python -m", "pinnace mapper"])
async def test_the_traffic_light_of_the_sample(broker: Mosquitto, tmp_path: Path, start: list[str]) -> None:
    pins = tmp_path / "pins"
    flags = ["--profile", str(MODEL), "--numbering", "wiringpi", "--mqtturl", broker.url, "--port", "simulated", "--pin-socket", str(pins)]
    async with (
        FakeEdge(broker.port, DEVICE, {"red": "ON", "green": "OFF", "yellow": "OFF"}) as edge,
        process(*flags, start=start) as mapper,
    ):
        await edge.shows(red="ON", green="OFF", yellow="OFF")
        reader, writer = await asyncio.open_unix_connection(pins)
        await levels(reader, {"13": 0, "19": 0, "26": 1})
        edge.desire(red="OFF", green="ON")
        await levels(reader, {"13": 1, "19": 0, "26": 0})
        await edge.shows(red="OFF", green="ON")
        edge.desire(yellow="purple")
        await edge.until(lambda: edge.states[-1] == "unhealthy")
        assert pins.stat().st_mode & 0o777 == 0o600
        mapper.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(mapper.wait, 20) == 0
        await edge.until(lambda: edge.states[-1] == "offline")
        writer.close()


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        ([], "which pins?"),
        (["--profile", "/no/such/file"], "--profile: /no/such/file cannot be read"),
        (["--pins", "red"], "--pins: expected NAME=NUMBER"),
        (["--pins", "red=17"], "pin 17: wiringpi numbering knows"),
        (["--pins", "red=25", "--mqtturl", "http://x"], "--mqtturl: expected tcp://HOST:PORT"),
        (["--pins", "red=25", "--device", "a/b/c"], "--device: expected NAME or NAMESPACE/NAME"),
        (["--pins", "red=25", "--every", "0"], "--every: expected seconds above 0"),
        (["--pins", "red=25", "--log-level", "loud"], "--log-level: expected debug"),
        (["--pins", "red=25", "--port", "simulated", "--pin-socket", "/no/such/socket"], "--pin-socket: /no/such/socket: No such file"),
    ],
)
def test_wrong_flags_are_said_in_one_line(flags: list[str], complaint: str) -> None:
    done = subprocess.run([sys.executable, *AS_MODULE, *flags], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert len([line for line in done.stderr.splitlines() if " W " not in line]) == 1


@pytest.mark.mosquitto
async def test_it_waits_for_a_broker_that_comes_later(broker: Mosquitto) -> None:
    broker.stop()
    port = broker.port
    mapper = subprocess.Popen(
        [sys.executable, *AS_MODULE, "--pins", "red=25", "--port", "simulated", "--mqtturl", broker.url], stderr=subprocess.PIPE, text=True
    )
    try:
        assert mapper.stderr is not None
        assert "mqtt.unreachable" in await asyncio.to_thread(mapper.stderr.readline)
        broker.start()
        assert broker.port == port
        assert "mqtt.connected" in await asyncio.to_thread(mapper.stderr.readline)
        async with FakeEdge(port, DEVICE, {"red": "ON"}) as edge:
            await edge.shows(red="ON")
    finally:
        mapper.kill()
        mapper.communicate()
