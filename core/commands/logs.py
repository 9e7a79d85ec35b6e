"""Show the log of a container on this node. Works without a network; for root."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from pinnace.core.base.errors import ConfigError, PinnaceError
from pinnace.core.commands.parts import control

SUMMARY = "the log of a container on this node"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pod", help="the pod's name")
    control.add_namespace(parser)
    parser.add_argument("-c", "--container", default="", help="which container (default: the first)")
    parser.add_argument("-f", "--follow", action="store_true", help="go on as it grows")
    parser.add_argument("-p", "--previous", action="store_true", help="of the run before this one")
    parser.add_argument("--tail", type=int, metavar="LINES", help="only so many lines from the end")
    parser.add_argument("--since", default="", metavar="DURATION", help="only what is newer, such as 10m or 2h")
    parser.add_argument("--timestamps", action="store_true", help="with the time of each line")
    parser.add_argument("--json", action="store_true", help="one JSON object a line: {time, text}")
    control.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from pinnace.core.base.settings.edged import seconds

    try:
        since = str(max(int(seconds(args.since)), 1)) if args.since else ""
    except ValueError as error:
        raise ConfigError(f"--since {args.since}: {error}") from error
    path = control.socket_path(args)
    pod = control.find_pod(path, args.namespace, args.pod)
    wanted = control.target(
        "containerLogs", args.namespace, args.pod, control.container_of(pod, args.container),
        follow="true" if args.follow else "", previous="true" if args.previous else "", sinceSeconds=since,
        tailLines="" if args.tail is None else str(args.tail), timestamps="true" if args.timestamps or args.json else "",
    )  # fmt: skip
    return asyncio.run(_copy(path, wanted, as_json=args.json))


async def _copy(path: Path, wanted: str, *, as_json: bool) -> int:
    status, reader, writer = await control.ask(path, wanted)
    try:
        if status != 200:
            raise PinnaceError((await reader.read()).decode(errors="replace").strip())
        if as_json:
            await _print_lines(reader)
            return 0
        while data := await reader.read(65536):
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
    except BrokenPipeError:
        return 0  # `| head` has seen enough
    finally:
        writer.close()
    return 0


async def _print_lines(reader: asyncio.StreamReader) -> None:
    """A line of a log may be of any length."""
    rest = b""
    while data := await reader.read(65536):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            _print_json(line)
    if rest:
        _print_json(rest)


def _print_json(line: bytes) -> None:
    import orjson

    moment, _, text = line.decode(errors="replace").partition(" ")
    sys.stdout.buffer.write(orjson.dumps({"time": moment, "text": text}) + b"\n")
    sys.stdout.buffer.flush()
