"""A mapper whose device is a file: every value written to a property is appended, and what was written last is what it reads.

`python echo_mapper.py --broker tcp://127.0.0.1:PORT --device NAME --file PATH --properties red,green [--ready-fd FD]`
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from pinnace.core.base.observe import logs
from pinnace.mappers.sdk import Broker, Device, serve


class Ledger:
    """Lines `<property> <value>`, each on disk before the write counts as done."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_RDWR, 0o600)
        self._values = dict(line.split(" ", 1) for line in path.read_text().splitlines())

    def write(self, name: str, value: str) -> None:
        os.write(self._file, f"{name} {value}\n".encode())
        self._values[name] = value

    def read(self, name: str) -> str:
        return self._values.get(name, "none")


def declare(device: Device, ledger: Ledger, name: str) -> None:
    @device.writes(name, str, quick=True)
    def write(value: str) -> None:
        ledger.write(name, value)

    @device.reads(name, str, quick=True)
    def read() -> str:
        return ledger.read(name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--broker", required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--properties", required=True)
    parser.add_argument("--ready-fd", type=int)
    args = parser.parse_args()
    logs.configure("info")
    ledger = Ledger(args.file)
    device = Device(args.device, "default")
    for name in args.properties.split(","):
        declare(device, ledger, name)
    serve(device, Broker.parse(args.broker), ready_fd=args.ready_fd)


if __name__ == "__main__":
    main()
