"""Lay this Pinnace down on this machine: below /opt/pinnace/VERSION, with systemd units for the edge and its MQTT broker.

Nothing is fetched; all of it comes out of the program that is run. What is there already is kept: configuration, certificates, database,
pods. The version in use changes in one step, by the symlink /opt/pinnace/current; the one before stays, and --rollback returns to it. Where
the edge ran and does not come up in the new version, that happens by itself. Run again, it repairs what is not as it should be. With --root
the files of an image are laid out and nothing is started.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from pinnace.core.base.errors import ConfigError, PinnaceError, RefusedError

if TYPE_CHECKING:
    from pinnace.core.install.machine import Machine
    from pinnace.core.install.versions import Versions

SUMMARY = "lay this Pinnace down on this machine"
CONFIG = Path("etc/kubeedge/config/edgecore.yaml")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", type=Path, default=Path("/"), metavar="DIR", help="the root of the machine or image (%(default)s)")
    parser.add_argument("--rollback", nargs="?", const="", metavar="VERSION", help="go back to the version before, or to this one")
    parser.add_argument("--no-start", action="store_true", help="leave what runs alone; the next start takes what was installed")


def run(args: argparse.Namespace) -> int:
    from pinnace.core.install.build import Build
    from pinnace.core.install.machine import Machine
    from pinnace.core.install.versions import Versions

    os.umask(0o022)
    versions, machine = Versions(args.root), Machine(args.root)
    with versions.locked():
        was = versions.current
        if args.rollback is not None:
            name = versions.back(args.rollback)
            refuse_schema(args.root, name, versions.release(name).schema)
            build = Build.of(versions.folder / name)
        else:
            build = Build.own()
            refuse_schema(args.root, build.release.version, build.release.schema)
            name = versions.lay(build)
        versions.switch(name)
        for line in machine.set_up(build):
            print(f"note: {line}")
        if machine.is_running and not args.no_start:
            start(versions, machine, name, was)
    print(
        f"{name} is installed and was in use before" if was == name else f"{name} is installed" + (f"; before it was {was}" if was else "")
    )
    if not (args.root / CONFIG).exists():
        print("make this machine a node with: pinnace join --cloudcore-ipport HOST:10000 --token TOKEN")
    return 0


def start(versions: Versions, machine: Machine, name: str, was: str) -> None:
    """Let systemd run `name`. Where that does not come up and `was` ran until now, `was` is in use again. Raises PinnaceError."""
    from pinnace.core.install.build import Build
    from pinnace.core.meta.database import written_schema

    ran = machine.runs_edge
    try:
        machine.start(is_new=was != name)
    except PinnaceError as error:
        if not ran or was in ("", name):
            raise
        if written_schema(database(versions.root)) > versions.release(was).schema:
            raise PinnaceError(f"{error}; {was} could not read the database any more, so {name} stays in use") from error
        versions.give_way(was)
        machine.set_up(Build.of(versions.folder / was))
        machine.start(is_new=True)
        raise PinnaceError(f"{name} does not come up, so {was} is in use again: {error}") from error


def database(root: Path) -> Path:
    """Where the node's database is, or would be."""
    from pinnace.core.base.settings.loader import load
    from pinnace.core.settings import DatabaseSettings, EdgeCoreSettings

    try:
        place = load(root / CONFIG, EdgeCoreSettings).database.data_source if (root / CONFIG).exists() else DatabaseSettings().data_source
    except ConfigError:  # the edge will say so; an upgrade may be what mends it
        place = DatabaseSettings().data_source
    return place if place.is_relative_to(root) else root / place.relative_to("/")


def refuse_schema(root: Path, version: str, schema: int) -> None:
    """Raises RefusedError when that version could not read the database."""
    from pinnace.core.meta.database import written_schema

    path = database(root)
    found = written_schema(path)
    if found > schema:
        raise RefusedError(
            f"{path} was written by a newer Pinnace (schema {found}) and {version} reads only up to schema {schema}; nothing was changed. "
            "Install a newer version, or stop being a node first (pinnace reset)"
        )
