"""Take Pinnace off this machine: its versions, units and command; pods are ended first. Configuration and data stay, for another time.

With --purge they go as well, also some time later: the node's database, certificates, configuration, images, volumes and logs. The Node
object stays in the cloud until somebody deletes it there. With --root an image's files are removed and nothing is stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
from pathlib import Path

from pinnace.core.base.cli import command_line
from pinnace.core.base.errors import ConfigError, PinnaceError
from pinnace.core.base.folders import remove
from pinnace.core.commands.install import CONFIG, database

SUMMARY = "take Pinnace off this machine"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", type=Path, default=Path("/"), metavar="DIR", help="the root of the machine or image (%(default)s)")
    parser.add_argument("--purge", action="store_true", help="remove configuration and data as well")
    parser.add_argument("--force", action="store_true", help="do not ask")


def run(args: argparse.Namespace) -> int:
    from pinnace.core.commands.reset import agreed
    from pinnace.core.install.machine import Machine
    from pinnace.core.install.versions import Versions

    versions, machine = Versions(args.root), Machine(args.root)
    # By our database a machine is known that was a node of ours: what lies in the other places may be a kubelet's.
    if not versions.folder.is_dir() and not (args.purge and database(args.root).exists()):
        raise ConfigError(f"{versions.folder} is not there: nothing is installed")
    if args.purge and not args.force and not agreed("remove configuration, database, images, volumes and logs of this node?"):
        print("nothing was changed")
        return 1
    goners = belongings(args.root) if args.purge else []
    with versions.locked():
        if machine.is_running:
            machine.stop()
        if args.root == Path("/") and os.geteuid() == 0 and (args.root / CONFIG).exists():
            _reset("--force" if args.purge else "--pods-only")
        # While there is still a program to do it again with, should it be cut here.
        if problems := list(filter(None, map(_remove, goners))):
            raise PinnaceError(f"not all is gone: {'; '.join(problems)}; see what holds it, then do this again")
        machine.tear_down()
        versions.remove()
    print("Pinnace is uninstalled" + ("" if args.purge else "; configuration and data stay (/etc/kubeedge, /etc/pinnace, /var/lib)"))
    return 0


def belongings(root: Path) -> list[Path]:
    """What --purge removes, as the configuration names it: the node's files, and folders that are nobody else's."""
    from pinnace.core.base.settings.loader import load
    from pinnace.core.commands.reset import node_files
    from pinnace.core.meta.database import files_of
    from pinnace.core.settings import EdgeCoreSettings

    config = root / CONFIG
    settings = load(config, EdgeCoreSettings) if config.exists() else EdgeCoreSettings()
    edged = settings.modules.edged
    broker = Path("var/lib/pinnace-mosquitto"), Path("var/lib/private/pinnace-mosquitto")
    runtime = edged.builtin_runtime.root_dir, edged.builtin_runtime.run_dir
    folders = [edged.root_directory, edged.pod_logs_dir, *runtime, database(root).with_name("mosquitto")]
    files = [*node_files(settings, config), edged.control_socket, *files_of(database(root))]
    places = [each if each.is_relative_to(root) else root / each.relative_to("/") for each in (*folders, *files)]
    return [*places, *(root / each for each in broker), root / "etc/pinnace"]


def _remove(place: Path) -> str:
    """A file with the folders above it that are empty then, or a folder with what is in it; what stays, and why. Nothing that is mounted
    in a folder is touched: it is a volume, or somebody else's."""
    try:
        if place.is_dir() and not place.is_symlink():
            remove(place)
            return ""
        place.unlink(missing_ok=True)
    except OSError as error:
        return f"{place}: {error.filename or ''} {error.strerror}"
    with contextlib.suppress(OSError):
        place.parent.rmdir()
        place.parent.parent.rmdir()
    return ""


def _reset(flag: str) -> None:
    done = subprocess.run(command_line("reset", flag), capture_output=True, text=True, check=False)
    if done.returncode:
        raise PinnaceError(f"the pods of this node cannot be ended, so it stays installed: {done.stderr.strip() or done.stdout.strip()}")
