"""The SQLite file: order, sharing of commits, failures, and what a damaged file says."""

from __future__ import annotations

import queue
import sqlite3
from pathlib import Path

import pytest

from pinnace.cloud.standalone.store import Put, Row, Store
from pinnace.core.base.errors import ConfigError, StoreDamaged, StoreError, StoreFull

Counted = tuple[int, StoreError | None]


class Ledger:
    """Collects what the writer thread reports."""

    def __init__(self) -> None:
        self.reports: queue.SimpleQueue[Counted] = queue.SimpleQueue()

    def __call__(self, count: int, failure: StoreError | None) -> None:
        self.reports.put((count, failure))

    def wait(self, count: int) -> list[StoreError | None]:
        failures: list[StoreError | None] = []
        while len(failures) < count:
            number, failure = self.reports.get(timeout=20)
            failures += [failure] * number
        return failures


def put(version: int, name: str = "a", body: bytes | None = b"{}") -> Put:
    return Put("configmaps", "default", name, version, body)


def test_rows_and_versions_come_back(tmp_path: Path) -> None:
    ledger = Ledger()
    store = Store(tmp_path)
    assert store.load()[0] == 0
    store.start(ledger)
    for version in range(1, 501):
        store.submit(put(version, f"n{version % 7}", b'{"v":%d}' % version))
    store.submit(put(501, "n0", None))
    assert ledger.wait(501) == [None] * 501
    store.close()
    again = Store(tmp_path)
    last, rows = again.load()
    kept = sorted(rows)
    assert last == 501
    assert [row.name for row in kept] == [f"n{index}" for index in range(1, 7)]
    assert kept[2] == Row("configmaps", "default", "n3", 500, b'{"v":500}')
    again.close()


def test_closing_writes_what_waits(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.start(lambda count, failure: None)
    for version in range(1, 1001):
        store.submit(put(version, f"n{version}"))
    store.close()
    again = Store(tmp_path)
    assert len(list(again.load()[1])) == 1000
    again.close()


def test_a_full_disk_fails_and_recovers(tmp_path: Path) -> None:
    ledger = Ledger()
    store = Store(tmp_path)
    connection = store._connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count={pages + 2}")
    store.start(ledger)
    store.submit(put(1, body=b"x" * 100_000))
    (failure,) = ledger.wait(1)
    assert isinstance(failure, StoreFull)
    assert "make room" in str(failure)
    store.submit(put(2, body=b"small"))
    assert isinstance(ledger.wait(1)[0], StoreFull), "what follows a failure fails too, until recover"
    store.recover()
    store.submit(put(3, body=b"small"))
    assert ledger.wait(1) == [None]
    store.close()


@pytest.mark.parametrize("damage", ["head", "middle"])
def test_damage_is_said_and_not_repaired(tmp_path: Path, damage: str) -> None:
    store = Store(tmp_path)
    ledger = Ledger()
    store.start(ledger)
    for version in range(1, 200):
        store.submit(put(version, f"n{version}", b"x" * 500))
    ledger.wait(199)
    store.close()
    path = tmp_path / "api.db"
    content = bytearray(path.read_bytes())
    if damage == "head":
        content[:16] = b"not a database!!"
    else:
        content[4096:8192] = b"\xff" * 4096
    path.write_bytes(content)
    with pytest.raises(StoreDamaged) as said:
        Store(tmp_path)
    assert str(path) in str(said.value)
    assert path.read_bytes() == content


def test_another_programs_file_is_left_alone(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "api.db")
    other.execute("CREATE TABLE t (x)")
    other.close()
    with pytest.raises(StoreDamaged, match="not this program's"):
        Store(tmp_path)


def test_a_folder_has_one_server(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(ConfigError, match="another API server"):
        Store(tmp_path)
    store.close()
    Store(tmp_path).close()
