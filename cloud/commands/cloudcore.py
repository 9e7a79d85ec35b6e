"""Run the cloud side: nodes connect to it, and it keeps them and the Kubernetes API in agreement. Stops cleanly on SIGTERM and SIGINT.

Once nodes can connect it prints `ready:` lines with the ports in use. While the API server cannot be reached it waits for it. The
configuration is KubeEdge's cloudcore.yaml; keys that Pinnace does not use are named in a warning.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from pinnace.core.base import daemon
from pinnace.core.base.settings.loader import load

SUMMARY = "the cloud side: nodes, devices and their settings"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, metavar="PATH", help="cloudcore.yaml; defaults where it is silent")
    parser.add_argument(
        "--kubeconfig", type=Path, metavar="PATH", help="how to reach the Kubernetes API, instead of kubeAPIConfig.kubeConfig"
    )
    daemon.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    return daemon.run(args, _serving(args))


@contextlib.asynccontextmanager
async def _serving(args: argparse.Namespace) -> AsyncIterator[list[str]]:
    from pinnace.cloud.server import serving
    from pinnace.cloud.settings import CloudCoreSettings

    overrides: dict[str, Any] = {"kubeAPIConfig.kubeConfig": str(args.kubeconfig)} if args.kubeconfig is not None else {}
    async with serving(load(args.config, CloudCoreSettings, overrides=overrides)) as running:
        ports = {"websocket": running.websocket_port, "https": running.https_port, "conversion": running.conversion_port}
        yield [f"ready: {name} {port}" for name, port in ports.items() if port]
