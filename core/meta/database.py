"""The SQLite file: opening, checking, migrating, setting aside what is damaged.

Blocking: everything belongs to the store's writer thread except `read`, which the event loop may call. Files beside `edge.db`:
`-wal` and `-shm` (SQLite's), `.lock` (one process at a time), `.snapshot` (the last good copy), `.damaged-<time>` (set aside), `.former`
(what a version on trial found before it migrated; the version before takes it back when the trial is given up).
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import pkgutil
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from pinnace.core.base.errors import PinnaceError, StoreDamaged, StoreError, StoreFull
from pinnace.core.base.files import sync_folder

logger = logging.getLogger(__name__)

INVENTORY_DUE: Final = 1
"""`PRAGMA user_version` of a file whose content the cloud does not know: a new one, or one made from a snapshot."""
INVENTORY_TOLD: Final = ("PRAGMA user_version = 0", ())
SCHEMA: Final = 1
"""The newest schema/v<number>.sql."""
KEPT_DAMAGED: Final = 3
"""Damaged files kept for examination; the oldest goes."""
Statement = tuple[str, tuple[Any, ...]]

_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_FULL: Final = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM})
_PRAGMAS: Final = ("journal_mode=WAL", "synchronous=FULL", "cache_size=-256", "wal_autocheckpoint=256", "journal_size_limit=1048576")
_PARTS: Final = ("", "-wal", "-shm")


def files_of(path: Path) -> list[Path]:
    """The database's own files that are there, the lock last; others that begin with its name are somebody else's."""
    own = [path.with_name(path.name + each) for each in (*_PARTS, ".snapshot", ".snapshot.new", ".restoring", ".former", ".former.new")]
    damaged = [each for each in path.parent.iterdir() if each.name.startswith(path.name + ".damaged-")] if path.parent.is_dir() else []
    return [each for each in (*own, *sorted(damaged), path.with_name(path.name + ".lock")) if each.is_file()]


def former_of(path: Path) -> Path:
    """Where the database of before a trial is kept until the trial is over."""
    return path.with_name(path.name + ".former")


class NewerSchema(StoreError):
    """The file was migrated by a newer Pinnace."""


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
    """One open database. Raises the exceptions of `translate`. A version `on_trial` keeps the file as it was before it migrates it."""

    def __init__(self, path: Path, *, on_trial: bool = False) -> None:
        self.path = path
        self._on_trial = on_trial
        self.writable = False
        self.inventory_due = False
        """Whether the file that was opened last says INVENTORY_DUE."""
        self._connection: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._reading = threading.Lock()
        self._lock: int | None = None

    @property
    def snapshot_path(self) -> Path:
        return self.path.with_name(self.path.name + ".snapshot")

    def damaged_files(self) -> list[Path]:
        """Files set aside, oldest first."""
        found = self.path.parent.glob(self.path.name + ".damaged-*")
        return sorted(each for each in found if not each.name.endswith(_PARTS[1:]))

    def open(self) -> str:
        """Open for writing, restoring the last good snapshot if the file is damaged; read-only when nothing can be written.

        Returns why it can only be read, "" when it can be written. Raises StoreFull when there is neither a file nor a place for one.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise StoreFull(f"{self.path}: its folder cannot be made: {error.strerror}") from error
        self._take_lock()
        is_new = not self.path.exists() and not self.snapshot_path.exists()
        try:
            try:
                self._open_or_restore()
            except StoreFull as error:
                self._close_quietly()
                if is_new:
                    with contextlib.suppress(OSError):
                        self.path.unlink()
                    raise
                self._open_copy()
                return str(error)
        except PinnaceError:
            self.close()
            raise
        return ""

    def _take_lock(self) -> None:
        try:
            self._lock = os.open(self.path.with_name(self.path.name + ".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.close()
            raise StoreError(f"{self.path} is in use by another process; is another pinnace edgecore running?") from error
        except OSError as error:  # nothing can be written there, by nobody
            logger.warning("store.unlocked path=%s: %s", self.path, error)

    def _open_or_restore(self) -> None:
        try:
            self._open_or_take_snapshot()
        except NewerSchema:
            if not self._take_former():
                raise
        if not self._on_trial:  # what was kept is used up, or this version is the one that stayed
            with contextlib.suppress(OSError):
                former_of(self.path).unlink(missing_ok=True)

    def _open_or_take_snapshot(self) -> None:
        try:
            if self.path.exists() or not self.snapshot_path.exists():
                self._open_checked()
                return
            damage = StoreDamaged(f"{self.path} is missing although it has a snapshot")
        except StoreDamaged as error:
            damage = error
        self._close_quietly()
        logger.error("store.damaged path=%s: %s", self.path, damage)
        try:
            self._restore()
        except OSError as error:
            raise StoreFull(f"{self.path} is damaged and cannot be replaced: {error.strerror}") from error

    def _open_checked(self) -> None:
        """Open for writing; StoreDamaged when the integrity check finds something."""
        try:
            if not self.path.exists():
                os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            self._connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=2.0)
            for pragma in _PRAGMAS:
                self._connection.execute(f"PRAGMA {pragma}")
            self._check(self._connection, self.path)
            if self._on_trial and 0 < _schema(self._connection) < SCHEMA:
                self._copy_into(self._connection, former_of(self.path))
            self._migrate(self._connection)
            self.probe()
            self.writable = True
        except sqlite3.Error as error:
            raise translate(error, self.path) from error
        except OSError as error:
            raise StoreFull(f"{self.path} cannot be written: {error.strerror}") from error

    @staticmethod
    def _check(connection: sqlite3.Connection, path: Path) -> None:
        found = connection.execute("PRAGMA integrity_check(1)").fetchall()
        if found != [("ok",)]:
            raise StoreDamaged(f"{path} is damaged: {found[0][0] if found else 'unreadable'}")

    def probe(self) -> None:
        """Find out now, not at the next write, whether writing is possible."""
        self._transact([("CREATE TABLE IF NOT EXISTS writable (at INTEGER)", ()), ("DROP TABLE writable", ())])

    def _migrate(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("CREATE TABLE IF NOT EXISTS migrations (version INTEGER PRIMARY KEY, applied INTEGER NOT NULL)")
        version = connection.execute("SELECT coalesce(max(version), 0) FROM migrations").fetchone()[0]
        if version > SCHEMA:
            connection.execute("ROLLBACK")
            raise NewerSchema(
                f"{self.path} was written by a newer Pinnace (schema {version}, this one knows {SCHEMA}); install that version"
            )
        for number in range(version + 1, SCHEMA + 1):
            script = pkgutil.get_data(__package__ or "", f"schema/v{number}.sql")
            assert script is not None
            for statement in script.decode().split(";\n"):
                if statement.strip():
                    connection.execute(statement)
            connection.execute("INSERT INTO migrations VALUES (?, ?)", (number, int(time.time())))
            logger.info("store.migrated path=%s schema=%d", self.path, number)
        if version == 0:
            connection.execute(f"PRAGMA user_version = {INVENTORY_DUE}")
        connection.execute("COMMIT")
        self.inventory_due = connection.execute("PRAGMA user_version").fetchone()[0] == INVENTORY_DUE

    def _restore(self) -> None:
        """Set the damaged file aside and start from the snapshot, or empty when there is none that is good.

        The copy of the snapshot is complete before the damaged file moves: a stop in between leaves one of the two in place.
        """
        fresh = self.path.with_name(self.path.name + ".restoring")
        is_good = self._checked_copy(self.snapshot_path, fresh)
        stamp = f"{self.path.name}.damaged-{time.strftime('%Y%m%dT%H%M%S')}"
        for part in reversed(_PARTS):
            source = self.path.with_name(self.path.name + part)
            if source.exists():
                source.rename(self.path.with_name(stamp + part))
        for old in self.damaged_files()[:-KEPT_DAMAGED]:
            for part in _PARTS:
                old.with_name(old.name + part).unlink(missing_ok=True)
        if is_good:
            taken = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(self.snapshot_path.stat().st_mtime))
            fresh.replace(self.path)
            sync_folder(self.path.parent)
            logger.warning("store.restored from=%s taken=%sZ aside=%s", self.snapshot_path, taken, stamp)
        else:
            logger.error("store.empty path=%s aside=%s: there is no good snapshot; the node starts empty", self.path, stamp)
        self._open_checked()

    def _take_former(self) -> bool:
        """Go on from what a newer version kept before its trial, which was given up; False when it kept nothing that is good.

        It is as good as a snapshot: the cloud is told what is in it, and sends what came since. Whatever step is the last one before a
        stop, the next start does it again.
        """
        former, fresh = former_of(self.path), self.path.with_name(self.path.name + ".restoring")
        if not 0 < written_schema(former) <= SCHEMA:
            return False
        try:
            if not self._checked_copy(former, fresh):
                return False
            assert self._connection is not None
            self._connection.execute("PRAGMA journal_mode=DELETE")  # no log may be left that would be taken for the other file's
            self._close_quietly()
            if self.path.with_name(self.path.name + "-wal").exists():
                raise StoreError(f"{self.path} is in use by another process; is another pinnace edgecore running?")
            link = self.snapshot_path.with_name(self.snapshot_path.name + ".new")
            link.unlink(missing_ok=True)
            link.hardlink_to(former)  # the snapshot that is there may be of the newer version too
            link.replace(self.snapshot_path)
            fresh.replace(self.path)
            sync_folder(self.path.parent)
        except sqlite3.Error as error:
            raise translate(error, self.path) from error
        except OSError as error:
            raise StoreFull(f"{former} cannot be put back: {error.strerror}") from error
        logger.warning("store.put-back path=%s schema=%d: the newer version that migrated it was given up", self.path, SCHEMA)
        self._open_checked()
        return True

    def _checked_copy(self, source: Path, to: Path) -> bool:
        """A copy whose content the cloud is to be told; False when there is nothing to copy, or nothing that is good."""
        import shutil  # brings decompressors along, which a healthy node never needs

        if not source.exists():
            return False
        try:
            shutil.copyfile(source, to)
            to.chmod(0o600)
            connection = sqlite3.connect(to)
            try:
                self._check(connection, source)
                connection.execute(f"PRAGMA user_version = {INVENTORY_DUE}")
            finally:
                connection.close()
            with to.open("rb") as written:
                os.fsync(written.fileno())
        except (sqlite3.Error, StoreDamaged) as error:
            logger.error("store.snapshot-damaged path=%s: %s", source, error)  # noqa: TRY400 - the message says it all
            to.unlink(missing_ok=True)
            return False
        except OSError:
            to.unlink(missing_ok=True)
            raise
        return True

    def damage_notice(self) -> str:
        """What to tell people while damaged files lie about; "" when there are none."""
        files = self.damaged_files()
        if not files:
            return ""
        return (
            f"the database was damaged and set aside as {files[-1].name}; the node went on from its last good snapshot, or empty "
            f"without one. "
            f"Check the disk, then remove {self.path.parent}/{self.path.name}.damaged-*"
        )

    def _open_copy(self) -> None:
        """Read what is stored, or else the snapshot, although the file system is read-only or full: from a copy in memory, since WAL
        needs a folder that can be written."""
        damage: StoreDamaged | None = None
        for path in (self.path, self.snapshot_path):
            if not path.exists():
                continue
            try:
                self._reader = self._loaded(path)
            except StoreDamaged as error:
                logger.error("store.damaged path=%s: %s", path, error)  # noqa: TRY400 - the message says it all
                damage = damage or error
            else:
                return
        raise damage or StoreFull(f"{self.path} cannot be read")

    def _loaded(self, path: Path) -> sqlite3.Connection:
        import shutil
        import tempfile

        memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        try:
            try:
                _copy_pages(f"file:{path}?mode=ro", memory)
            except sqlite3.OperationalError:  # no shared-memory file can be made beside it
                with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:  # noqa: S108
                    for part in ("", "-wal"):
                        if path.with_name(path.name + part).exists():
                            shutil.copyfile(path.with_name(path.name + part), Path(folder, "copy" + part))
                    _copy_pages(f"file:{folder}/copy", memory)
            self._check(memory, path)
            self._migrate(memory)
        except sqlite3.Error as error:
            memory.close()
            raise translate(error, path) from error
        except OSError as error:
            memory.close()
            raise StoreFull(f"{path} cannot be read: {error.strerror}") from error
        except StoreError:
            memory.close()
            raise
        return memory

    def recover(self) -> None:
        """Try again to write, after something stood in the way. Raises what still does; then reading goes on as before."""
        if self.writable:
            try:
                self.probe()
            except sqlite3.Error as error:
                raise translate(error, self.path) from error
            return
        try:
            self._open_or_restore()
        except PinnaceError:
            self._close_quietly()
            raise
        with self._reading:
            if self._reader is not None:
                self._reader.close()  # the copy in memory
                self._reader = None

    def transact(self, statements: Iterable[Statement]) -> None:
        """All of it in one durable transaction, or nothing."""
        if not self.writable:
            raise StoreFull(f"{self.path} cannot be written; make its folder and file system writable")
        try:
            self._transact(statements)
        except sqlite3.Error as error:
            raise translate(error, self.path) from error
        except UnicodeEncodeError as error:
            raise StoreError(f"{self.path}: not a text that can be stored: {error.reason}") from error

    def _transact(self, statements: Iterable[Statement]) -> None:
        assert self._connection is not None
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for sql, parameters in statements:
                self._connection.execute(sql, parameters)
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def rows(self, sql: str, parameters: tuple[Any, ...] = ()) -> Iterator[Any]:
        """Rows one by one, so that a big table is never in memory twice."""
        connection = self._connection or self._reader
        assert connection is not None
        try:
            yield from connection.execute(sql, parameters)
        except sqlite3.Error as error:
            raise translate(error, self.path) from error

    def read(self, sql: str, parameters: tuple[Any, ...] = ()) -> list[Any]:
        """A short look-up beside the writer, from any thread; it sees what is committed and waits for nobody's commit."""
        with self._reading:
            try:
                if self._reader is None:
                    self._reader = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, isolation_level=None, check_same_thread=False)
                    self._reader.execute("PRAGMA cache_size=-64")
                return self._reader.execute(sql, parameters).fetchall()
            except sqlite3.Error as error:
                raise translate(error, self.path) from error

    def snapshot(self) -> None:
        """Write a compact copy beside the database, replacing the one before only when it is complete."""
        if self.writable:
            assert self._connection is not None
            self._copy_into(self._connection, self.snapshot_path)

    def _copy_into(self, connection: sqlite3.Connection, target: Path) -> None:
        fresh = target.with_name(target.name + ".new")
        fresh.unlink(missing_ok=True)
        try:
            os.close(os.open(fresh, os.O_CREAT | os.O_RDWR, 0o600))
            connection.execute("VACUUM INTO ?", (str(fresh),))
            with fresh.open("rb") as written:
                os.fsync(written.fileno())
            fresh.replace(target)
            sync_folder(self.path.parent)
        except sqlite3.Error as error:
            fresh.unlink(missing_ok=True)
            raise translate(error, self.path) from error
        except OSError as error:
            raise StoreFull(f"{fresh} cannot be written: {error.strerror}") from error

    def close(self) -> None:
        with self._reading:
            if self._reader is not None:
                self._reader.close()
                self._reader = None
            self._close_quietly()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _close_quietly(self) -> None:
        if self._connection is not None:
            try:
                self._connection.close()
            except sqlite3.Error as error:
                logger.warning("store.close-failed path=%s: %s", self.path, error)
            self._connection = None
        self.writable = False


def written_schema(path: Path) -> int:
    """The schema a database was written with, asked without changing it; 0 when there is none, or none that can be read."""
    if not path.exists():
        return 0
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            return _schema(connection)
    except sqlite3.Error:
        return 0


def _schema(connection: sqlite3.Connection) -> int:
    """0 for an empty file, or one that is not ours."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'migrations'").fetchone():
        return 0
    return int(connection.execute("SELECT coalesce(max(version), 0) FROM migrations").fetchone()[0])


def _copy_pages(uri: str, to: sqlite3.Connection) -> None:
    source = sqlite3.connect(uri, uri=True)
    try:
        source.backup(to)
    finally:
        source.close()
