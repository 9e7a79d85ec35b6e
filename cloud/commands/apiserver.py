"""Run the embedded Kubernetes API server: HTTPS on SQLite, for one machine. Stops cleanly on SIGTERM and SIGINT.

It makes its own certificate authority in the data folder and writes kubeconfig files for those who may use it: an administrator
(--kubeconfig) and others (--client-kubeconfig USER[,GROUP...]=PATH). SCOPE.md says what it does and does not do.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from pinnace.core.base import daemon
from pinnace.core.base.errors import ConfigError

SUMMARY = "the embedded Kubernetes API server"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir", type=Path, default=Path("/var/lib/pinnace/api"), metavar="DIR", help="database and certificates (%(default)s)"
    )
    parser.add_argument("--bind", default="127.0.0.1", metavar="ADDRESS", help="where to listen (%(default)s)")
    parser.add_argument("--port", type=int, default=6443, help="0 picks a free one (%(default)s)")
    parser.add_argument(
        "--advertise", action="append", default=[], metavar="NAME", help="a further name or address clients use; repeatable"
    )
    parser.add_argument("--kubeconfig", type=Path, metavar="PATH", help="write an administrator's kubeconfig there (mode 0600)")
    parser.add_argument("--client-kubeconfig", action="append", default=[], metavar="USER[,GROUP...]=PATH",
                        help="write a kubeconfig for this user and these groups; repeatable")  # fmt: skip
    parser.add_argument("--cloudcore-kubeconfig", type=Path, metavar="PATH", help="write a kubeconfig with what cloudcore may do")
    parser.add_argument("--node-grace-seconds", type=float, default=40.0, metavar="SECONDS",
                        help="a node whose lease is older is Unknown and tainted (%(default)s)")  # fmt: skip
    daemon.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    return daemon.run(args, _serving(args))


@contextlib.asynccontextmanager
async def _serving(args: argparse.Namespace) -> AsyncIterator[list[str]]:
    from pinnace.cloud.standalone.access import CLOUDCORE
    from pinnace.cloud.standalone.server import ClientFile, ServerSettings, admin_file, serving

    clients = [admin_file(args.kubeconfig)] if args.kubeconfig is not None else []
    if args.cloudcore_kubeconfig is not None:
        clients.append(ClientFile(args.cloudcore_kubeconfig, "system:pinnace:cloudcore", (CLOUDCORE,)))
    for text in args.client_kubeconfig:
        names, found, path = text.partition("=")
        user, *groups = names.split(",")
        if not found or not user or not path:
            raise ConfigError(f"--client-kubeconfig {text}: expected USER[,GROUP...]=PATH")
        clients.append(ClientFile(Path(path), user, tuple(groups)))
    settings = ServerSettings(
        args.data_dir, args.bind, args.port, tuple(args.advertise), tuple(clients), node_grace_seconds=args.node_grace_seconds
    )
    async with serving(settings) as running:
        yield [f"ready: {running.url}"]
