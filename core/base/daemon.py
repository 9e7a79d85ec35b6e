"""What every long-running sub-command shares: its flags, the log, the loop, stopping on SIGTERM and SIGINT, and saying that it is ready, to
systemd as well."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import faulthandler
import os
import signal
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager

from pinnace.core.base.notices import Notices
from pinnace.core.base.observe import logs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ready-fd", type=int, metavar="FD", help="write `ready` there and close it once it serves")
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"], help="%(default)s")
    parser.add_argument("--log-json", action="store_true", help="log JSON lines")


def run(args: argparse.Namespace, service: AbstractAsyncContextManager[Iterable[str]]) -> int:
    """Run a service until a signal; 0 then. What entering it gives are the lines that say where it serves (`ready: ...`).

    Raises what the service raises.
    """
    import uvloop

    logs.configure(args.log_level, as_json=args.log_json)
    notices = Notices()
    if notices.period:
        faulthandler.enable()  # the watchdog's SIGABRT shows where the loop hung
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_until_signal(service, args.ready_fd, notices))


async def _until_signal(service: AbstractAsyncContextManager[Iterable[str]], ready_fd: int | None, notices: Notices) -> int:
    loop = asyncio.get_running_loop()
    work = asyncio.create_task(_hold(service, ready_fd, notices))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, work.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await work
    return 0


async def _hold(service: AbstractAsyncContextManager[Iterable[str]], ready_fd: int | None, notices: Notices) -> None:
    async with service as lines:
        said = list(lines)
        for line in said:
            print(line, flush=True)  # noqa: T201 - what people and scripts wait for
        if ready_fd is not None:
            with contextlib.suppress(BrokenPipeError), os.fdopen(ready_fd, "w") as stream:  # nobody may wait for it any more
                stream.write("ready\n")
        notices.ready("; ".join(said))
        try:
            await notices.live()
        finally:
            notices.stopping()
