"""Power cuts at random moments, while twins and pods are written and while the other root is written; what was acknowledged must be there.

Acknowledged is: a desired value whose version the node told to have stored (ObjectSync); a pod that was reported Running; an upgrade that
said it was written. Every other start happens with the cloud away, so that what is seen then can come from the card only.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from image import pods
from image.board import Board, Off
from image.cloud import DEVICE, Cloud, is_ready, until
from rig.kube import DEVICES
from rig.system import desired, reported, set_desired

LONG = 1800.0
LAMPS = {"red": 26, "yellow": 19, "green": 13}
"""The sample's lamps by BCM number."""


@dataclass
class Acknowledged:
    """What may not be lost."""

    desired: dict[str, str] = field(default_factory=dict)
    asked: dict[str, str] = field(default_factory=dict)
    """Desired after that; the node may have it or not."""
    pods: dict[str, str] = field(default_factory=dict)
    """Name of a pod that was Running → its container."""
    upgraded_to: str = ""
    """The root that an upgrade wrote, as `pinnace upgrade` said."""


class Work:
    """What the node is busy with when the power goes."""

    def __init__(self, board: Board, cloud: Cloud, node: str, root: str, draw: random.Random) -> None:
        self._board = board
        self._cloud = cloud
        self._node = node
        self._root = root
        self._draw = draw
        self._number = 0
        self.sure = Acknowledged()

    async def twins(self) -> None:
        """Change lamps; note each value that the node says it has stored."""
        while True:
            wanted = {name: self._draw.choice(["ON", "OFF"]) for name in LAMPS}
            self.sure.asked = wanted
            await set_desired(self._cloud.kube, wanted)
            device = await self._cloud.kube.get(f"{DEVICES}/{DEVICE}")
            uid, version = device["metadata"]["uid"], int(device["metadata"]["resourceVersion"])
            while int(await self._cloud.stored_version(self._node, uid) or 0) < version:
                device = await self._cloud.kube.get(f"{DEVICES}/{DEVICE}")
                await asyncio.sleep(0.05)
            self.sure.desired = wanted

    async def make_pods(self) -> None:
        """Make pods and remove the oldest, and the one that the last cut left half made."""
        if f"busy-{self._number}" not in self.sure.pods:
            await pods.remove(self._cloud, f"busy-{self._number}")
        while True:
            self._number += 1
            name = f"busy-{self._number}"
            await pods.create(self._cloud, name, self._node)
            self.sure.pods[name] = await until(partial(pods.container, self._cloud, name), bool, f"{name} Running", seconds=LONG)
            if len(self.sure.pods) > 2:
                oldest = min(self.sure.pods, key=lambda each: int(each.partition("-")[2]))
                del self.sure.pods[oldest]
                await pods.remove(self._cloud, oldest)

    async def upgrade(self) -> None:
        said = await self._board.ssh("pinnace", "upgrade", "--no-reboot", self._root, seconds=LONG)
        if "is written and compared" in said:
            self.sure.upgraded_to = "b" if await self._slot() == "a" else "a"
            await self._board.ssh("reboot", seconds=60)

    async def _slot(self) -> str:
        return (await self._board.ssh("cat", "/run/pinnace-boot/slot")).strip()


async def run(board: Board, cloud: Cloud, node: str, root: str, *, count: int, draw: random.Random, say: Callable[[str], None]) -> None:
    work = Work(board, cloud, node, root, draw)
    for number in range(1, count + 1):
        await board.until_ssh(seconds=LONG)
        what = await _until_the_cut(board, work, is_upgrade=number % 2 == 1, draw=draw)
        say(f"cut {number} of {count}: {what}; {await _after(board, cloud, node, work, is_alone=number % 2 == 0)}")


