"""How long a node takes to come back after the cloud did: the hub is stopped for a random while, several nodes at once.

Real TLS and WebSockets on the loopback, one process. `--json FILE` writes the figures down.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import tempfile
import time
from pathlib import Path
from random import Random

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rig.hub import Cloud, Edge, edge_settings
from rig.waiting import until

NODES = 8
ROUNDS = 8
AWAY_SECONDS = (0.2, 8.0)


async def measure(folder: Path) -> list[float]:
    """Seconds between the hub's return and each node's connection."""
    random = Random(1)
    cloud = Cloud()
    await cloud.start()
    edges = [Edge(edge_settings(cloud, folder / str(number)), f"edge-{number}") for number in range(NODES)]
    found: list[float] = []
    for edge in edges:
        edge.start()
    await until(lambda: all(edge.link.connected for edge in edges))
    for _ in range(ROUNDS):
        await asyncio.sleep(6.0)  # a connection that lived for a while: the usual case
        await cloud.stop()
        await until(lambda: not any(edge.link.connected for edge in edges))
        await asyncio.sleep(random.uniform(*AWAY_SECONDS))
        await cloud.start()
        back = time.monotonic()
        waiting = set(range(NODES))
        while waiting:
            for number in [number for number in waiting if edges[number].link.connected]:
                waiting.discard(number)
                found.append(time.monotonic() - back)
            await asyncio.sleep(0.002)
    for edge in edges:
        await edge.stop()
    await cloud.stop()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    logging.disable(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        found = sorted(uvloop.run(measure(Path(folder))))
    figures = {
        "reconnections": len(found),
        "p50_s": round(found[len(found) // 2], 3),
        "p90_s": round(found[len(found) * 9 // 10], 3),
        "max_s": round(found[-1], 3),
    }
    sys.stdout.write(f"reconnect: {json.dumps(figures)}\n")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
