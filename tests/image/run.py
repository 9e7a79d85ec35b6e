"""Boots the image in an emulated Raspberry Pi 3 and sees it become a node: `make image-test`, with POWER_CUTS=20 also 20 power cuts.

Says step by step what it saw, and exits 1 at the first thing that it did not see. Everything is kept in .build/image-test: the card, the
serial console, the logs of the cloud, which runs on this machine's loopback.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import re
import shutil
import sys
import time
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from image import cuts, plain, pods  # noqa: E402 - tests are no package
from image.board import HOST, Board, Off, missing_programs  # noqa: E402
from image.cloud import DEVICE, Cloud, is_ready, until  # noqa: E402
from rig.kube import DEVICES  # noqa: E402
from rig.processes import free_port  # noqa: E402
from rig.system import SAMPLES, reported, set_desired  # noqa: E402

from pinnace.core.appliance.slots import TRIES  # noqa: E402

NODE: Final = "192.168.4.22-pi2"
"""The node that the sample Device selects."""
RED: Final = 26
"""wiringPi's 25 in BCM numbers."""
NEW_ROOT: Final = "/boot/firmware/new.root"
"""The file of a root, which a person has put on the card; the emulated network would need minutes for it."""
IMPORT: Final = "/var/lib/pinnace/import"
LONG: Final = 900.0
"""Bound of a step: an emulated board on a busy machine is slow."""


def say(text: str) -> None:
    print(text, flush=True)


