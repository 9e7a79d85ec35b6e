"""A power cut of a test's edge, and what the node itself says without a cloud."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

from rig.podplaces import PodPlaces
from rig.processes import pinnace
from rig.system import System


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
    async with asyncio.timeout(30):  # a process counts for its cgroup until it was reaped
        while cgroups := [each for root in Path("/sys/fs/cgroup").glob(f"**/{places.name}") for each in _below(root)]:
            for cgroup in cgroups:
                with contextlib.suppress(OSError):
                    cgroup.rmdir()
            await asyncio.sleep(0.02)


def _below(root: Path) -> list[Path]:
    """Deepest first."""
    return [Path(folder) for folder, _, _ in os.walk(root, topdown=False)]


async def local_pods(system: System) -> dict[str, Any]:
    """What the node itself says, with no cloud."""
    assert system.pods is not None
    command = [*pinnace("get", "pods", "--json"), "--socket", str(system.pods.control_socket)]
    done = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    out, _ = await done.communicate()
    items = json.loads(out)["items"] if done.returncode == 0 else []
    return {each["metadata"]["name"]: each for each in items}
