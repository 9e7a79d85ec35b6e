"""Run the embedded Kubernetes API server: HTTPS on SQLite, for one machine. Stops cleanly on SIGTERM and SIGINT.

It makes its own certificate authority in the data folder and writes kubeconfig files for those who may use it: an administrator
(--kubeconfig) and others (--client-kubeconfig USER[,GROUP...]=PATH). SCOPE.md says what it does and does not do.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from pathlib import Path

from pinnace.core.base.errors import ConfigError
from pinnace.core.base.observe import logs

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
    parser.add_argument("--ready-fd", type=int, metavar="FD", help="write `ready` there and close it once the server answers")
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    parser.add_argument("--log-json", action="store_true")


def run(args: argparse.Namespace) -> int:
    import uvloop

    logs.configure(args.log_level, as_json=args.log_json)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(args))


async def _serve(args: argparse.Namespace) -> int:
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
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    settings = ServerSettings(
        args.data_dir, args.bind, args.port, tuple(args.advertise), tuple(clients), node_grace_seconds=args.node_grace_seconds
    )
    async with serving(settings) as running:
        print(f"ready: {running.url}", flush=True)
        if args.ready_fd is not None:
            with os.fdopen(args.ready_fd, "w") as stream:
                stream.write("ready\n")
        await stopped.wait()
    return 0
