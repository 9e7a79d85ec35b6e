"""The store and the outbox: durable applies, reports through the outbox and bytes per object, beside plain sqlite3 in the same run.

    python tests/bench/store_outbox.py [--json FILE] [--folder FOLDER]

`--folder` chooses the disk; what a commit costs is the disk's doing, so only the ratios travel between machines.
"""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rig.figures import arguments, percentiles, report

from pinnace.core.base.contract import envelopes
from pinnace.core.base.contract.classes import TWIN_REPORT, USER_DATA
from pinnace.core.base.contract.keys import ResourceKey
from pinnace.core.base.ports import ObjectChange
from pinnace.core.meta.store import Store
from pinnace.ext.records import Envelope

COMMITS = 300
AT_ONCE = 64
REPORTS = 20_000
PROPERTIES = 50
NAIVE = 300
BODY = b'{"metadata":{"name":"c","labels":{"app":"x"}},"data":"' + b"x" * 940 + b'"}'
VALUE = b'{"value":"21.5","metadata":{"timestamp":1760000000000}}'


def change(number: int, version: int) -> ObjectChange:
    return ObjectChange("update", ResourceKey("configmap", "default", f"c{number}"), str(version), BODY)


def compose(subject: str, items: Mapping[str, bytes]) -> Envelope:
    body = b'{"twin":{' + b",".join(b'"%s":%s' % (name.encode(), value) for name, value in items.items()) + b"}}"
    return envelopes.new("twin", "twin", "update", subject, body)


def plain(path: Path, journal: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA journal_mode={journal}")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, type TEXT, value BLOB)")
    return connection


def naive_commits(path: Path) -> dict[str, Any]:
    """A row a transaction, as KubeEdge's store does it (rollback journal), and the same with a write-ahead log."""
    found: dict[str, Any] = {}
    for journal in ("delete", "wal"):
        with closing(plain(path.with_name(f"naive-{journal}.db"), journal)) as connection:
            times = []
            for number in range(NAIVE):
                begun = time.perf_counter()
                connection.execute("INSERT OR REPLACE INTO meta VALUES (?, 'configmap', ?)", (f"c{number % 50}", BODY))
                times.append(time.perf_counter() - begun)
            found[f"naive_{journal}"] = {"commits_per_second": round(NAIVE / sum(times)), **percentiles(times)}
    return found


async def applies(store: Store) -> dict[str, Any]:
    times = []
    for number in range(COMMITS):
        begun = time.perf_counter()
        await store.apply([change(number % 50, number)])
        times.append(time.perf_counter() - begun)

    async def worker(number: int) -> None:
        for version in range(COMMITS // 10):
            await store.apply([change(number, version)])

    begun = time.perf_counter()
    await asyncio.gather(*(worker(number) for number in range(AT_ONCE)))
    together = AT_ONCE * (COMMITS // 10) / (time.perf_counter() - begun)
    return {
        "apply": {"commits_per_second": round(COMMITS / sum(times)), **percentiles(times)},
        f"apply_{AT_ONCE}_at_once": {"changes_per_second": round(together)},
    }


async def reports(store: Store, path: Path) -> dict[str, Any]:
    """Reports of 50 properties, confirmed by a cloud that answers after every 20th; then the same with one transaction a report."""
    outbox = store.outbox
    outbox.compose_with(TWIN_REPORT, compose)
    outbox.compose_with(USER_DATA, compose)
    envelopes_sent = 0
    begun = time.perf_counter()
    for number in range(REPORTS):
        outbox.put(TWIN_REPORT, "lamp", f"p{number % PROPERTIES}", b'{"value":"%d"}' % number)
        if number % 20 == 19:
            if (departure := outbox.next(0.0)) is not None:
                envelopes_sent += 1
                outbox.confirm(departure.envelope.msg_id)
            await asyncio.sleep(0)
    await store.committed()
    spent = time.perf_counter() - begun
    with closing(plain(path.with_name("naive-outbox.db"), "wal")) as connection:
        naive = time.perf_counter()
        for number in range(NAIVE):
            connection.execute("INSERT INTO meta VALUES (?, 'report', ?)", (str(number), VALUE))
            connection.execute("DELETE FROM meta WHERE key = ?", (str(number),))
        naive_rate = NAIVE / (time.perf_counter() - naive)

    def offers(count: int) -> float:
        for number in range(count):
            outbox.put(USER_DATA, str(number), "topic", VALUE)
        first = time.perf_counter()
        for _ in range(count):
            departure = outbox.next(0.0)
            assert departure is not None
            outbox.confirm(departure.envelope.msg_id)
        return (time.perf_counter() - first) / count * 1e6

    return {
        "reports_per_second": round(REPORTS / spent),
        "reports_per_envelope": round(REPORTS / max(envelopes_sent, 1), 1),
        "naive_reports_per_second": round(naive_rate),
        "reports_ratio": round(REPORTS / spent / naive_rate, 1),
        "next_and_confirm_us_of_100_waiting": round(offers(100), 2),
        "next_and_confirm_us_of_10000_waiting": round(offers(10_000), 2),
    }


def traced() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


async def memory(path: Path) -> dict[str, Any]:
    """Python's own bytes: a store opened on 1000 objects of 1 KB, and 10000 user messages that wait for the cloud."""
    async with Store(path) as store:
        await store.apply([change(number, 1) for number in range(1000)])
    tracemalloc.start()
    begin = traced()
    async with Store(path) as store:
        opened = traced()
        for number in range(10_000):
            store.outbox.put(USER_DATA, str(number), "topic", bytes(bytearray(VALUE)))
        put = traced()
        await store.committed()
        committed = traced()
    tracemalloc.stop()
    return {
        "bytes_per_1kb_object": round((opened - begin) / 1000),
        "bytes_per_message_before_commit": round((put - opened) / 10_000),
        "bytes_per_message_waiting": round((committed - opened) / 10_000),
    }


async def measure(folder: Path) -> dict[str, Any]:
    path = folder / "edge.db"
    async with Store(path) as store:
        found = {**await applies(store), **await reports(store, path)}
    found |= naive_commits(path)
    found["apply_ratio_to_naive_delete"] = round(found["apply"]["commits_per_second"] / found["naive_delete"]["commits_per_second"], 2)
    found["apply_ratio_to_naive_wal"] = round(found["apply"]["commits_per_second"] / found["naive_wal"]["commits_per_second"], 2)
    return found | await memory(folder / "memory.db")


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        figures = uvloop.run(measure(Path(folder)))
    return report(figures, args.json)


if __name__ == "__main__":
    sys.exit(main())
