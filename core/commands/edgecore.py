"""Run the edge on this machine: twins, MQTT and the node itself, with or without the cloud. Stops cleanly on SIGTERM and SIGINT.

The configuration is KubeEdge's edgecore.yaml; `pinnace join` writes one. Without a certificate the edge first asks the cloud for one
with `modules.edgeHub.token`.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from pinnace.core.base import bundle, daemon
from pinnace.core.base.errors import ConfigError

SUMMARY = "the edge: twins, MQTT, the node"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, default=Path("/etc/kubeedge/config/edgecore.yaml"), metavar="PATH", help="edgecore.yaml (%(default)s)"
    )
    daemon.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    if not args.config.exists():
        raise ConfigError(
            f"{args.config} is not there: `pinnace join` makes this machine a node and writes it; --config names another file"
        )
    if bundle.is_unpacked_for_now():
        print(
            "note: this is the one-file program, whose parts are in /tmp; pods that should outlive it need `pinnace install`",
            file=sys.stderr,
        )
    return daemon.run(args, _serving(args.config))


@contextlib.asynccontextmanager
async def _serving(config: Path) -> AsyncIterator[list[str]]:
    from pinnace.core.agent import running
    from pinnace.core.appliance.slots import Slots
    from pinnace.core.base.settings.loader import load
    from pinnace.core.settings import EdgeCoreSettings

    settings = load(config, EdgeCoreSettings)
    async with running(settings, on_trial=Slots().is_trial):
        yield [f"ready: node {settings.node}"]
