"""Report what processes of Pinnace really use: PSS, RSS and USS from /proc/PID/smaps_rollup, in MB (10^6 bytes).

Without `--pid`, all running processes of Pinnace, what supervises containers and every mosquitto are listed; what runs in containers is
not. PSS counts a page shared by n processes as 1/n, so the sum over the processes of a node is what the node would free."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

SUMMARY = "memory of the running processes"

PROC = Path("/proc")
_BESIDE = frozenset({"mosquitto", "pinnace-shim"})


@dataclass(frozen=True, slots=True)
class Memory:
    """One process; sizes in bytes."""

    pid: int
    name: str
    pss: int
    rss: int
    uss: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pid", type=int, action="append", default=[], help="only this process (may be repeated)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")


def read(pid: int) -> Memory:
    """The memory of one process. Raises OSError when it is gone or not ours to read."""
    fields: dict[str, int] = {}
    for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines()[1:]:
        key, _, rest = line.partition(":")
        fields[key] = int(rest.split()[0]) * 1024
    return Memory(pid, name_of(pid), fields["Pss"], fields["Rss"], fields["Private_Clean"] + fields["Private_Dirty"])


def name_of(pid: int) -> str:
    """What the process is called: the sub-command for ours, the program for what supervises containers and for the broker, "" for
    everything that is not of a node."""
    words = [each.decode(errors="replace") for each in (PROC / str(pid) / "cmdline").read_bytes().split(b"\0") if each]
    if not words:
        return ""
    programs = [Path(each).name for each in words[:4]]
    for position, word in enumerate(words[:4]):
        is_ours = programs[position] == "pinnace" or word == "pinnace.core.base.cli"
        if is_ours and position + 1 < len(words) and not words[position + 1].startswith("-"):
            return " ".join(["pinnace", *(each for each in words[position + 1 : position + 3] if not each.startswith("-"))])
    return programs[0] if programs[0] in _BESIDE else ""


def running() -> list[int]:
    """Process ids of everything of a node except this process."""
    import os

    found = []
    for entry in PROC.iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            name = name_of(int(entry.name))
        except OSError:
            continue
        if name:
            found.append(int(entry.name))
    return sorted(found)


def run(args: argparse.Namespace) -> int:
    rows: list[Memory] = []
    for pid in args.pid or running():
        try:
            rows.append(read(pid))
        except OSError as error:
            print(f"pinnace footprint: process {pid}: {error.strerror}", file=sys.stderr)
            if args.pid:
                return 1
    if args.json:
        import orjson

        total = sum(each.pss for each in rows)
        print(orjson.dumps({"processes": [_entry(each) for each in rows], "pss_bytes": total}).decode())
        return 0
    print(f"{'PID':>8}  {'PSS MB':>7}  {'RSS MB':>7}  {'USS MB':>7}  PROCESS")
    for each in rows:
        print(f"{each.pid:>8}  {each.pss / 1e6:>7.1f}  {each.rss / 1e6:>7.1f}  {each.uss / 1e6:>7.1f}  {each.name}")
    print(f"{'sum':>8}  {sum(each.pss for each in rows) / 1e6:>7.1f}")
    return 0


def _entry(memory: Memory) -> dict[str, object]:
    return {
        "pid": memory.pid,
        "name": memory.name,
        "pss_bytes": memory.pss,
        "rss_bytes": memory.rss,
        "uss_bytes": memory.uss,
    }
