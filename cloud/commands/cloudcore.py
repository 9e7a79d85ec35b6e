"""Run the cloud side: nodes connect to it, and it keeps them and the Kubernetes API in agreement. Stops cleanly on SIGTERM and SIGINT.

Once nodes can connect it prints `ready:` lines with the ports in use. While the API server cannot be reached it waits for it. The
configuration is KubeEdge's cloudcore.yaml; keys that Pinnace does not use are named in a warning.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pinnace.core.base.observe import logs
from pinnace.core.base.settings.loader import load

if TYPE_CHECKING:
    from pinnace.cloud.server import Running

SUMMARY = "the cloud side: nodes, devices and their settings"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, metavar="PATH", help="cloudcore.yaml; defaults where it is silent")
    parser.add_argument(
        "--kubeconfig", type=Path, metavar="PATH", help="how to reach the Kubernetes API, instead of kubeAPIConfig.kubeConfig"
    )
    parser.add_argument("--ready-fd", type=int, metavar="FD", help="write `ready` there and close it once nodes can connect")
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    parser.add_argument("--log-json", action="store_true")


def run(args: argparse.Namespace) -> int:
    import uvloop

    logs.configure(args.log_level, as_json=args.log_json)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(args))


async def _serve(args: argparse.Namespace) -> int:
    from pinnace.cloud.server import serving
    from pinnace.cloud.settings import CloudCoreSettings

    overrides: dict[str, Any] = {"kubeAPIConfig.kubeConfig": str(args.kubeconfig)} if args.kubeconfig is not None else {}
    settings = load(args.config, CloudCoreSettings, overrides=overrides)
    work = asyncio.create_task(_until_cancelled(serving(settings), args.ready_fd))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, work.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await work
    return 0


async def _until_cancelled(service: AbstractAsyncContextManager[Running], ready_fd: int | None) -> None:
    async with service as running:
        for name, port in (("websocket", running.websocket_port), ("https", running.https_port), ("conversion", running.conversion_port)):
            if port:
                print(f"ready: {name} {port}", flush=True)
        if ready_fd is not None:
            with contextlib.suppress(BrokenPipeError), os.fdopen(ready_fd, "w") as stream:  # nobody may wait for it any more
                stream.write("ready\n")
        await asyncio.Event().wait()
