"""From the command line to a running mapper: the flags every mapper has, signals, and the loop."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from pinnace.core.base.aio.backoff import Backoff
from pinnace.core.base.aio.supervise import supervise
from pinnace.core.base.errors import ConfigError, PinnaceError
from pinnace.core.base.observe import logs
from pinnace.mappers.sdk.connection import Broker
from pinnace.mappers.sdk.mapper import Mapper
from pinnace.mappers.sdk.properties import Device
from pinnace.mappers.sdk.topics import Dialect

DEFAULT_BROKER = "tcp://127.0.0.1:1883"
BROKER_VARIABLE = "PINNACE_MQTT_URL"
"""Environment variable that takes the place of `DEFAULT_BROKER`: an image may set it, so that a pod needs no flag."""


def add_arguments(parser: argparse.ArgumentParser, *, device: str, model: str) -> None:
    """The flags of every mapper; `device` and `model` are this one's defaults."""
    parser.add_argument("--device", default=device, metavar="NAME", help="the device's name, or NAMESPACE/NAME (default: %(default)s)")
    parser.add_argument("--modelname", default=model, metavar="NAME", help="the device model's name (default: %(default)s)")
    parser.add_argument(
        "--mqtturl",
        default=os.environ.get(BROKER_VARIABLE, DEFAULT_BROKER),
        metavar="URL",
        help=f"the broker (default: {BROKER_VARIABLE} in the environment, else {DEFAULT_BROKER})",
    )
    parser.add_argument("--password-file", type=Path, metavar="FILE", help="the broker's password, for a user named in the URL")
    parser.add_argument(
        "--dialect",
        choices=[each.value for each in Dialect],
        default=Dialect.AUTO.value,
        help="topics with the bare name, with namespace and name, or whichever the edge answers (default: %(default)s)",
    )
    parser.add_argument("--log-level", default="info", help="debug, info, warning or error (default: %(default)s)")
    parser.add_argument("--log-json", action="store_true", help="log JSON lines")
    parser.add_argument("--ready-fd", type=int, metavar="FD", help="write `ready` to this descriptor when the broker is connected")


def device_of(args: argparse.Namespace) -> Device:
    """An empty device of the name given by `--device`."""
    namespace, slash, name = str(args.device).rpartition("/")
    if not name or "/" in namespace:
        raise ConfigError(f"--device: expected NAME or NAMESPACE/NAME, not '{args.device}'")
    return Device(name, namespace if slash else "default")


def run(args: argparse.Namespace, device: Device, *, beside: Sequence[Callable[[], Awaitable[None]]] = ()) -> int:
    """Serve the device as the flags say until SIGTERM or SIGINT; 0 then."""
    broker = Broker.parse(args.mqtturl, password_file=args.password_file)
    logs.configure(args.log_level, as_json=args.log_json)
    serve(device, broker, dialect=Dialect(args.dialect), ready_fd=args.ready_fd, beside=beside)
    return 0


def serve(
    devices: Device | Sequence[Device],
    broker: Broker,
    *,
    dialect: Dialect = Dialect.AUTO,
    ready_fd: int | None = None,
    beside: Sequence[Callable[[], Awaitable[None]]] = (),
) -> None:
    """Serve one device or several on a broker until SIGTERM or SIGINT. `beside` runs in the same loop; what it raises ends everything."""
    import uvloop

    served = [devices] if isinstance(devices, Device) else devices
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(_serve(served, broker, dialect, ready_fd, beside))
        except ExceptionGroup as group:
            ours = group.subgroup(PinnaceError)
            if ours is None:
                raise
            raise ours.exceptions[0] from None


async def _serve(
    devices: Sequence[Device],
    broker: Broker,
    dialect: Dialect,
    ready_fd: int | None,
    beside: Sequence[Callable[[], Awaitable[None]]],
) -> None:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    waiting = len(devices)

    def connected() -> None:
        nonlocal waiting
        waiting -= 1
        if waiting == 0 and ready_fd is not None:
            with contextlib.suppress(OSError), os.fdopen(ready_fd, "wb") as stream:  # whoever started us may have left
                stream.write(b"ready\n")

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_run(each)) for each in beside]
        for each in devices:
            mapper = Mapper(each, broker, dialect=dialect, on_first_connect=connected)
            tasks.append(group.create_task(supervise(f"mapper-{each.name}", mapper.run, Backoff(0.5, 30.0))))
        await stopped.wait()
        for task in tasks:
            task.cancel()


async def _run(service: Callable[[], Awaitable[None]]) -> None:
    await service()
