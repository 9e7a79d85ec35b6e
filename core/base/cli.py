"""The one command `pinnace`: each package adds its sub-commands through the entry-point group `pinnace.commands`.

A sub-command is a module with a docstring (its help), `SUMMARY` (one line), `add_arguments(parser)` and `run(args) -> int` (the exit
code: 0 ok, 1 failed, 2 usage or configuration, 3 refused). One with `IS_INTERNAL` is started by Pinnace itself; the help leaves it out.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

from pinnace.core.base.errors import PinnaceError

GROUP = "pinnace.commands"


class Command(Protocol):
    """The shape of a sub-command module."""

    __doc__: str | None
    SUMMARY: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, args: argparse.Namespace) -> int: ...


def targets() -> dict[str, str]:
    """Sub-command name → module, as this build declares them."""
    return {point.name: point.value for point in sorted(entry_points(group=GROUP), key=lambda point: point.name)}


def load(module: str) -> Command | None:
    """The sub-command's module, or None when this build does not contain it (an edge binary has no cloud commands)."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = ".".join(module.split(".")[:2])
        if error.name is not None and (error.name == package or module.startswith(error.name)):
            return None
        raise


def program() -> str:
    """What a person types in a shell to run this Pinnace: `pinnace` where PATH finds this one, else where it is."""
    is_frozen = getattr(sys, "frozen", False)
    own = Path(sys.executable) if is_frozen else Path(sys.executable).with_name("pinnace")
    found = shutil.which("pinnace")
    if found is not None and Path(found).resolve() == own.resolve():
        return "pinnace"
    return shlex.quote(str(own)) if own.exists() else shlex.join(command_line())


def command_line(*arguments: str) -> list[str]:
    """What runs a sub-command of this very Pinnace in a process of its own. Python's -P keeps files of the working folder out of it."""
    if getattr(sys, "frozen", False):
        return [sys.executable, *arguments]
    return [sys.executable, "-P", "-m", "pinnace.core.base.cli", *arguments]


def usage(names: dict[str, str]) -> str:
    lines = ["usage: pinnace COMMAND [options]", "", "commands:"]
    for name, module in names.items():
        command = load(module)
        if command is not None and not getattr(command, "IS_INTERNAL", False):
            lines.append(f"  {name:<12} {command.SUMMARY}")
    lines += ["", "`pinnace COMMAND --help` tells the rest."]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    names = targets()
    if not arguments or arguments[0] in {"-h", "--help", "help"}:
        print(usage(names))  # noqa: T201
        return 0 if arguments else 2
    name, rest = arguments[0], arguments[1:]
    if name == "--version":
        name = "version"
    if name not in names:
        print(f"pinnace: no command '{name}'; `pinnace --help` lists them", file=sys.stderr)  # noqa: T201
        return 2
    command = load(names[name])
    if command is None:
        print(f"pinnace: this build does not contain '{name}'", file=sys.stderr)  # noqa: T201
        return 2
    parser = argparse.ArgumentParser(
        prog=f"pinnace {name}", description=command.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_arguments(parser)
    args = parser.parse_args(rest)
    try:
        return command.run(args)
    except PinnaceError as error:
        print(f"pinnace {name}: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read has enough; what is left in the buffer must not complain at the exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(main())
