"""End everything that `pinnace up` started on this machine. Data stays; --purge removes it as well."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from pinnace.core.base.errors import ConfigError, PinnaceError

SUMMARY = "end what `up` started"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from pinnace.cloud.local.places import default_folder

    parser.add_argument("--dir", type=Path, default=default_folder(), metavar="DIR", help="the folder given to `up` (%(default)s)")
    parser.add_argument("--purge", action="store_true", help="remove data, logs, certificates and kubeconfig too")


def run(args: argparse.Namespace) -> int:
    from pinnace.cloud.local import pods
    from pinnace.cloud.local import record as records
    from pinnace.cloud.local.places import Places

    places = Places(args.dir.absolute())
    record = records.read(places.record)
    if record is None or not record.alive:
        print("nothing runs")
    else:
        ended = record.alive
        left = records.end(record)
        if left:
            raise PinnaceError("these do not end: " + ", ".join(f"{each.name} {each.pid}" for each in left))
        print("ended " + ", ".join(f"{each.name} {each.pid}" for each in ended))
        places.record.unlink(missing_ok=True)
    pods.end(places)  # an `up` that was killed could not
    if args.purge and places.folder.exists():
        if not places.lock.exists():
            raise ConfigError(f"--purge: {places.folder} does not look like a folder of `pinnace up`; remove it yourself")
        for each in (places.data, places.logs, places.config):
            shutil.rmtree(each, ignore_errors=True)
        for each in (places.kubeconfig, places.lock):
            each.unlink(missing_ok=True)
        print(f"removed what was kept in {places.folder}")
    return 0
