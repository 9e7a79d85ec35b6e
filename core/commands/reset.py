"""End every pod of this node: its containers, mounts, networks and cgroups. The edge itself must not run.

With --pods-only that is all. Otherwise the machine stops being a node as well: database, certificates and configuration are removed; images
and logs stay. The Node object stays in the cloud until somebody deletes it there.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pinnace.core.base.errors import ConfigError, PinnaceError, RefusedError
from pinnace.core.base.observe import logs

if TYPE_CHECKING:
    from pinnace.core.base.settings.edged import EdgedSettings
    from pinnace.core.settings import EdgeCoreSettings

SUMMARY = "end all pods; stop being a node"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, default=Path("/etc/kubeedge/config/edgecore.yaml"), metavar="PATH", help="edgecore.yaml (%(default)s)"
    )
    parser.add_argument("--pods-only", action="store_true", help="go on being a node")
    parser.add_argument("--force", action="store_true", help="do not ask")
    parser.add_argument("--log-level", default="warning", choices=["debug", "info", "warning", "error"], help="%(default)s")


def run(args: argparse.Namespace) -> int:
    from pinnace.core.base.settings.loader import load
    from pinnace.core.settings import EdgeCoreSettings

    logs.configure(args.log_level)
    if not args.config.exists():
        raise ConfigError(f"{args.config} is not there: this machine is no node, or --config names its file")
    settings = load(args.config, EdgeCoreSettings)
    with _locked(settings.database.data_source):
        return _reset(settings, args)


def _reset(settings: EdgeCoreSettings, args: argparse.Namespace) -> int:
    if not args.pods_only and not args.force and not agreed(f"end all pods of {settings.node} and remove its database and certificates?"):
        print("nothing was changed")
        return 1
    ended = 0
    if settings.modules.edged.enable:
        if os.geteuid() != 0:
            raise ConfigError("ending pods needs root")
        ended = asyncio.run(_end_pods(settings))
    print(f"ended {ended} pod{'s' * (ended != 1)}")
    if not args.pods_only:
        for each in node_files(settings, args.config):
            each.unlink(missing_ok=True)
        print(f"{settings.node} is no node any more; delete it in the cloud as well: kubectl delete node {settings.node}")
    return 0


@contextlib.contextmanager
def _locked(database: Path) -> Iterator[None]:
    """The edge holds a lock beside its database for as long as it lives; meanwhile it cannot start."""
    lock = database.with_name(database.name + ".lock")
    if not lock.exists():
        yield
        return
    with lock.open("r+") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RefusedError("the edge is running; stop it first (systemctl stop pinnace-edge, or end pinnace edgecore)") from error
        yield


def agreed(question: str) -> bool:
    """What the person at the terminal says. Raises ConfigError when there is none."""
    try:
        return input(f"{question} (yes/no) ").strip().lower() in ("y", "yes")
    except EOFError:
        raise ConfigError("there is nobody to ask; add --force") from None


async def _end_pods(settings: EdgeCoreSettings) -> int:
    """Raises PinnaceError when something cannot be ended."""
    from pinnace.core.pods.host import runtime_of

    edged = settings.modules.edged
    problems: list[str] = []
    runtime = runtime_of(edged)
    await runtime.start()
    try:
        state = await runtime.state()
        if state.problem:
            raise PinnaceError(f"the container runtime cannot be used: {state.problem}")
        sandboxes = await runtime.sandboxes()
        for each in sandboxes:
            try:
                await runtime.stop_sandbox(each.id)
                await runtime.remove_sandbox(each.id)
            except PinnaceError as error:
                problems.append(f"pod {each.namespace}/{each.name}: {error}")
    finally:
        await runtime.close()
    problems += await clear_folders(edged)
    await _clear_cgroups(edged)
    if problems:
        raise PinnaceError(f"not all is gone: {'; '.join(problems)}; see what holds it, then do this again")
    return len({each.uid for each in sandboxes})


async def clear_folders(edged: EdgedSettings) -> list[str]:
    """Remove volumes and mounts; what could not be removed, and why."""
    from pinnace.core.base.aio.aside import Aside
    from pinnace.core.pods.material.cleaning import clean
    from pinnace.core.pods.material.folders import PodFolders
    from pinnace.core.pods.material.mounts import Mounts
    from pinnace.core.pods.material.remote import RemoteVolumes

    problems = []
    folders, mounts = PodFolders(edged.root_directory, edged.pod_logs_dir), Mounts()
    remote = RemoteVolumes(folders, mounts, Aside())
    for uid in folders.uids():
        await remote.unmount(uid)  # a server may be away: nobody waits for it but a child process
        try:
            clean(folders, mounts, uid)
        except OSError as error:
            problems.append(f"volumes of pod {uid}: {error.strerror}: {error.filename}")
    for point in reversed(mounts.points(edged.builtin_runtime.run_dir)):
        try:
            mounts.unmount(point)
        except OSError as error:
            problems.append(f"{point}: {error.strerror}")
    return problems


async def _clear_cgroups(edged: EdgedSettings) -> None:
    from pinnace.core.pods.upkeep.cgroups import PodCgroups

    cgroups = PodCgroups(edged.tailored_kubelet_config, room={})
    for uid in cgroups.leftovers():
        await cgroups.remove(uid)
    await cgroups.dissolve()


def node_files(settings: EdgeCoreSettings, config: Path) -> list[Path]:
    """What makes this machine a node: database, certificates, configuration."""
    from pinnace.core.meta.database import files_of

    hub = settings.modules.edge_hub
    return [*files_of(settings.database.data_source), hub.tls_ca_file, hub.tls_cert_file, hub.tls_private_key_file, config]
