"""User messages for nodes, on disk until they were written to the node's connection: the one class the API does not hold for us.

One SQLite file, one thread. At the bound of a node the oldest message goes, counted and logged. A damaged file is set aside.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from pinnace.core.base.contract.classes import USER_DATA
from pinnace.core.base.contract.keys import NodeName
from pinnace.core.base.errors import StoreError, StoreFull
from pinnace.ext import envelope as codec
from pinnace.ext.errors import EnvelopeError
from pinnace.ext.records import Envelope

logger = logging.getLogger(__name__)
T = TypeVar("T")

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS user_message (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    node TEXT NOT NULL,
    envelope BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS user_message_by_node ON user_message (node, seq);
"""
_UNWRITTEN: Final = 10_000
"""Calls that may wait for the disk."""


class Outbox:
    """`open` first. Every call may raise StoreError; `put` raises StoreFull when the disk is full or too slow."""

    def __init__(self, path: Path, *, bound: int = USER_DATA.bound) -> None:
        self._path = path
        self._bound = bound
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hub-outbox")
        self._database: sqlite3.Connection | None = None
        self._waiting = 0

    async def open(self) -> None:
        await self._do(self._open)

    async def close(self) -> None:
        await self._do(self._close)
        self._thread.shutdown(wait=False)

    async def put(self, node: NodeName, envelope: Envelope) -> None:
        """Store a message; it is durable when this returns. Calls are carried out in the order in which they were started."""
        if self._waiting >= _UNWRITTEN:
            raise StoreFull(f"{self._path}: {self._waiting} messages wait for the disk")
        data = codec.encode(envelope)
        await self._do(lambda: self._put(node, data))

    async def pending(self, node: NodeName, *, after: int = 0, limit: int = 64) -> list[tuple[int, Envelope]]:
        """The oldest messages of a node behind sequence number `after`."""
        return await self._do(lambda: self._pending(node, after, limit))

    async def forget(self, numbers: Collection[int]) -> None:
        await self._do(lambda: self._forget(list(numbers)))

    async def _do(self, call: Callable[[], T]) -> T:
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, call)
        except sqlite3.Error as error:
            if "full" in str(error):
                raise StoreFull(f"{self._path}: {error}; free some space") from error
            raise StoreError(f"{self._path}: {error}") from error
        finally:
            self._waiting -= 1

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._connect()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            aside = self._path.with_name(f"{self._path.name}.damaged-{int(time.time())}")
            logger.warning("hub.outbox.damaged file=%s error=%s: set aside as %s, starting an empty one", self._path, error, aside)
            self._close()
            for suffix in ("", "-wal", "-shm"):
                part = self._path.with_name(self._path.name + suffix)
                if part.exists():
                    part.rename(aside.with_name(aside.name + suffix))
            self._connect()

    def _connect(self) -> None:
        database = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        self._database = database
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(str(verdict))
        database.executescript(_SCHEMA)

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    @property
    def _open_database(self) -> sqlite3.Connection:
        if self._database is None:
            raise StoreError(f"{self._path}: the outbox is not open")
        return self._database

    def _put(self, node: str, data: bytes) -> None:
        database = self._open_database
        database.execute("BEGIN IMMEDIATE")
        try:
            database.execute("INSERT INTO user_message (node, envelope) VALUES (?, ?)", (node, data))
            spare = "SELECT seq FROM user_message WHERE node = ? ORDER BY seq DESC LIMIT -1 OFFSET ?"
            dropped = database.execute(f"DELETE FROM user_message WHERE seq IN ({spare})", (node, self._bound)).rowcount  # noqa: S608
            database.execute("COMMIT")
        except sqlite3.Error:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise
        if dropped:
            logger.warning("hub.outbox.full node=%s bound=%d: the oldest message goes", node, self._bound)

    def _pending(self, node: str, after: int, limit: int) -> list[tuple[int, Envelope]]:
        query = "SELECT seq, envelope FROM user_message WHERE node = ? AND seq > ? ORDER BY seq LIMIT ?"
        found: list[tuple[int, Envelope]] = []
        for seq, data in self._open_database.execute(query, (node, after, limit)).fetchall():
            try:
                found.append((seq, codec.decode(data)))
            except EnvelopeError as error:
                logger.warning("hub.outbox.unreadable node=%s seq=%d error=%s: removed", node, seq, error)
                self._forget([seq])
        return found

    def _forget(self, numbers: list[int]) -> None:
        marks = ",".join("?" * len(numbers))
        self._open_database.execute(f"DELETE FROM user_message WHERE seq IN ({marks})", numbers)  # noqa: S608 - marks only
