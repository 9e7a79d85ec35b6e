"""The SQLite file behind the API: one writer thread, several writes in one commit, an answer only after the commit."""

from __future__ import annotations

import fcntl
import logging
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from pinnace.core.base.errors import ConfigError, StoreDamaged, StoreError, StoreFull

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
APPLICATION_ID = 0x50494E41
MAX_BATCH = 256
CHECKPOINT_PAGES = 2048
IDLE_SECONDS = 2.0


class Row(NamedTuple):
    """One stored object: resource (`pods`, `devices.devices.kubeedge.io`), namespace ("" at cluster scope), name, version and JSON."""

    resource: str
    namespace: str
    name: str
    version: int
    body: bytes


class Put(NamedTuple):
    """A row to write, or to delete when `body` is None."""

    resource: str
    namespace: str
    name: str
    version: int
    body: bytes | None


Committed = Callable[[int, StoreError | None], None]
"""Called in the writer thread: the next so many submitted writes are on disk, or are not, for this reason."""


def translated(error: sqlite3.Error, path: Path) -> StoreError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY}:
        return StoreFull(f"{path}: {error}; make room or make the file system writable, nothing was changed")
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return StoreDamaged(f"{path} is damaged ({error}); restore it from a copy, or move it away to start with an empty API")
    return StoreError(f"{path}: {error}")


class Store:
    """Rows on disk. `submit` may be called from one thread only (the event loop's); `close` writes what was submitted and ends.

    After a failed commit everything submitted fails too, since it may build on what was lost, until `recover` is called.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "api.db"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise ConfigError(f"--data-dir {folder}: another API server is running there; stop it or choose another folder") from error
        try:
            self._connection = self._opened()
        except sqlite3.Error as error:
            os.close(self._lock)
            raise translated(error, self._path) from error
        except StoreError:
            os.close(self._lock)
            raise
        self._queue: queue.SimpleQueue[Put | None] = queue.SimpleQueue()
        self._committed: Committed = lambda count, failure: None
        self._failure: StoreError | None = None
        self._thread = threading.Thread(target=self._write, name="api-store", daemon=True)
        self._is_running = False

    def _opened(self) -> sqlite3.Connection:
        is_new = not self._path.exists()
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        if is_new:
            self._path.chmod(0o600)
        # FULL: the log is synced at every commit, so that what was answered survives a power cut. Commits are shared by waiting writes.
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("PRAGMA busy_timeout=2000")
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise StoreDamaged(f"{self._path} is damaged ({found}); restore it from a copy, or move it away to start with an empty API")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0 and not connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
            schema = files(__package__).joinpath("schema.sql").read_text()
            stamp = f"PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={SCHEMA_VERSION}; COMMIT;"
            connection.executescript("BEGIN IMMEDIATE;" + schema + stamp)
        elif version != SCHEMA_VERSION or connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise StoreDamaged(f"{self._path}: schema {version} is not this program's ({SCHEMA_VERSION}); use the version that wrote it")
        return connection

    def load(self) -> tuple[int, Iterator[Row]]:
        """The last resource version given out, and every row. Call before `start`."""
        last = self._connection.execute("SELECT value FROM counters WHERE name='resource_version'").fetchone()[0]
        return last, map(Row._make, self._connection.execute("SELECT resource, namespace, name, version, body FROM objects"))

    def start(self, committed: Committed) -> None:
        self._committed = committed
        self._is_running = True
        self._thread.start()

    def submit(self, put: Put) -> None:
        """Write this; `committed` counts it exactly once, in the order of submission."""
        self._queue.put(put)

    def recover(self) -> None:
        """Try again after a failed commit. Call when nothing is waiting any more."""
        self._failure = None

    def close(self) -> None:
        if self._is_running:
            self._is_running = False
            self._queue.put(None)
            self._thread.join()
        self._connection.close()
        os.close(self._lock)

    def _write(self) -> None:
        """The writer thread: everything that waits goes into one transaction."""
        is_open = True
        is_dirty = False
        while is_open:
            try:
                first = self._queue.get(timeout=IDLE_SECONDS if is_dirty else None)
            except queue.Empty:
                self._checkpoint()
                is_dirty = False
                continue
            if first is None:
                break
            batch = [first]
            while len(batch) < MAX_BATCH:
                try:
                    following = self._queue.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    is_open = False
                    break
                batch.append(following)
            if self._failure is None:
                self._failure = self._commit(batch)
                is_dirty = True
            self._committed(len(batch), self._failure)
            if self._log_pages() > CHECKPOINT_PAGES:
                self._checkpoint()
        self._checkpoint()

    def _commit(self, puts: Sequence[Put]) -> StoreError | None:
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            for put in puts:
                if put.body is None:
                    connection.execute("DELETE FROM objects WHERE resource=? AND namespace=? AND name=?", put[:3])
                else:
                    connection.execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?)", put)
            connection.execute("UPDATE counters SET value=? WHERE name='resource_version'", (puts[-1].version,))
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            failure = translated(error, self._path)
            logger.error("api.store.failed writes=%d error=%s", len(puts), failure)  # noqa: TRY400 - the reason says it all
            if connection.in_transaction:
                try:
                    connection.execute("ROLLBACK")
                except sqlite3.Error as second:
                    logger.error("api.store.rollback_failed error=%s", second)  # noqa: TRY400
            return failure
        return None

    def _log_pages(self) -> int:
        try:
            return self._path.with_name("api.db-wal").stat().st_size // 4096
        except OSError:
            return 0

    def _checkpoint(self) -> None:
        try:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            logger.warning("api.store.checkpoint_failed error=%s", error)