class Steps:
    """Prints each step with the seconds it took."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    def saw(self, what: str) -> None:
        now = time.monotonic()
        say(f"  ok  {what}  [{now - self._since:.1f} s]")
        self._since = now


def wrong(text: str) -> str:
    """The pinnace.yaml with what people get wrong."""
    return re.sub(r"^token: .*$", "token: half-of-it", text, flags=re.MULTILINE).replace("labels:", "label:")


async def joins(board: Board, cloud: Cloud, steps: Steps) -> float:
    """Power-on to Ready, step by step; the seconds that took."""
    key = board.key.with_suffix(".pub").read_text()
    board.put("pinnace.yaml", cloud.yaml(NODE, await cloud.token(), key))
    await board.start("a")
    if "Linux version" not in board.said():
        raise Off("the kernel said nothing")
    steps.saw(f"kernel; the initramfs chose root a, {time.monotonic() - board.started:.1f} s after power-on")
    steps.saw(f"userspace; first boot read pinnace.yaml, at {await board.hears('pinnace.yaml   all right', seconds=LONG):.1f} s")
    steps.saw(f"joined, at {await board.hears('cloud +.*: joined', seconds=LONG):.1f} s")
    await until(lambda: cloud.node(NODE), is_ready, "the node Ready", seconds=LONG)
    took = time.monotonic() - board.started
    steps.saw(f"Ready, at {took:.1f} s")
    say(cloud.kubectl("get", "nodes", "-o", "wide"))
    return took


async def lamp(board: Board, cloud: Cloud, steps: Steps) -> None:
    """The sample Device: desired red=ON, the pin, and the report in the API."""
    for name in ("model", "instance"):
        await cloud.kube.apply(SAMPLES / f"{name}.yaml")
    await until(lambda: _reported(cloud), lambda values: values.get("red") == "OFF", "red reported OFF", seconds=LONG)
    await board.until_ssh(seconds=LONG)
    before = (await board.pins()).get(RED, "not driven")
    steps.saw(f"the sample Device is served; BCM {RED} is {before}")
    if before == "hi":
        raise Off(f"BCM {RED} is high before red is ON")
    await set_desired(cloud.kube, {"red": "ON"})
    await until(lambda: _reported(cloud), lambda values: values.get("red") == "ON", "red reported ON", seconds=LONG)
    steps.saw("desired red=ON; the API has the report red=ON")
    level = (await board.pins()).get(RED, "not driven")
    if level != "hi":
        raise Off(f"BCM {RED} is {level}, expected hi")
    steps.saw(f"on the board pinctrl-bcm2835 says that BCM {RED} is {level}")


async def _reported(cloud: Cloud) -> dict[str, str]:
    return reported(await cloud.kube.get(f"{DEVICES}/{DEVICE}"))


async def pod(board: Board, cloud: Cloud, steps: Steps) -> None:
    archive = pods.archive(ROOT / ".build/image/boards/bin/busybox", board.place / "busybox.tar")
    await board.ssh(f"mkdir -p {IMPORT} && cat >{IMPORT}/.busybox && mv {IMPORT}/.busybox {IMPORT}/busybox.tar", given=archive)
    await pods.create(cloud, "hello", NODE)
    await until(lambda: pods.phase(cloud, "hello"), lambda phase: phase == "Running", "the pod Running", seconds=LONG)
    steps.saw("a pod runs there, with the built-in runtime")
    said = cloud.kubectl("exec", "hello", "--", "uname", "-m")
    if "aarch64" not in said:
        raise Off(f"kubectl exec hello -- uname -m said {said!r}")
    steps.saw(f"kubectl exec into it: uname -m says {said.splitlines()[-1]}")


async def corrected(board: Board, cloud: Cloud, steps: Steps) -> None:
    """A pinnace.yaml with faults on a board that is a node: told on the boot partition, the node stays, and a retry needs no flashing. Nor
    does the report tell of that any more then, nor of the upgrade that was given up."""
    right = cloud.yaml(NODE, await cloud.token(), board.key.with_suffix(".pub").read_text())
    boot_id = _boot_id(await cloud.node(NODE))
    board.cut()
    board.put("pinnace.yaml", wrong(right))
    await board.start()
    await board.hears("things to mend", seconds=LONG)
    await until(lambda: cloud.node(NODE), lambda node: is_ready(node, boot_id), "the node Ready as before", seconds=LONG)
    await board.until_ssh(seconds=LONG)
    await board.ssh("sync")
    board.cut()
    faults = [line for line in board.report().splitlines() if line.startswith("  line ")]
    if len(faults) != 2:
        raise Off(f"expected two faults in pinnace-report.txt, not {faults}")
    steps.saw("a wrong pinnace.yaml: the node goes on as it was, and pinnace-report.txt says\n      " + "\n      ".join(faults))
    board.put("pinnace.yaml", right)
    boot_id = _boot_id(await cloud.node(NODE))
    await board.start()
    await until(lambda: cloud.node(NODE), lambda node: is_ready(node, boot_id), "the node Ready again", seconds=LONG)
    took = time.monotonic() - board.started
    board.cut()
    stale = [line for line in board.report().splitlines() if re.search("to mend|given up", line)]
    if stale or "all right" not in board.report():
        raise Off(f"pinnace-report.txt tells of what is long mended:\n{board.report()}")
    steps.saw(f"the right one again: Ready {took:.1f} s after power-on, nothing was flashed, and the report says that all is right")


async def too_small(image: Path, place: Path, steps: Steps) -> None:
    """The image on a card with less room than it takes."""
    board = Board(place, image, free_port(), size=512 << 20)
    try:
        board.on()
        await board.hears("pinnace: the card is too small for this image by [0-9]+ MB", seconds=LONG)
        await board.hears("trying again", seconds=LONG)
    finally:
        board.cut()
    steps.saw(f"on a card that is too small, pinnace-report.txt says: {board.report().splitlines()[-1]}")
    shutil.rmtree(place)


async def falls_back(board: Board, cloud: Cloud, steps: Steps) -> None:
    """An upgrade that never gets as far as Ready: as often as it may be tried it is cut off, then the former root is back."""
    said = await board.ssh("pinnace", "upgrade", "--no-reboot", NEW_ROOT, seconds=LONG)
    if "is written and compared" not in said:
        raise Off(f"pinnace upgrade said: {said}")
    steps.saw(f"pinnace upgrade: {said.splitlines()[-1]}")
    boot_id = _boot_id(await cloud.node(NODE))
    for _ in range(TRIES):
        board.cut()
        board.on()
        await board.hears("pinnace: starting root b", seconds=LONG)
    board.cut()
    await board.start("a")
    await until(lambda: cloud.node(NODE), lambda node: is_ready(node, boot_id), "the node Ready again", seconds=LONG)
    await board.until_ssh(seconds=LONG)
    await board.ssh("sync")
    board.cut()
    told = [line for line in board.report().splitlines() if "given up" in line]
    if not told:
        raise Off(f"pinnace-report.txt does not tell of the upgrade:\n{board.report()}")
    steps.saw(f"{TRIES} starts of the new root were cut off: the former one is back and Ready; the report: {told[0]}")


async def stays(board: Board, cloud: Cloud, steps: Steps) -> None:
    """An upgrade that gets as far as Ready: the board restarts by itself, into the new root, and keeps it."""
    boot_id = _boot_id(await cloud.node(NODE))
    await board.ssh("pinnace", "upgrade", NEW_ROOT, seconds=LONG)
    await board.ends(seconds=LONG)
    await board.start("b")
    await until(lambda: cloud.node(NODE), lambda node: is_ready(node, boot_id), "the node Ready in root b", seconds=LONG)
    await board.until_ssh(seconds=LONG)
    timer = (await board.ssh("systemctl", "show", "--property=ActiveState", "--value", "pinnace-trial.timer")).strip()
    if timer != "active":
        raise Off(f"the timer that bounds the trial is {timer}")
    await until(board.kept, lambda kept: kept == "b", "root b kept", seconds=LONG)
    steps.saw("pinnace upgrade once more: the board restarted by itself, is Ready in root b, and keeps it")


def _boot_id(node: Any) -> str:
    return str(((node.get("status") or {}).get("nodeInfo") or {}).get("bootID", ""))


async def image_test(args: argparse.Namespace) -> None:
    place = args.place.absolute()
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    image, root = _built("*-pi.img"), _built("*.root")
    steps = Steps()
    figures: dict[str, Any] = {"image": image.name, "image_bytes": image.stat().st_size, "root_bytes": root.stat().st_size}
    board = Board(place / "board", image, free_port())
    board.put(Path(NEW_ROOT).name, root)
    cloud = Cloud(place / "cloud", advertise=HOST)
    if not args.short:
        await too_small(image, place / "small", steps)
    try:
        async with cloud.running():
            steps.saw(f"a cloud on loopback, ports {cloud.hub} and {cloud.bootstrap}; the board reaches them as {HOST}")
            figures["first_start_to_ready_seconds"] = await joins(board, cloud, steps)
            await lamp(board, cloud, steps)
            await pod(board, cloud, steps)
            if not args.short:
                await falls_back(board, cloud, steps)
                await board.start("a")
                await board.until_ssh(seconds=LONG)
                await stays(board, cloud, steps)
                await corrected(board, cloud, steps)
            board.cut()
            if not args.short:  # just before the start that it is compared with: the machine may be busier at another time
                figures["debian_start_seconds"] = await plain.start(board, ROOT / ".build/image", place / "plain")
                steps.saw(f"plain Debian on the same board: {figures['debian_start_seconds']:.1f} s to multi-user.target")
            boot_id = _boot_id(await cloud.node(NODE))
            await board.start()
            await until(lambda: cloud.node(NODE), lambda node: is_ready(node, boot_id), "the node Ready again", seconds=LONG)
            figures["start_to_ready_seconds"] = time.monotonic() - board.started
            beside = "" if args.short else f", {figures['start_to_ready_seconds'] / figures['debian_start_seconds']:.2f} times plain Debian"
            steps.saw(f"power cut and power on: Ready at {figures['start_to_ready_seconds']:.1f} s{beside}")
            if args.power_cuts:
                seed = args.seed if args.seed is not None else random.randrange(1 << 31)
                say(f"  {args.power_cuts} power cuts, seed {seed}")
                await cuts.run(board, cloud, NODE, NEW_ROOT, count=args.power_cuts, draw=random.Random(seed), say=steps.saw)
                figures |= {"power_cuts": args.power_cuts, "seed": seed}
            board.cut()
    finally:
        board.cut()
        (place / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")


def _built(pattern: str) -> Path:
    """The newest one."""
    found = list((ROOT / "dist" / "image").glob(f"pinnace-{pattern}"))
    if not found:
        raise SystemExit("there is no image in dist/image; make image")
    return max(found, key=lambda path: path.stat().st_mtime)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--power-cuts", type=int, default=0, metavar="N", help="cut the board's power so often, at random moments")
    parser.add_argument("--seed", type=int, help="of those moments (default: a new one, which is printed)")
    parser.add_argument(
        "--short", action="store_true", help="leave out the small card, the failed upgrade, the wrong pinnace.yaml and plain Debian"
    )
    parser.add_argument("--place", type=Path, default=ROOT / ".build" / "image-test", metavar="DIR", help="what is kept (%(default)s)")
    args = parser.parse_args()
    missing = missing_programs()
    if missing:
        raise SystemExit(f"the emulated board needs: apt-get install {' '.join(missing)}")
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # children that end with a board whose power was cut
    began = time.monotonic()
    try:
        asyncio.run(image_test(args))
    except (Off, AssertionError) as error:
        raise SystemExit(f"  NOT SEEN  {error}\nthe board's console: {args.place}/board/serial.log") from None
    say(f"all of it was seen, in {time.monotonic() - began:.0f} s; figures in {args.place}/figures.json")


if __name__ == "__main__":
    main()
