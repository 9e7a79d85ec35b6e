"""Start all of Pinnace on this machine and show the traffic light: broker, Kubernetes API, cloudcore, an edge, the GPIO mapper.

As root the mapper runs in a pod, from the sample's Deployment as it stands; otherwise, or with --mapper process, as a process of its own.

It stays in the foreground; Ctrl-C, or `pinnace down` in another terminal, ends everything. What it keeps is below --dir: data, logs,
configuration files and a kubeconfig. Ports that are busy are chosen around.

With --once it needs no terminal: it starts afresh in a folder of its own, switches every lamp on and off through the Kubernetes API,
cuts the edge off, changes a desired value meanwhile, lets the edge in again, prints one line for each thing it saw, ends everything,
and exits 0 only if all of it was seen.

The times are those between sightings at public interfaces: desired in a watch of the API, the delta on MQTT, the pin, the mapper's
report on MQTT, reported in a watch of the API. Versions are the Device's resource version and the edge's twin version.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import os
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pinnace.core.base.cli import program
from pinnace.core.base.errors import ConfigError, PinnaceError
from pinnace.core.base.observe import logs

if TYPE_CHECKING:
    from pinnace.cloud.local.journal import Journal
    from pinnace.cloud.local.stack import Stack
    from pinnace.cloud.local.watchers import MqttWatch

SUMMARY = "all of it on this machine: the traffic light"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from pinnace.cloud.local.places import default_folder

    parser.add_argument("--once", action="store_true", help="no terminal: do every step once, see it happen, end")
    parser.add_argument(
        "--dir", type=Path, metavar="DIR", help=f"where everything is kept (default: {default_folder()}; --once: a temporary folder)"
    )
    parser.add_argument(
        "--advertise", default="", metavar="ADDRESS", help="this machine's IPv4 address, under which a second machine joins"
    )
    parser.add_argument(
        "--port", choices=["auto", "real", "simulated"], default="auto", help="the lamps' pins; auto: real on a Raspberry Pi"
    )
    parser.add_argument(
        "--mapper", choices=["auto", "pod", "process"], default="auto", help="how the mapper runs; auto: in a pod where that can be"
    )
    parser.add_argument(
        "--mqtt-port", type=int, default=1883, metavar="PORT", help="where a broker may be; without one it gets one (%(default)s)"
    )
    parser.add_argument(
        "--log-level", default="info", choices=["debug", "info", "warning", "error"], help="of the processes' logs (%(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    logs.configure("error")
    if args.advertise:
        try:
            ipaddress.IPv4Address(args.advertise)
        except ValueError as error:
            raise ConfigError(f"--advertise: expected an IPv4 address of this machine, not '{args.advertise}'") from error
    return asyncio.run(_until_asked(_once(args) if args.once else _show(args)))


def say(line: str) -> None:
    print(line, flush=True)


async def _until_asked(work: Coroutine[Any, Any, int]) -> int:
    """Do the work until it is done, or until a signal or the end of the terminal ends it."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    asked = 0

    def end() -> None:
        nonlocal asked
        asked += 1
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, end)
    try:
        return await task
    except asyncio.CancelledError:
        return 0 if asked else 1


def _in_pod(args: argparse.Namespace) -> bool:
    """Whether the mapper runs in a pod; says why not when nobody asked for a process. Raises ConfigError."""
    from pinnace.cloud.local import pods

    reason = pods.obstacle() if args.mapper != "process" else ""
    if reason and args.mapper == "pod":
        raise ConfigError(f"--mapper pod: {reason}")
    if reason:
        say(f"note: the mapper runs as a process, not in a pod: {reason}")
    return args.mapper != "process" and not reason


async def _once(args: argparse.Namespace) -> int:
    from pinnace.cloud.local.script import Script
    from pinnace.cloud.local.stack import Options, Stack

    folder = args.dir or Path(tempfile.mkdtemp(prefix="pinnace-up-"))
    stack = Stack(
        Options(
            folder,
            advertise=args.advertise,
            usual_ports=False,
            relayed=True,
            in_pod=_in_pod(args),
            pins=args.port,
            log_level=args.log_level,
        ),
        say,
    )
    try:
        async with stack.running(), _watched(stack) as (journal, mqtt):
            await _or_broken(stack, Script(stack, journal, mqtt, say).run())
            processes = stack.processes
            say("done: ending everything")
    except (PinnaceError, ExceptionGroup) as error:
        say(f"FAILED: {_reason(error)}")
        for line in stack.last_words():
            say(line)
        return 1
    left = [each for each in processes if each.is_alive]
    if left:
        say("FAILED: still there: " + ", ".join(f"{each.name} {each.pid}" for each in left))
        return 1
    say(f"all {len(processes)} processes have ended")
    if args.dir is None:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


