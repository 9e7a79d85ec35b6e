"""Run one of the mappers of this build: `pinnace mapper NAME [flags]`; `pinnace mapper NAME --help` tells its flags."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any

from pinnace.core.base.deferred import RARE, defer
from pinnace.core.base.errors import PinnaceError

SUMMARY = "run a mapper: gpio, virtual"

MAPPERS = ("gpio", "virtual")
"""The mappers; each is a package `pinnace.mappers.<name>` with a module `command` shaped like a sub-command."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    choices = parser.add_subparsers(dest="mapper", metavar="NAME", required=True)
    for name in MAPPERS:
        command = _command(name)
        command.add_arguments(
            choices.add_parser(
                name, help=command.SUMMARY, description=command.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
            )
        )


def run(args: argparse.Namespace) -> int:
    return int(_command(args.mapper).run(args))


def main(argv: Sequence[str]) -> int:
    """What `python -m pinnace.mappers.<name>` runs."""
    defer(*RARE)
    parser = argparse.ArgumentParser(prog="pinnace mapper")
    add_arguments(parser)
    try:
        return run(parser.parse_args(argv))
    except PinnaceError as error:
        print(f"pinnace mapper: {error}", file=sys.stderr)
        return error.exit_code


def _command(name: str) -> Any:
    return importlib.import_module(f"pinnace.mappers.{name}.command")
