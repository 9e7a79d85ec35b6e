"""The one command `pinnace`: a sub-command is a module of one of the PACKAGES; `pinnace image-child` is their module `image_child`.

It has a docstring (its help), `SUMMARY` (one line), `add_arguments(parser)` and `run(args) -> int` (the exit code: 0 ok, 1 failed,
2 usage or configuration, 3 refused). One with `IS_INTERNAL` is started by Pinnace itself; the help leaves it out. With `IS_INTERMIXED`
options may stand between its words.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shlex
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Protocol

from pinnace.core.base.deferred import RARE, defer
from pinnace.core.base.errors import PinnaceError

PACKAGES: Final = ("pinnace.core.commands", "pinnace.cloud.commands", "pinnace.mappers.commands")
"""Only modules of them are sub-commands, packages are not. A build need not have them all: an edge has none of the cloud's."""


class Command(Protocol):
    """The shape of a sub-command module."""

    __doc__: str | None
    SUMMARY: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, args: argparse.Namespace) -> int: ...


def names() -> list[str]:
    """The sub-commands that this build contains."""
    from pkgutil import iter_modules  # only who asks for them all pays for it

    found = []
    for package in PACKAGES:
        spec = _spec(package)
        places = spec.submodule_search_locations if spec is not None else ()
        found += [each.name.replace("_", "-") for each in iter_modules(places) if not each.ispkg]
    return sorted(found)


def load(name: str) -> Command | None:
    """The sub-command of that name, or None when this build does not contain it."""
    module = name.replace("-", "_")
    if "_" in name or name.startswith("-") or not module.isidentifier():
        return None
    for package in PACKAGES:
        spec = _spec(f"{package}.{module}")
        if spec is not None and spec.submodule_search_locations is None:
            return importlib.import_module(spec.name)
    return None


def _spec(module: str) -> ModuleSpec | None:
    try:
        return find_spec(module)
    except ModuleNotFoundError:  # of a package above it
        return None


def program() -> str:
    """What a person types in a shell to run this Pinnace: `pinnace` where PATH finds this one, else where it is."""
    import shutil  # not before `main` has deferred what it imports

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


def usage() -> str:
    lines = ["usage: pinnace COMMAND [options]", "", "commands:"]
    for name in names():
        command = load(name)
        if command is not None and not getattr(command, "IS_INTERNAL", False):
            lines.append(f"  {name:<12} {command.SUMMARY}")
    lines += ["", "`pinnace COMMAND --help` tells the rest."]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command and return its exit code."""
    defer(*RARE)
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in {"-h", "--help", "help"}:
        print(usage())  # noqa: T201
        return 0 if arguments else 2
    name, rest = arguments[0], arguments[1:]
    if name == "--version":
        name = "version"
    command = load(name)
    if command is None:
        print(f"pinnace: this build does not contain a command '{name}'; `pinnace --help` lists what it has", file=sys.stderr)  # noqa: T201
        return 2
    parser = argparse.ArgumentParser(
        prog=f"pinnace {name}", description=command.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_arguments(parser)
    args = parser.parse_intermixed_args(rest) if getattr(command, "IS_INTERMIXED", False) else parser.parse_args(rest)
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
