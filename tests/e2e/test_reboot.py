"""A node that was switched off comes back with no network: its pods run again from the store alone; what the cloud changed meanwhile is
made good afterwards, and nothing that lives is touched."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from rig import nodepods as pods
from rig.kube import KubeClient
from rig.podplaces import PodPlaces, pod_places
from rig.processes import pinnace
from rig.system import System, eventually

pytestmark = [pytest.mark.containers, pytest.mark.root, pytest.mark.mosquitto, pytest.mark.timeout(300)]


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[tuple[System, KubeClient]]:
    with pod_places() as places:
        places.offer()
        system = System(tmp_path / "s", pods=places)
        async with system.running() as kube:
            yield system, kube


def processes_of(places: PodPlaces) -> list[int]:
    """Of the pods and of what supervises them: whatever has the folder in its command line or the pods' cgroup."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes() + (entry / "cgroup").read_bytes()
            except OSError:
                continue
            if str(places.folder).encode() in words or f"/{places.name}/".encode() in words:
                found.append(int(entry.name))
    return found


async def power_cut(system: System) -> None:
    """Everything that does not survive on a disk is gone: processes, mounts, namespaces, cgroups, the folder in /run."""
    places = system.pods
    assert places is not None
    await system.edge.kill()
    while left := processes_of(places):
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        await asyncio.sleep(0.02)
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for each in reversed([each for each in mounts if each.startswith(f"{places.folder}/")]):
        subprocess.run(["umount", "-l", each], check=False, capture_output=True)
    subprocess.run(["rm", "-rf", str(places.folder / "run")], check=True)
    subprocess.run(["ip", "link", "del", places.bridge], check=False, capture_output=True)
    for root in Path("/sys/fs/cgroup").glob(f"**/{places.name}"):
        for folder, _, _ in os.walk(root, topdown=False):
            Path(folder).rmdir()


async def local_pods(system: System) -> dict[str, Any]:
    """What the node itself says, with no cloud."""
    assert system.pods is not None
    command = [*pinnace("get", "pods", "--json"), "--socket", str(system.pods.control_socket)]
    done = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    out, _ = await done.communicate()
    items = json.loads(out)["items"] if done.returncode == 0 else []
    return {each["metadata"]["name"]: each for each in items}


async def test_ten_pods_come_back_with_no_network_and_are_left_alone_when_it_returns(node: tuple[System, KubeClient]) -> None:
    system, kube = node
    await pods.provide(kube)
    bodies = pods.every_kind()
    names = [each["metadata"]["name"] for each in bodies]
    await pods.create(kube, *bodies)
    before = await pods.until_running(kube, system, *names)

    await system.cloud.kill()
    await power_cut(system)
    await system.edge.start()
    here = await eventually(
        lambda: local_pods(system), lambda found: all(name in found and pods.is_running(found[name]) for name in names), system
    )
    for name in names:
        assert here[name]["metadata"]["uid"] == before[name]["metadata"]["uid"]
        assert pods.restarts(here[name]) == {each: count + 1 for each, count in pods.restarts(before[name]).items()}, name

    # Meanwhile one is deleted in the cloud and another is made there.
    assert (await kube.ask("DELETE", f"{pods.PODS}/plain"))[0] in (200, 202)
    await pods.create(kube, pods.pod("newcomer"))
    await system.cloud.start()
    kept = [name for name in names if name != "plain"]
    after = await pods.until_running(kube, system, *kept, "newcomer")
    await eventually(lambda: kube.ask("GET", f"{pods.PODS}/plain"), lambda answer: answer[0] == 404, system)
    for name in kept:
        assert pods.container_ids(after[name]) == pods.container_ids(here[name]), f"{name} was restarted by the reconnect"
        assert "deletionTimestamp" not in after[name]["metadata"]
    assert set(await local_pods(system)) == {*kept, "newcomer"}
