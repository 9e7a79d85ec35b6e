"""The SQLite file: opening, checking, migrating, setting aside what is damaged. Blocking; used by the store's thread only."""

from __future__ import annotations

import logging
import os
import pkgutil
import shutil
import sqlite3
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from pinnace.core.base.errors import PinnaceError, StoreDamaged, StoreError, StoreFull

logger = logging.getLogger(__name__)

SCHEMA: Final = 1
"""The newest schema/v<number>.sql."""
KEPT_DAMAGED: Final = 3
"""Damaged files kept for examination; the oldest goes."""
Statement = tuple[str, tuple[Any, ...]]

_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_FULL: Final = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM})
_PARTS: Final = ("", "-wal", "-shm")


def translate(error: sqlite3.Error, path: Path) -> PinnaceError:
    """SQLite's error in Pinnace's words."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _DAMAGED:
        return StoreDamaged(f"{path} is damaged: {error}; restart pinnace edgecore, which sets it aside and takes the last good snapshot")
    if code == sqlite3.SQLITE_FULL:
        return StoreFull(f"{path}: no space left on the disk; free some, nothing of what is stored is lost")
    if code in _FULL:
        return StoreFull(f"{path} cannot be written ({error}); make its folder and file system writable")
    if code == sqlite3.SQLITE_IOERR:
        return StoreFull(f"{path}: reading or writing failed ({error}); look at the disk")
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return StoreError(f"{path} is in use by another process; is another pinnace edgecore running?")
    return StoreError(f"{path}: {error}")


class Database:
    """One open database. Raises the exceptions of `translate`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.writable = False
        self._connection: sqlite3.Connection | None = None

    @property
    def snapshot_path(self) -> Path:
        return self.path.with_name(self.path.name + ".snapshot")

    def damaged_files(self) -> list[Path]:
        """Files set aside, oldest first."""
        found = self.path.parent.glob(self.path.name + ".damaged-*")
        return sorted(each for each in found if not each.name.endswith(_PARTS[1:]))

    def open(self) -> str:
        """Open for writing, restoring the last good snapshot if the file is damaged; read-only when nothing can be written.

        Returns what went wrong and what was done about it, "" when nothing did.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._open_checked()
        except StoreDamaged as error:
            self._close_quietly()
            return self._restore(error)
        except StoreFull as error:
            self._close_quietly()
            if not self.path.exists():
                raise
            self._open_copy()
            return f"{error}; working with the last stored state, accepting nothing new"
        except OSError as error:
            raise StoreFull(f"{self.path}: its folder cannot be made: {error.strerror}") from error
        return ""

    def _open_checked(self) -> None:
        """Open for writing; StoreDamaged when the integrity check finds something."""
        try:
            if not self.path.exists():
                os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            self._connect(self.path)
            found = self._rows("PRAGMA integrity_check(1)")
            if found != [("ok",)]:
                raise StoreDamaged(f"{self.path} is damaged: {found[0][0] if found else 'unreadable'}")
            self._migrate()
            self._probe()
            self.writable = True
        except sqlite3.Error as error:
            raise translate(error, self.path) from error
        except OSError as error:
            raise StoreFull(f"{self.path} cannot be written: {error.strerror}") from error

    def _connect(self, path: Path) -> None:
        self._connection = connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=2.0)
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")  # one process; and no shared-memory file
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA cache_size=-256")
        connection.execute("PRAGMA wal_autocheckpoint=256")
        connection.execute("PRAGMA journal_size_limit=1048576")

    def _probe(self) -> None:
        """Find out now, not at the first write, whether writing is possible."""
        self._execute("BEGIN IMMEDIATE")
        self._execute("CREATE TABLE IF NOT EXISTS writable (at INTEGER)")
        self._execute("DROP TABLE writable")
        self._execute("COMMIT")

    def _migrate(self) -> None:
        self._execute("BEGIN IMMEDIATE")
        self._execute("CREATE TABLE IF NOT EXISTS migrations (version INTEGER PRIMARY KEY, applied INTEGER NOT NULL)")
        version = self._rows("SELECT coalesce(max(version), 0) FROM migrations")[0][0]
        if version > SCHEMA:
            self._execute("ROLLBACK")
            raise StoreError(f"{self.path} was written by a newer Pinnace (schema {version}, this one knows {SCHEMA}); install that version")
        for number in range(version + 1, SCHEMA + 1):
            script = pkgutil.get_data(__package__ or "", f"schema/v{number}.sql")
            assert script is not None
            for statement in script.decode().split(";\n"):
                if statement.strip():
                    self._execute(statement)
            self._execute("INSERT INTO migrations VALUES (?, ?)", (number, int(time.time())))
            logger.info("store.migrated path=%s schema=%d", self.path, number)
        self._execute("COMMIT")

    def _restore(self, error: StoreDamaged) -> str:
        """Set the damaged file aside and start from the snapshot, or empty when there is none that is good."""
        aside = self.path.with_name(f"{self.path.name}.damaged-{time.strftime('%Y%m%dT%H%M%S')}")
        for part in _PARTS:
            source = self.path.with_name(self.path.name + part)
            if source.exists():
                source.rename(aside.with_name(aside.name + part))
        for old in self.damaged_files()[:-KEPT_DAMAGED]:
            for part in _PARTS:
                old.with_name(old.name + part).unlink(missing_ok=True)
        logger.error("store.damaged path=%s aside=%s: %s", self.path, aside, error)
        if self.snapshot_path.exists():
            shutil.copyfile(self.snapshot_path, self.path)
            self.path.chmod(0o600)
            try:
                self._open_checked()
            except StoreDamaged as second:
                self._close_quietly()
                logger.error("store.snapshot-damaged path=%s: %s", self.snapshot_path, second)  # noqa: TRY400 - the message says it all
                self.path.unlink()
            else:
                taken = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.snapshot_path.stat().st_mtime))
                logger.warning("store.restored from=%s taken=%s", self.snapshot_path, taken)
                return self.damage_notice()
        logger.error("store.empty path=%s: there is no good snapshot; the node starts without stored objects", self.path)
        self._open_checked()
        return self.damage_notice()

    def damage_notice(self) -> str:
        """What to tell people while damaged files lie about; "" when there are none."""
        files = self.damaged_files()
        if not files:
            return ""
        return (
            f"the database was damaged and set aside as {files[-1].name}; the node went on from its last good snapshot, or empty without one. "
            f"Check the disk, then remove {self.path.parent}/{self.path.name}.damaged-*"
        )

    def _open_copy(self) -> None:
        """Read what is stored although the file system is read-only or full: WAL needs a folder it can write to, so from a copy in memory."""
        memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        try:
            source = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)
            try:
                source.backup(memory)
            except sqlite3.Error:
                source.close()
                source = sqlite3.connect(f"file:{self.path}?immutable=1", uri=True)
                source.backup(memory)
            finally:
                source.close()
        except sqlite3.Error as error:
            memory.close()
            raise translate(error, self.path) from error
        self._connection = memory
        self.writable = False

    def reopen(self) -> None:
        """Try again to open for writing, after `open` had to settle for reading. Raises StoreFull or StoreDamaged."""
        self._close_quietly()
        try:
            self._open_checked()
        except PinnaceError:
            self._close_quietly()
            self._open_copy()
            raise

    def transact(self, statements: Iterable[Statement]) -> None:
        """All of it in one durable transaction, or nothing."""
        if not self.writable:
            raise StoreFull(f"{self.path} cannot be written; make its folder and file system writable")
        assert self._connection is not None
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for sql, parameters in statements:
                self._connection.execute(sql, parameters)
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise translate(error, self.path) from error

    def rows(self, sql: str, parameters: tuple[Any, ...] = ()) -> list[Any]:
        try:
            return self._rows(sql, parameters)
        except sqlite3.Error as error:
            raise translate(error, self.path) from error

    def snapshot(self) -> None:
        """Write a compact copy beside the database, replacing the one before only when it is complete."""
        if not self.writable:
            return
        fresh = self.snapshot_path.with_name(self.snapshot_path.name + ".new")
        fresh.unlink(missing_ok=True)
        try:
            os.close(os.open(fresh, os.O_CREAT | os.O_RDWR, 0o600))
            self._execute("VACUUM INTO ?", (str(fresh),))
            with fresh.open("rb") as written:
                os.fsync(written.fileno())
            fresh.replace(self.snapshot_path)
            sync_folder(self.path.parent)
        except sqlite3.Error as error:
            fresh.unlink(missing_ok=True)
            raise translate(error, self.path) from error
        except OSError as error:
            raise StoreFull(f"{fresh} cannot be written: {error.strerror}") from error

    def close(self) -> None:
        self._close_quietly()

    def _execute(self, sql: str, parameters: tuple[Any, ...] = ()) -> None:
        assert self._connection is not None
        self._connection.execute(sql, parameters)

    def _rows(self, sql: str, parameters: tuple[Any, ...] = ()) -> list[Any]:
        assert self._connection is not None
        return self._connection.execute(sql, parameters).fetchall()

    def _close_quietly(self) -> None:
        if self._connection is not None:
            try:
                self._connection.close()
            except sqlite3.Error as error:
                logger.warning("store.close-failed path=%s: %s", self.path, error)
            self._connection = None
        self.writable = False


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
