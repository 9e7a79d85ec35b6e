"""A reported value's way through the whole system: MQTT publish → visible in a watch of the Kubernetes API; a burst; the edge's memory.

Broker, API server, cloudcore and edge are the real processes on loopback. As a yardstick of the machine the same run measures the bare
ends of that way alone: publish → subscriber at the broker, and write → watch at the API. `--json FILE` writes the figures down.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import orjson
import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rig.figures import arguments, percentiles, pss_kb, report
from rig.kube import DEVICES, KubeClient
from rig.mqtt import MqttClient
from rig.system import DEVICE, System, eventually, reported

ROUNDS = 400
BURST = 500
BURSTS = 5
TOPIC = f"$hw/events/device/default/{DEVICE}/twin/update"


def update(value: str, name: str = "red") -> bytes:
    return orjson.dumps({"event_id": "", "timestamp": time.time_ns() // 1_000_000, "twin": {name: {"actual": {"value": value}}}})


class Seen:
    """The values of one property in the order in which a watch showed them."""

    def __init__(self, kube: KubeClient) -> None:
        self._kube = kube
        self.values: list[tuple[str, float]] = []
        self._news = asyncio.Event()

    async def watch(self, version: str, opened: asyncio.Event) -> None:
        async with self._kube.watch(DEVICES, version) as events:
            opened.set()
            async for event in events:
                value = reported(event["object"]).get("red")
                if value is not None and (not self.values or self.values[-1][0] != value):
                    self.values.append((value, time.perf_counter()))
                    self._news.set()

    async def until(self, value: str) -> float:
        while not self.values or self.values[-1][0] != value:
            self._news.clear()
            await self._news.wait()
        return self.values[-1][1]


async def broker_alone(port: int, rounds: int) -> list[float]:
    arrived: asyncio.Queue[float] = asyncio.Queue()
    found = []
    async with MqttClient(port, "yardstick", "yard/stick", listener=lambda _t, _p, when: arrived.put_nowait(when)) as client:
        for _ in range(rounds):
            begun = time.perf_counter()
            client.publish("yard/stick", b"x" * 100)
            found.append(await arrived.get() - begun)
            await asyncio.sleep(0.001)
    return found


async def api_alone(kube: KubeClient, rounds: int) -> list[float]:
    path = "/api/v1/namespaces/default/configmaps"
    _, made = await kube.ask("POST", path, {"metadata": {"name": "yardstick"}, "data": {"n": ""}})
    times: dict[str, float] = {}
    opened, news = asyncio.Event(), asyncio.Event()

    async def watch() -> None:
        async with kube.watch(path, made["metadata"]["resourceVersion"]) as events:
            opened.set()
            async for event in events:
                times[(event["object"].get("data") or {}).get("n", "")] = time.perf_counter()
                news.set()

    watching = asyncio.create_task(watch())
    await opened.wait()
    found = []
    for number in range(rounds):
        begun = time.perf_counter()
        await kube.merge(f"{path}/yardstick", {"data": {"n": str(number)}})
        while str(number) not in times:
            news.clear()
            await news.wait()
        found.append(times[str(number)] - begun)
    watching.cancel()
    return found


async def single_updates(client: MqttClient, seen: Seen, rounds: int) -> list[float]:
    found = []
    for number in range(rounds):
        begun = time.perf_counter()
        client.publish(TOPIC, update(f"n{number}"))
        found.append(await asyncio.wait_for(seen.until(f"n{number}"), 30) - begun)
        await asyncio.sleep(0.002)
    return found


async def bursts(client: MqttClient, seen: Seen) -> tuple[list[float], int]:
    """Seconds from the first publication of each burst to its last value in the watch, and how often an older value followed a newer."""
    found, backwards = [], 0
    for burst in range(BURSTS):
        before = len(seen.values)
        begun = time.perf_counter()
        for number in range(BURST):
            client.publish(TOPIC, update(str(burst * BURST + number)))
        found.append(await asyncio.wait_for(seen.until(str(burst * BURST + BURST - 1)), 60) - begun)
        shown = [int(value) for value, _ in seen.values[before:]]
        backwards += sum(later < earlier for earlier, later in itertools.pairwise(shown))
        await asyncio.sleep(0.2)
    return found, backwards


async def measure(folder: Path, *, rounds: int = ROUNDS, settle_seconds: float = 3.0) -> dict[str, Any]:
    """All figures. Memory is read after `settle_seconds` without traffic."""
    system = System(folder)
    async with system.running() as kube:
        version = (await kube.get(DEVICES))["metadata"]["resourceVersion"]
        seen, opened = Seen(kube), asyncio.Event()
        watching = asyncio.create_task(seen.watch(version, opened))
        await opened.wait()
        async with MqttClient(system.mqtt_port, "bench-mapper") as client:

            async def offer() -> Any:
                client.publish(TOPIC, update("first"))
                return reported(await kube.get(f"{DEVICES}/{DEVICE}"))

            await eventually(offer, lambda shown: shown.get("red") == "first", system)
            await asyncio.sleep(settle_seconds)
            figures: dict[str, Any] = {"edge_joined_pss_kb": pss_kb(system.edge.pid)}
            figures["publish_to_watch"] = percentiles(await single_updates(client, seen, rounds))
            seconds, backwards = await bursts(client, seen)
            figures[f"burst_of_{BURST}"] = {"seconds": [round(each, 3) for each in seconds], "older_after_newer": backwards}
            figures["edge_after_pss_kb"] = pss_kb(system.edge.pid)
            figures["cloudcore_pss_kb"] = pss_kb(system.cloud.pid)
            figures["apiserver_pss_kb"] = pss_kb(system.api.pid)
            figures["yardstick_broker_alone"] = percentiles(await broker_alone(system.mqtt_port, rounds))
            figures["yardstick_api_alone"] = percentiles(await api_alone(kube, rounds))
        watching.cancel()
        return figures


def main() -> int:
    args = arguments(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = uvloop.run(measure(Path(folder)))
    return report(figures, args.json)


if __name__ == "__main__":
    sys.exit(main())