async def _show(args: argparse.Namespace) -> int:
    from pinnace.cloud.local.places import default_folder
    from pinnace.cloud.local.stack import Options, Stack

    folder = args.dir or default_folder()
    stack = Stack(
        Options(
            folder,
            advertise=args.advertise,
            in_pod=_in_pod(args),
            pins=args.port,
            mqtt_port=args.mqtt_port,
            log_level=args.log_level,
        ),
        say,
    )
    try:
        async with stack.running(), _watched(stack) as (journal, _):
            for line in _greeting(stack, args.dir):
                say(line)
            await _or_broken(stack, _draw(journal))
    except ExceptionGroup as error:
        raise PinnaceError(_reason(error)) from error
    except asyncio.CancelledError:
        say("ended")
        raise
    return 0


def _greeting(stack: Stack, folder: Path | None) -> list[str]:
    """What to try, in lines that are not wider than a terminal of 80 columns where the paths allow it."""
    from pinnace.cloud.local.stack import DEVICE

    where = f" --dir {shlex.quote(str(folder))}" if folder else ""
    lines = [
        "",
        "try, in another terminal (0 is red, 1 yellow, 2 green; ON or OFF):",
        f"  export KUBECONFIG={shlex.quote(str(stack.places.kubeconfig))}",
        f"  kubectl patch device {DEVICE} --type json \\",
        """  -p '[{"op":"add","path":"/spec/properties/0/desired/value","value":"ON"}]'""",
        f"  kubectl get device {DEVICE} -o yaml",
        "  kubectl get nodes,pods -o wide",
        *_about_pods(stack),
        f"  {program()} status{where}",
    ]
    if stack.is_advertised:
        lines += ["a second machine joins with (`pinnace gettoken` prints a token for another day):", f"  {stack.join_line}"]
    return [*lines, f"Ctrl-C here, or `{program()} down{where}` there, ends all of it.", ""]


def _about_pods(stack: Stack) -> list[str]:
    if stack.pods is None:
        return []
    config = shlex.quote(str(stack.places.config / "edgecore.yaml"))
    return ["  kubectl logs deployment/traffic-light", f"  {program()} get pods --config {config}"]


async def _draw(journal: Journal) -> None:
    """Show the lamps for ever: in place on a terminal, a line for each change elsewhere."""
    from pinnace.cloud.local import screen
    from pinnace.cloud.local.stack import LAMPS

    is_terminal = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    drawn: list[str] = []
    while True:
        version = journal.version
        if is_terminal:
            fresh = screen.picture(LAMPS, journal, columns=shutil.get_terminal_size().columns)
            sys.stdout.write(screen.redraw(fresh, len(drawn)))
            sys.stdout.flush()
        else:
            fresh = screen.lines(LAMPS, journal) if version else []
            for line in fresh:
                if line not in drawn:
                    say(line)
        drawn = fresh
        await journal.changed(version)


@contextlib.asynccontextmanager
async def _watched(stack: Stack) -> AsyncIterator[tuple[Journal, MqttWatch]]:
    """The watchers, for the length of the block."""
    from pinnace.cloud.local import watchers
    from pinnace.cloud.local.journal import Journal
    from pinnace.cloud.local.stack import DEVICE, LAMPS, NAMESPACE

    journal = Journal()
    mqtt = watchers.MqttWatch(stack.ports.mqtt, NAMESPACE, DEVICE, journal)
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(each)
            for each in (
                mqtt.run(),
                watchers.watch_pins(stack.pin_socket, LAMPS, journal),
                watchers.watch_devices(stack.api, NAMESPACE, DEVICE, journal),
            )
        ]
        try:
            yield journal, mqtt
        finally:
            for task in tasks:
                task.cancel()


async def _or_broken(stack: Stack, work: Awaitable[None]) -> None:
    """Do the work unless a process ends first, which is raised."""
    tasks = [asyncio.ensure_future(work), asyncio.ensure_future(stack.broken())]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for each in done:
            each.result()
    finally:
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _reason(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__
