"""Run the edge on this machine: twins, MQTT and the node itself, with or without the cloud. Stops cleanly on SIGTERM and SIGINT.

The configuration is KubeEdge's edgecore.yaml; `pinnace join` writes one. Without a certificate the edge first asks the cloud for one
with `modules.edgeHub.token`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from pathlib import Path

from pinnace.core.base.observe import logs

SUMMARY = "the edge: twins, MQTT, the node"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, default=Path("/etc/kubeedge/config/edgecore.yaml"), metavar="PATH", help="edgecore.yaml (%(default)s)"
    )
    parser.add_argument("--ready-fd", type=int, metavar="FD", help="write `ready` there and close it once the edge runs")
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    parser.add_argument("--log-json", action="store_true")


def run(args: argparse.Namespace) -> int:
    import uvloop

    logs.configure(args.log_level, as_json=args.log_json)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(args))


async def _serve(args: argparse.Namespace) -> int:
    from pinnace.core.agent import running
    from pinnace.core.base.settings.loader import load
    from pinnace.core.settings import EdgeCoreSettings

    settings = load(args.config, EdgeCoreSettings)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with running(settings):
        print(f"ready: node {settings.node}", flush=True)
        if args.ready_fd is not None:
            with os.fdopen(args.ready_fd, "w") as stream:
                stream.write("ready\n")
        await stopped.wait()
    return 0
