"""How long a node takes from the start of its process: until the agent runs, until it is connected to the cloud, until its Node is Ready.

The whole system on loopback; the node has joined before, its files are warm, and its Node object is deleted before each start, so that what
is Ready is news. With --pods the built-in runtime is on (root, crun). --program measures a frozen edge, such as dist/amd64/pinnace/pinnace.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rig import figures
from rig.kube import KubeClient
from rig.podplaces import pod_places
from rig.system import NODE, System

ROUNDS = 15
WANTED = {"connected": 1.0, "ready": 2.0}
"""Seconds, on x86-64 with warm files."""
LINES = {"agent.started": "agent", "mqtt.connected": "mqtt", "hub.connected": "connected", "node.registered": "registered"}
"""Log events that mark a part."""


@contextlib.asynccontextmanager
async def joined(program: list[str] | None, *, pods: bool) -> AsyncIterator[tuple[System, KubeClient]]:
    """A system whose edge has joined and is stopped."""
    # What the interpreter compiled must be there at the next start, as it is where Pinnace is installed.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with ExitStack() as stack:
        places = stack.enter_context(pod_places()) if pods else None
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        system = System(folder / "s", edge_program=program, pods=places)
        async with system.running() as kube:
            await until_ready(kube)
            await system.edge.stop()
            yield system, kube


async def until_ready(kube: KubeClient) -> float:
    """Poll until the Node is Ready; the wall time then."""
    async with asyncio.timeout(60):
        while True:
            status, body = await kube.ask("GET", f"/api/v1/nodes/{NODE}")
            conditions = body["status"].get("conditions", []) if status == 200 else []
            if any(each["type"] == "Ready" and each["status"] == "True" for each in conditions):
                return time.time()
            await asyncio.sleep(0.005)


async def start(system: System, kube: KubeClient) -> dict[str, float]:
    """Start the edge once, and stop it: seconds from the start of its process by part, and its CPU time until Ready."""
    await kube.ask("DELETE", f"/api/v1/nodes/{NODE}")
    known = len(system.edge.log.read_bytes())
    began = time.time()
    await system.edge.start(wait=False)
    ready = await until_ready(kube) - began
    fields = Path(f"/proc/{system.edge.pid}/stat").read_text().rpartition(")")[2].split()
    cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    await system.edge.stop()
    found = {"ready": ready, "cpu": cpu}
    for line in system.edge.log.read_bytes()[known:].decode(errors="replace").splitlines():
        event = next((name for name in LINES if f" {name} " in line), None)
        with contextlib.suppress(ValueError):
            if event is not None and LINES[event] not in found:
                found[LINES[event]] = datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S,%f").astimezone().timestamp() - began
    return found


async def measure(program: list[str] | None = None, *, pods: bool = False, rounds: int = ROUNDS) -> dict[str, Any]:
    """Seconds: best, p50, p90 and max of each part that was seen before the Node was Ready."""
    found: list[dict[str, float]] = []
    async with joined(program, pods=pods) as (system, kube):
        for _ in range(rounds):
            found.append(await start(system, kube))
    values = {part: [each[part] for each in found if part in each] for part in ("agent", "mqtt", "connected", "registered", "ready", "cpu")}
    return {part: spread(each) for part, each in values.items() if each}


def spread(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {
        "best": round(ordered[0], 3),
        "p50": round(ordered[len(ordered) // 2], 3),
        "p90": round(ordered[min(len(ordered) - 1, len(ordered) * 9 // 10)], 3),
        "max": round(ordered[-1], 3),
    }


def main() -> int:
    parser = figures.arguments(__doc__)
    parser.add_argument("--program", type=Path, metavar="PATH", help="a frozen edge instead of this checkout")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="%(default)s")
    parser.add_argument("--pods", action="store_true", help="with the built-in runtime")
    args = parser.parse_args()
    program = [str(args.program.resolve())] if args.program else None
    found = asyncio.run(measure(program, pods=args.pods, rounds=args.rounds))
    load = os.getloadavg()[0]
    result = {"seconds_from_process_start": found, "wanted": WANTED, "load_average": round(load, 1), "pods": args.pods}
    return figures.report(result, args.json)


if __name__ == "__main__":
    sys.exit(main())
