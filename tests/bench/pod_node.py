"""What pods cost: the time from a pod's creation to Running in the API, the time ten pods of every kind take to come back after a power cut
with no network, and the node's memory and idle CPU with 1, 11 and 50 pods.

The whole system on loopback: embedded API, cloudcore, an edge with the built-in runtime, mosquitto. The image is present, the pods use the
host's network. Memory is the PSS of agent, supervision and broker; the pods' own processes are not counted. Needs root, crun and mosquitto.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rig import figures
from rig import nodepods as pods
from rig.kube import KubeClient
from rig.podplaces import PodPlaces, pod_places
from rig.powercut import local_pods, power_cut
from rig.system import System

STARTS = 30
COUNTS = (1, 11, 50)
IDLE_SECONDS = 60.0
SETTLE_SECONDS = 10.0


async def starts(kube: KubeClient, system: System) -> list[float]:
    """Seconds from the request that creates a pod to the event that shows it Running, one pod after the other."""
    found = []
    version = (await kube.get(pods.PODS))["metadata"]["resourceVersion"]
    async with kube.watch(pods.PODS, version) as events:
        for number in range(STARTS):
            name = f"start-{number}"
            began = time.monotonic()
            await pods.create(kube, pods.pod(name))
            async with asyncio.timeout(60):
                async for event in events:
                    body = event["object"]
                    if body["metadata"]["name"] == name and body.get("status", {}).get("phase") == "Running":
                        break
            found.append(time.monotonic() - began)
    for number in range(STARTS):
        await kube.ask("DELETE", f"{pods.PODS}/start-{number}")
    await until_gone(kube)
    return found


async def reboot(kube: KubeClient, system: System) -> float:
    """Seconds from the start of the edge, its machine switched off and the cloud away, until ten pods of every kind run again."""
    before = await pods.run_every_kind(kube, system)
    await system.cloud.kill()
    await power_cut(system)
    began = time.monotonic()
    await system.edge.start()
    while True:
        found = await local_pods(system)
        if all(name in found and pods.is_running(found[name]) and is_restarted(found[name], body) for name, body in before.items()):
            break
    took = time.monotonic() - began
    await system.cloud.start()
    for name in before:
        await kube.ask("DELETE", f"{pods.PODS}/{name}")
    await until_gone(kube)
    return took


def is_restarted(now: dict[str, Any], before: dict[str, Any]) -> bool:
    return all(count == pods.restarts(before)[name] + 1 for name, count in pods.restarts(now).items())


async def until_gone(kube: KubeClient) -> None:
    async with asyncio.timeout(120):
        while (await kube.get(pods.PODS))["items"]:
            await asyncio.sleep(0.05)


def supervision(places: PodPlaces) -> list[int]:
    """The processes that stand by the pods: shims, with the folder in their command line or open as their directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes()
            if b"pinnace-shim" in words.split(b"\0")[0] and str(places.folder).encode() in words:
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def at(count: int, kube: KubeClient, system: System, there: int) -> dict[str, Any]:
    """Figures of the node with `count` pods; `there` run already."""
    assert system.pods is not None
    names = [f"idle-{number}" for number in range(there, count)]
    await pods.create(kube, *(pods.pod(name, containers=[pods.container(command=["sleep", "86400"])]) for name in names))
    await pods.until_running(kube, system, *names)
    await asyncio.sleep(SETTLE_SECONDS)
    shims = supervision(system.pods)
    watched = [system.edge.pid, *shims]
    before = sum(map(cpu_seconds, watched))
    await asyncio.sleep(IDLE_SECONDS)
    cpu = (sum(map(cpu_seconds, watched)) - before) / IDLE_SECONDS
    agent, broker = figures.pss_kb(system.edge.pid), figures.pss_kb(system.broker.pid)
    each = [figures.pss_kb(pid) for pid in shims]
    return {
        "pods": count,
        "agent_pss_mb": round(agent / 1e3, 1),
        "broker_pss_mb": round(broker / 1e3, 1),
        "supervision_pss_mb": round(sum(each) / 1e3, 2),
        "supervision_pss_kb_each": round(statistics.mean(each)) if each else 0,
        "sum_pss_mb": round((agent + broker + sum(each)) / 1e3, 1),
        "idle_cpu_percent_of_a_core": round(cpu * 100, 2),
    }


async def measure() -> dict[str, Any]:
    with pod_places() as places, tempfile.TemporaryDirectory() as folder:
        places.offer()
        system = System(Path(folder) / "s", pods=places)
        async with system.running() as kube:
            await pods.create(kube, pods.pod("first"))  # waits for the image's import
            await pods.until_running(kube, system, "first")
            await kube.ask("DELETE", f"{pods.PODS}/first")
            await until_gone(kube)
            took = await starts(kube, system)
            back = await reboot(kube, system)
            memory, there = [], 0
            for count in COUNTS:
                memory.append(await at(count, kube, system, there))
                there = count
            return {"created_to_running": figures.percentiles(took), "ten_pods_after_power_cut_s": round(back, 2), "node": memory}


def main() -> int:
    args = figures.arguments(__doc__).parse_args()
    return figures.report(asyncio.run(measure()), args.json)


if __name__ == "__main__":
    sys.exit(main())
