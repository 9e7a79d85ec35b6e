"""Write another version of an appliance's root into the slot that does not run, and start it.

FILE is the pinnace-VERSION.root of a release, on this machine or at an http(s) address. The new root is on trial until its node is Ready;
if that fails, the former root is back by itself. Nothing that the node has is touched: its state is on the data partition. A board without
Pinnace's image has no second root; there `pinnace install` of a newer build upgrades it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, cast

from pinnace.core.appliance import rootfile
from pinnace.core.appliance.board import Board
from pinnace.core.appliance.files import drop
from pinnace.core.appliance.order import is_older
from pinnace.core.appliance.slots import TRIES, Slots
from pinnace.core.base.errors import ConfigError, LinkError, PinnaceError, RefusedError
from pinnace.core.base.version import VERSION
from pinnace.core.commands.parts import control

SUMMARY = "write another version into the other root, and start it"
READY_SECONDS: Final = 600.0
_ASK_SECONDS: Final = 2.0
_ANSWER_SECONDS: Final = 20.0
_READ_SECONDS: Final = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", default="", metavar="FILE", help="the root: a file, or an http(s) address")
    parser.add_argument("--sha256", default="", metavar="HEX", help="what the whole file must have; for files that came an unsafe way")
    parser.add_argument("--allow-downgrade", action="store_true", help="also when the file is older than what runs")
    parser.add_argument("--no-reboot", action="store_true", help="leave it to the next start")
    parser.add_argument("--confirm", action="store_true", help=argparse.SUPPRESS)  # pinnace-confirm.service
    parser.add_argument("--within", type=float, default=READY_SECONDS, metavar="SECONDS", help=argparse.SUPPRESS)
    control.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    slots = Slots()
    if args.confirm:
        return confirm(args, slots)
    if not args.file:
        raise ConfigError("which root? give the pinnace-VERSION.root of a release, or its address")
    if "://" not in args.file:
        _refuse_older(_looked(Path(args.file)), args)
    slot = slots.other
    try:
        with slots.locked():
            seal = _write(args, slots, slot)
    except OSError as error:
        raise PinnaceError(
            f"root {slot} was not written: {error.strerror or error}; this node goes on with what it has, try again"
        ) from error
    print(f"version {seal.version} is written and compared; it is tried at the next start, {TRIES} times at most", flush=True)
    if not args.no_reboot:
        Board().systemctl("--no-block", "reboot")
    return 0


def _write(args: argparse.Namespace, slots: Slots, slot: str) -> rootfile.Seal:
    slots.begin()
    target = slots.partition(slot)
    print(f"writing {args.file} to root {slot} ({target})", flush=True)
    with opened(args.file) as source:
        seal = rootfile.write(source, target, sha256=args.sha256, progress=lambda done: print(f"  {done / 1e6:.0f} MB", flush=True))
    _refuse_older(seal, args)
    slots.try_next(slot)
    return seal


def _looked(path: Path) -> rootfile.Seal:
    try:
        return rootfile.look(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error


def _refuse_older(seal: rootfile.Seal, args: argparse.Namespace) -> None:
    if is_older(seal.version, VERSION) and not args.allow_downgrade:
        raise RefusedError(
            f"version {seal.version} is older than {VERSION}, which runs; it may not be able to read what this node has stored. What runs "
            "stays; --allow-downgrade tries it, and comes back if the node does not get Ready"
        )


@contextlib.contextmanager
def opened(place: str) -> Iterator[BinaryIO]:
    """Raises LinkError, ConfigError."""
    if "://" not in place:
        with Path(place).open("rb") as file:
            yield file
        return
    if not place.startswith(("http://", "https://")):
        raise ConfigError(f"{place}: expected a file, or an address that begins with https:// or http://")
    from http.client import HTTPException
    from urllib.error import URLError
    from urllib.request import urlopen

    try:
        with urlopen(place, timeout=_READ_SECONDS) as answer:  # noqa: S310 - the scheme was looked at
            yield cast("BinaryIO", answer)
    except (URLError, HTTPException, TimeoutError, ConnectionError) as error:
        raise LinkError(
            f"{place}: cannot be fetched: {getattr(error, 'reason', error)}; this node goes on with what it has, try again"
        ) from error


def confirm(args: argparse.Namespace, slots: Slots) -> int:
    """Wait until the node is Ready and keep this root; else see to it that the former one is started, and exit 1."""
    if not slots.is_trial:
        return 0
    path = control.socket_path(args)
    end = time.monotonic() + args.within
    why = "it is no node yet"
    while args.config.exists():
        try:
            asyncio.run(_ready(path))
            break
        except (PinnaceError, OSError) as error:
            why = str(error) or "the agent does not answer"
        if time.monotonic() >= end:
            slots.give_up()
            raise PinnaceError(f"root {slots.running} is given up, its node was not Ready within {args.within:.0f} s: {why}")
        time.sleep(_ASK_SECONDS)
    slots.confirm()
    _forget_former(args.config)
    print(f"root {slots.running} (Pinnace {VERSION}) is kept", flush=True)
    return 0


def _forget_former(config: Path) -> None:
    """The database of before the trial. Where this is cut short, the edge's next start does it."""
    from pinnace.core.base.settings.loader import load
    from pinnace.core.meta.database import former_of
    from pinnace.core.settings import EdgeCoreSettings

    with contextlib.suppress(ConfigError, OSError):
        drop(former_of(load(config, EdgeCoreSettings).database.data_source))


async def _ready(path: Path) -> None:
    """Raises PinnaceError or OSError where the node is not Ready, or its agent hangs."""
    async with asyncio.timeout(_ANSWER_SECONDS):
        await control.whole(path, "/readyz")
