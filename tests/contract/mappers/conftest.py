"""What the conformance suite runs against: each mapper of this build with a simulated device behind it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest
from fakes.edge import FakeEdge
from integration.mosquitto import Mosquitto

from pinnace.mappers.gpio.lamps import Lamp, LampRow
from pinnace.mappers.gpio.ports import SimulatedPort
from pinnace.mappers.sdk import BadValue, Broker, Device, DeviceFault, Dialect, Mapper, Property, Timing
from pinnace.mappers.sdk.simulator import SimulatedDevice
from pinnace.mappers.virtual.room import Room, declare


class Sample(NamedTuple):
    """A device to try a mapper on: a property that can be set, two of its values, one it does not have, how the device itself shows and
    takes it, and (where somebody can break it) a way to make its next writes fail."""

    device: Device
    name: str
    values: tuple[str, str]
    bad: str
    shown: Callable[[], str]
    by_hand: Callable[[str], None]
    fail_next: Callable[[int], None] | None = None


EVERY = 0.02


def lamps() -> Sample:
    port = SimulatedPort()
    row = LampRow((Lamp("red", 26), Lamp("green", 13), Lamp("yellow", 19)), port)
    device = row.declare(Device("light"), every_seconds=EVERY)
    return Sample(
        device,
        "red",
        ("ON", "OFF"),
        "PURPLE",
        lambda: "ON" if port.read(26) else "OFF",
        lambda value: port.write(26, int(value == "ON")),
    )


def room() -> Sample:
    each = Room()
    device = declare(Device("light"), each)
    target = device.properties.pop("target")
    device.add(Property("target", float, target.read, target.write, EVERY, quick=True))
    return Sample(device, "target", ("21.5", "19.0"), "99", lambda: str(each.target), lambda value: each.heat_to(float(value)))


class Boiler:
    """A device behind a slow bus: plain functions, which run in the mapper's thread."""

    def __init__(self) -> None:
        self.mode = "off"
        self.faults = 0

    def read(self) -> str:
        return self.mode

    def write(self, value: str) -> None:
        if self.faults:
            self.faults -= 1
            raise DeviceFault("the bus did not answer")
        if value not in {"off", "eco", "full"}:
            raise BadValue(f"expected off, eco or full, not {value!r}")
        self.mode = value

    def fail_next(self, times: int) -> None:
        self.faults = times

    def set(self, value: str) -> None:
        self.mode = value


def boiler() -> Sample:
    each = Boiler()
    device = Device("light").add_all([Property("mode", str, each.read, each.write, EVERY)])
    return Sample(device, "mode", ("eco", "full"), "turbo", lambda: each.mode, each.set, each.fail_next)


def simulated() -> Sample:
    each = SimulatedDevice({"mode": "off"}, allowed={"mode": frozenset({"off", "eco", "full"})})

    def turn(value: str) -> None:
        each.values["mode"] = value

    return Sample(
        each.device("light", every_seconds=EVERY), "mode", ("eco", "full"), "turbo", lambda: str(each.values["mode"]), turn, each.fail_next
    )


SAMPLES: dict[str, Callable[[], Sample]] = {
    "gpio": lamps,
    "virtual": room,
    "plain functions": boiler,
    "coroutines": simulated,
}


@pytest.fixture(scope="session")
def shared_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker of its own, for tests that take it away."""
    with Mosquitto(tmp_path) as broker:
        yield broker


@pytest.fixture(params=sorted(SAMPLES))
def sample(request: pytest.FixtureRequest) -> Sample:
    made: Sample = SAMPLES[request.param]()
    return made


TIMING = Timing(answer=(0.1, 0.4), retry=(0.02, 0.1), resync=30.0)


@dataclass
class Bench:
    """A mapper and the edge it talks to."""

    sample: Sample
    edge: FakeEdge
    mapper: Mapper


@contextlib.asynccontextmanager
async def bench(sample: Sample, port: int, *, identity: str = "default/light", dialect: Dialect = Dialect.AUTO,
                desired: dict[str, str] | None = None, edge_answers: bool = True) -> AsyncIterator[Bench]:  # fmt: skip
    """Both running; the edge is there first."""
    import asyncio

    async with FakeEdge(port, identity, desired or {}) as edge:
        edge.answers = edge_answers
        mapper = Mapper(sample.device, Broker(port=port), dialect=dialect, timing=TIMING)
        task = asyncio.create_task(mapper.run())
        try:
            yield Bench(sample, edge, mapper)
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
