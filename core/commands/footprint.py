"""Report what a node really uses: PSS, RSS and USS of each of its processes from the kernel's own account, by part and by pod, and
what the agent keeps, waits for and sends. Sizes in MB are 10^6 bytes.

PSS counts a page shared by n processes as 1/n, so the sum over the processes of a node is what the node would free. Without --pid, all
running processes of Pinnace, what supervises containers and every mosquitto are listed; what runs in pods is summed up a pod.

--record looks for ten minutes after five of warm-up, three times, and writes median, p95 and max as JSON and a picture. --diff compares
two recordings or two builds. --imports tells what the edge imports, with size, time and memory of each module.

A profiling build (`make freeze PROFILE=1`) run with PINNACE_PROFILE=FILE traces its allocations: the agent then tells its heap by package,
and --profile shows what it wrote to FILE.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pinnace.core.base.errors import ConfigError, PinnaceError, RefusedError
from pinnace.core.commands.parts import control

if TYPE_CHECKING:
    from pinnace.core.footprint.live import Look

SUMMARY = "what this node uses: memory, flash, wire; recordings, comparisons"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pid", type=int, action="append", default=[], help="only this process (may be repeated)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--parts", action="store_true", help="each process by part, extension and library too")
    parser.add_argument("--picture", type=Path, metavar="FILE.svg", help="draw it as well")
    control.add_arguments(parser)
    recording = parser.add_argument_group("recording")
    recording.add_argument(
        "--record", type=Path, metavar="FILE.json", help="sample for long, write the figures there, draw FILE.svg beside it"
    )
    recording.add_argument("--warm-up", type=_seconds, default=300.0, metavar="SECONDS", help="before each run (%(default)g)")
    recording.add_argument("--seconds", type=_seconds, default=600.0, metavar="SECONDS", help="length of each run (%(default)g)")
    recording.add_argument("--runs", type=int, default=3, metavar="N", help="%(default)s")
    recording.add_argument("--interval", type=_seconds, default=5.0, metavar="SECONDS", help="between looks (%(default)g)")
    comparing = parser.add_argument_group("comparing")
    comparing.add_argument("--diff", type=Path, nargs=2, metavar=("A", "B"), help="two recordings, frozen trees or one-file programs")
    comparing.add_argument(
        "--tolerance",
        type=float,
        default=float("inf"),
        metavar="PERCENT",
        help="exit 1 when B's size, PSS, writes or wire are so much over A's",
    )
    parser.add_argument("--imports", action="store_true", help="what the edge imports: time and memory by module")
    parser.add_argument("--profile", type=Path, metavar="FILE", help="what a profiling build wrote where PINNACE_PROFILE said")
    parser.add_argument("--in-child", choices=["time", "heap"], help=argparse.SUPPRESS)


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError("expected seconds, 0 or more")
    return value


def run(args: argparse.Namespace) -> int:
    if args.diff:
        return _diff(args)
    if args.imports:
        return _imports(args)
    if args.profile:
        return _profile(args)
    if args.record:
        return _record(args)
    return _live(args)


def _live(args: argparse.Namespace) -> int:
    from pinnace.core.footprint import live, tables

    found = _look(args)
    for pid, problem in found.problems.items():
        print(f"pinnace footprint: process {pid}: {problem}", file=sys.stderr)
    if args.pid and found.problems:
        return 1
    agent = _agent(args)
    entry = live.as_json(found, agent)
    if args.picture:
        from pinnace.core.footprint import picture

        _write(args.picture, picture.of_look(entry).encode())
    if args.json:
        _print(entry)
    else:
        for line in tables.live(found, agent, parts=args.parts):
            print(line)
    return 0


def _look(args: argparse.Namespace) -> Look:
    """Raises RefusedError where the node's processes are not ours to look at: a part of them would pass for the whole."""
    from pinnace.core.footprint import live

    found = live.look(args.pid)
    if found.problems and os.geteuid() != 0 and not args.pid:
        raise RefusedError(f"{len(found.problems)} processes may be looked at by root only; use sudo, or name your own with --pid")
    return found


def _agent(args: argparse.Namespace) -> Mapping[str, Any] | None:
    """What the agent says of itself; None, and a word why, when it says nothing. It is not asked about other processes."""
    if args.pid and args.socket is None:
        return None
    try:
        found: Mapping[str, Any] = control.objects(control.socket_path(args), "/usage")
    except PinnaceError as error:
        print(f"pinnace footprint: without the agent's own account: {error}", file=sys.stderr)
        return None
    return found


def _record(args: argparse.Namespace) -> int:
    from pinnace.core.footprint import picture, sampling

    if args.runs < 1 or args.interval <= 0:
        raise ConfigError("--runs and --interval: expected numbers above 0")
    drawn = args.picture or args.record.with_suffix(".svg")
    if drawn == args.record:
        raise ConfigError(f"{drawn}: is where the picture goes; give the figures another name")
    _look(args)
    _write(args.record, b"")  # rather now than after three quarters of an hour
    plan = sampling.Plan(args.warm_up, args.seconds, args.runs, args.interval, args.pid, _store(args))
    sampling.quiet_priority()
    found = sampling.take(plan, told=lambda words: print(words, file=sys.stderr, flush=True))
    found["agent"] = _agent(args)
    _write(drawn, picture.of_record(found).encode())
    import orjson

    _write(args.record, orjson.dumps(found))
    if args.json:
        _print(found["summary"])
    else:
        from pinnace.core.footprint import tables

        for line in tables.recorded(found):
            print(line)
        print(f"figures: {args.record}, picture: {drawn}")
    return 0


def _store(args: argparse.Namespace) -> Path:
    """Where the node writes."""
    from pinnace.core.base.settings.loader import load
    from pinnace.core.settings import EdgeCoreSettings

    if not args.config.exists():
        return EdgeCoreSettings().database.data_source.parent
    return load(args.config, EdgeCoreSettings).database.data_source.parent


def _diff(args: argparse.Namespace) -> int:
    from pinnace.core.footprint import difference

    rows = difference.compare(*args.diff)
    if args.json:
        _print(difference.as_json(rows, args.tolerance) | {"tolerance_percent": None if args.tolerance == float("inf") else args.tolerance})
    else:
        for line in difference.table(rows, args.tolerance):
            print(line)
    over = [row.name for row in rows if row.is_over(args.tolerance)]
    if over:
        print(f"pinnace footprint: more than {args.tolerance:g} % over: {', '.join(over)}", file=sys.stderr)
    return 1 if over else 0


def _imports(args: argparse.Namespace) -> int:
    from pinnace.core.footprint import imports

    if args.in_child:
        _print(imports.here(traced=args.in_child == "heap").as_json())
        return 0
    found = imports.measure()
    if args.json:
        _print(imports.as_json(found))
    else:
        for line in imports.table(found):
            print(line)
    return 0


def _profile(args: argparse.Namespace) -> int:
    from pinnace.core.footprint import profile

    found = profile.read(args.profile)
    if args.json:
        _print(found)
    else:
        for line in profile.table(found):
            print(line)
    return 0


def _print(value: Mapping[str, Any]) -> None:
    import orjson

    print(orjson.dumps(value).decode())


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error
