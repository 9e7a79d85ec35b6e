"""From publish to callback through a real mosquitto: our link on the event loop beside paho's own thread, turn by turn in the same run.

Also a burst of messages one way, and what importing paho and the event bus adds to a process that has uvloop, ssl, orjson and
websockets already (as the edge has).
Figures are reported, not judged. `--json FILE` writes them down.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import paho.mqtt.client as paho
from integration.mosquitto import Mosquitto
from paho.mqtt.enums import CallbackAPIVersion
from rig.figures import arguments, percentiles, report

from pinnace.core.eventbus.link import BrokerLink
from pinnace.core.eventbus.settings import parse_address

WARM_UP = 200
ROUNDS = 3000
BURST = 10_000
PAYLOAD = b'{"event_id":"","timestamp":0,"twin":{"red":{"actual":{"value":"ON"}}}}'

MEMORY = """
import asyncio, json, ssl, socket, threading, orjson, uvloop, websockets.asyncio.client
def pss():
    return next(int(line.split()[1]) for line in open("/proc/self/smaps_rollup") if line.startswith("Pss:"))
found = [pss()]
import paho.mqtt.client
found.append(pss())
import pinnace.core.eventbus.service
found.append(pss())
print(json.dumps({"paho_kb": found[1] - found[0], "eventbus_kb": found[2] - found[1]}))
"""


class Ours:
    """One BrokerLink that hears what it says."""

    def __init__(self, broker: Mosquitto, qos: int) -> None:
        self._heard = asyncio.Event()
        self._left = 0
        self._at = 0.0
        self.link = BrokerLink(
            parse_address(broker.url),
            client_id=f"ours-{qos}",
            arrival=self._arrived,
            up=lambda: None,
            report=lambda _: None,
            qos=qos,
        )
        self.link.subscribe(["bench/ours"])

    def _arrived(self, _topic: str, _payload: bytes, acknowledge: Callable[[], None] | None) -> None:
        self._at = time.perf_counter()
        if acknowledge is not None:
            acknowledge()
        self._left -= 1
        if not self._left:
            self._heard.set()

    async def many(self, count: int) -> float:
        """Seconds from the first publish to the last callback."""
        self._left = count
        self._heard.clear()
        start = time.perf_counter()
        for _ in range(count):
            while len(self.link._pending) > 1000:
                await asyncio.sleep(0)
            self.link.publish("bench/ours", PAYLOAD)
        await self._heard.wait()
        return self._at - start


class Paho:
    """paho's client with `loop_start`, as most people use it, but without Nagle's algorithm: by itself it takes 40 ms with QoS 1."""

    def __init__(self, broker: Mosquitto, qos: int) -> None:
        self._heard = threading.Event()
        self._ready = threading.Event()
        self._left = 0
        self._at = 0.0
        self._qos = qos
        self.client = client = paho.Client(CallbackAPIVersion.VERSION2, client_id=f"paho-{qos}")
        client.max_inflight_messages_set(1000)
        client.on_connect = self._connected
        client.on_subscribe = lambda *_: self._ready.set()
        client.on_socket_open = self._opened
        client.on_message = self._arrived
        client.connect(broker.host, broker.port)
        client.loop_start()
        self._ready.wait(10)

    def _opened(self, _client: Any, _userdata: Any, opened: Any) -> None:
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _connected(self, *_: Any) -> None:
        self.client.subscribe("bench/paho", 1)

    def _arrived(self, *_: Any) -> None:
        self._at = time.perf_counter()
        self._left -= 1
        if not self._left:
            self._heard.set()

    def many_now(self, count: int) -> float:
        self._left = count
        self._heard.clear()
        start = time.perf_counter()
        for _ in range(count):
            self.client.publish("bench/paho", PAYLOAD, self._qos)
        if not self._heard.wait(60):
            raise TimeoutError("paho did not hear all of it")
        return self._at - start

    async def many(self, count: int) -> float:
        return self.many_now(count)  # blocking on purpose: the loop has nothing else to do, and a thread more would cost it time


async def measure(broker: Mosquitto) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for qos in (0, 1):
        ours, theirs = Ours(broker, qos), Paho(broker, qos)
        task = asyncio.create_task(ours.link.run())
        await ours.link.subscribed.wait()
        sides: dict[str, Callable[[int], Awaitable[float]]] = {"ours": ours.many, "paho": theirs.many}
        trips: dict[str, list[float]] = {name: [] for name in sides}
        for number in range(WARM_UP + ROUNDS):
            for name, many in sides.items():
                seconds = await many(1)
                if number >= WARM_UP:
                    trips[name].append(seconds)
        for name, many in sides.items():
            cpu = time.process_time()
            seconds = await many(BURST)
            figures[f"qos{qos}_{name}"] = {
                **percentiles(trips[name], unit="us"),
                "burst_messages_per_second": round(BURST / seconds),
                "burst_cpu_us_per_message": round((time.process_time() - cpu) / BURST * 1e6, 1),
            }
        theirs.client.loop_stop()
        task.cancel()
        await asyncio.wait([task])
    return figures


def memory(folder: Path) -> dict[str, int]:
    """Kilobytes of PSS; the second of two runs, so that nothing is compiled on the way."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(folder / "bytecode")
    command = [sys.executable, "-c", MEMORY]
    runs = [subprocess.run(command, check=True, capture_output=True, text=True, env=environment) for _ in range(2)]
    found: dict[str, int] = json.loads(runs[-1].stdout)
    return found


def main() -> int:
    args = arguments(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder, Mosquitto(Path(folder), extra=["max_inflight_messages 0"]) as broker:
        figures = uvloop.run(measure(broker))
        figures["memory"] = memory(Path(folder))
    return report(figures, args.json)


if __name__ == "__main__":
    sys.exit(main())