async def _until_the_cut(board: Board, work: Work, *, is_upgrade: bool, draw: random.Random) -> str:
    seconds = draw.uniform(1.0, 75.0 if is_upgrade else 20.0)
    jobs = [asyncio.create_task(work.twins()), asyncio.create_task(work.make_pods())]
    if is_upgrade:
        jobs.append(asyncio.create_task(work.upgrade()))
    try:
        done, _ = await asyncio.wait(jobs, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        board.cut()
        for job in jobs:
            job.cancel()
        found = await asyncio.gather(*jobs, return_exceptions=True)
    for each in found:
        if isinstance(each, Exception) and not isinstance(each, Off | TimeoutError):
            raise each
    failed = [str(error) for job in done if (error := job.exception())]
    early = f" (cut before, when this had failed: {'; '.join(failed)})" if failed else ""
    return f"after {seconds:.1f} s of twins, pods{' and an upgrade' if is_upgrade else ''}{early}"


async def _after(board: Board, cloud: Cloud, node: str, work: Work, *, is_alone: bool) -> str:
    """Power on; compare with what was acknowledged. Raises Off, AssertionError."""
    sure = work.sure
    boot_id = str(((await cloud.node(node)).get("status") or {}).get("nodeInfo", {}).get("bootID", ""))
    sure.asked = desired(await cloud.kube.get(f"{DEVICES}/{DEVICE}"))
    checked = [f"{len(sure.asked)} lamps", f"{len(sure.pods)} pods"]
    if is_alone:
        await cloud.core.kill()
    await board.start()
    if is_alone:
        await board.until_ssh(seconds=LONG)
        await until(partial(_has_agent, board), bool, "the agent's socket", seconds=LONG)
        await _lamps_are(board, sure.desired, sure.asked)
        stored = json.loads(await board.ssh("pinnace", "get", "pods", "--json", seconds=300))
        there = {each["metadata"]["name"] for each in stored.get("items", stored) if isinstance(each, dict)}
        if missing := sure.pods.keys() - there:
            raise Off(f"pods that were Running are not on the card: {', '.join(sorted(missing))}")
        checked.append("with the cloud away")
        await cloud.start_core()
    await until(lambda: cloud.node(node), lambda found: is_ready(found, boot_id), "the node Ready", seconds=LONG)
    took = time.monotonic() - board.started
    await board.until_ssh(seconds=LONG)
    slot = (await board.ssh("cat", "/run/pinnace-boot/slot")).strip()
    if sure.upgraded_to and slot != sure.upgraded_to:
        raise Off(f"the upgrade to root {sure.upgraded_to} was acknowledged, but root {slot} runs")
    if sure.upgraded_to:
        await until(board.kept, lambda kept: kept == slot, f"root {slot} kept", seconds=LONG)
        checked.append(f"root {slot} kept")
        sure.upgraded_to = ""
    await _lamps_are(board, sure.asked)
    await until(lambda: _reported(cloud), lambda values: sure.asked.items() <= values.items(), "the reports", seconds=LONG)
    sure.desired = sure.asked
    for name, former in sure.pods.items():
        renewed = partial(_is_other, former)
        sure.pods[name] = await until(partial(pods.container, cloud, name), renewed, f"{name} Running in a new container", seconds=LONG)
    return f"Ready {took:.0f} s after power-on, root {slot}; there: {', '.join(checked)}"


async def _lamps_are(board: Board, *choices: dict[str, str]) -> None:
    """The pins themselves, which the node drives from its store, as one of the choices says."""
    wanted = [{LAMPS[name]: "hi" if value == "ON" else "lo" for name, value in each.items()} for each in choices]
    try:
        await until(board.pins, lambda levels: any(each.items() <= levels.items() for each in wanted), f"pins {wanted}", seconds=600)
    except AssertionError as error:
        raise Off(f"{choices[0]} was acknowledged, but {error}") from None


async def _has_agent(board: Board) -> bool:
    return "yes" in await board.ssh("if test -S /run/pinnace/control.sock; then echo yes; else echo no; fi")


def _is_other(former: str, container: str) -> bool:
    return container not in ("", former)


async def _reported(cloud: Cloud) -> dict[str, str]:
    return reported(await cloud.kube.get(f"{DEVICES}/{DEVICE}"))
