"""The store's writer: one thread, group commits in a short window, health, recovery and snapshots."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple, TypeVar

from pinnace.core.base.aio.clock import Clock
from pinnace.core.base.errors import PinnaceError, StoreDamaged, StoreError, StoreFull
from pinnace.core.base.observe.health import Health
from pinnace.core.meta.database import Database, Statement

logger = logging.getLogger(__name__)
T = TypeVar("T")

WINDOW_SECONDS: Final = 0.2
"""How long rows may wait for company; what a power cut can take of messages that nobody waits for."""
RETRY_SECONDS: Final = 5.0
"""Between attempts while the disk refuses."""
SNAPSHOT_SECONDS: Final = 900.0
"""The least time between two snapshots; none is taken while desired state does not change."""

LOOK_SECONDS: Final = 10.0
"""Between looks at whether the files that were set aside are gone, so that it is no longer told."""

WRITABLE: Final = "store.writable"
DAMAGED: Final = "store.damaged"


class _Commit(NamedTuple):
    """Statements somebody waits for: all of them or nothing, and `on_disk` runs on the loop before `done` is set."""

    statements: Sequence[Statement]
    on_disk: Callable[[], None]
    done: asyncio.Future[None]


class Writer:
    """What goes to the disk, for one event loop; the database is touched in the writer's own thread only.

    Rows (`put`) are kept by key, newest only, and wait for the group commit; a refused one is tried again for ever, in order. A commit
    (`commit`) takes the rows that wait along, in one transaction; if that fails, each is tried apart, so that one too big refuses
    nobody else. Every transaction is synchronous=FULL.
    """

    def __init__(self, database: Database, *, clock: Clock, health: Health, window_seconds: float = WINDOW_SECONDS) -> None:
        self._database = database
        self._clock = clock
        self._health = health
        self._window = window_seconds
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._rows: dict[Hashable, Statement] = {}
        self._writing: dict[Hashable, Statement] = {}
        self._commits: list[_Commit] = []
        self._committed: list[asyncio.Future[None]] = []
        self._work = asyncio.Event()
        self._due: float | None = None
        self._snapshot_due: float | None = None
        self._snapshot_taken = -SNAPSHOT_SECONDS
        self._look_due: float | None = None
        self._refused: PinnaceError | None = None
        self._damage: StoreDamaged | None = None
        self._is_closing = False
        self.batch = 0
        """How many batches of rows are on the disk; a row put since the last one is not."""

    async def call(self, step: Callable[[], T]) -> T:
        """Run a step in the writer's thread, after everything handed over before."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, step)

    def put(self, key: Hashable, statement: Statement) -> None:
        """A row for the next group commit; an older statement of the key that still waits is superseded."""
        self._rows.pop(key, None)
        self._rows[key] = statement
        if self._due is None:
            self._due = self._clock.now() + (RETRY_SECONDS if self._refused else self._window)
            self._work.set()

    def drop(self, key: Hashable, deletion: Statement, batch: int) -> None:
        """Delete a row first put when `self.batch` was `batch`; one that never reached the disk is only forgotten."""
        if batch == self.batch and key not in self._writing:
            self._rows.pop(key, None)
        else:
            self.put(key, deletion)

    def waiting(self) -> dict[Hashable, Statement]:
        """The rows that are not on disk yet, oldest first."""
        return {**{key: each for key, each in self._writing.items() if key not in self._rows}, **self._rows}

    async def commit(self, statements: Sequence[Statement], on_disk: Callable[[], None]) -> None:
        """Durable when it returns; `on_disk` has run then, even if nobody waits any more. Raises StoreError: nothing was written."""
        self._refuse_closed()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._commits.append(_Commit(statements, on_disk, done))
        self._work.set()
        await done

    async def committed(self) -> None:
        """Return when every row put so far is on disk. Raises StoreError when the disk refuses them; they stay and are tried again."""
        self._refuse_closed()
        if not self._rows and not self._writing:
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._committed.append(done)
        self._work.set()
        await done

    async def run(self) -> None:
        """Write until `close`; then write what is left and end. Raises StoreDamaged when the file turns out to be damaged."""
        if not self._database.writable:
            self._due = self._clock.now() + RETRY_SECONDS
        try:
            while not self._is_closing:
                await self._until_due()
                if self._is_closing:
                    break
                now = self._clock.now()
                if self._commits or self._committed or (self._due is not None and now >= self._due):
                    await self._write()
                if self._snapshot_due is not None and now >= self._snapshot_due:
                    await self._snapshot()
                if self._look_due is not None and now >= self._look_due:
                    await self.look()
            await self._write()
        finally:
            self._is_closing = True
            self._abandon(StoreError("the store is closed"))

    def _refuse_closed(self) -> None:
        if self._damage is not None:
            raise StoreDamaged(str(self._damage))
        if self._is_closing:
            raise StoreError("the store is closed")

    def _abandon(self, error: PinnaceError) -> None:
        for waiter in [*self._committed, *(each.done for each in self._commits)]:
            if not waiter.done():
                waiter.set_exception(error)

    def close(self) -> None:
        self._is_closing = True
        self._work.set()

    def state_unwritable(self, reason: str) -> None:
        """State that nothing can be stored; `reason` "" says that all is well."""
        self._health.set(WRITABLE, reason and f"{reason}; working with the last stored state until then")

    async def look(self) -> None:
        """State whether damaged files lie about; while some do, look again from time to time."""
        notice = await self.call(self._database.damage_notice)
        self._health.set(DAMAGED, notice)
        self._look_due = self._clock.now() + LOOK_SECONDS if notice else None

    async def shut(self) -> None:
        """After `run` ended: close the database and end the thread."""
        await self.call(self._database.close)
        self._thread.shutdown()

    async def _until_due(self) -> None:
        while not (self._commits or self._committed or self._is_closing):
            dues = [each for each in (self._due, self._snapshot_due, self._look_due) if each is not None]
            left = min(dues) - self._clock.now() if dues else None
            if left is not None and left <= 0:
                return
            self._work.clear()
            await self._pause(left)

    async def _pause(self, seconds: float | None) -> None:
        """Until something is due: work that hurries, or the time."""
        if seconds is None:
            await self._work.wait()
            return
        tasks = [asyncio.ensure_future(self._work.wait()), asyncio.ensure_future(self._clock.sleep(seconds))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()

    async def _write(self) -> None:
        self._writing, self._rows = self._rows, {}
        commits, self._commits = self._commits, []
        waiters, self._committed = self._committed, []
        self._due = None
        was_refused = self._refused is not None or not self._database.writable
        parts = [list(self._writing.values()), *(each.statements for each in commits)]
        try:
            refusals = await self.call(lambda: self._transact(parts))
        except BaseException:
            self._commits[:0], self._committed[:0] = commits, waiters  # `run` tells them
            raise
        self._settle_rows(refusals[0], waiters)
        for each, refusal in zip(commits, refusals[1:], strict=True):
            if refusal is None:
                each.on_disk()
                self._note_desired()
            if each.done.done():
                continue
            if refusal is None:
                each.done.set_result(None)
            else:
                each.done.set_exception(refusal)
        self._note_health(refusals)
        if was_refused and self._refused is None:
            await self.look()  # what became writable may have been restored on the way

    def _settle_rows(self, refusal: PinnaceError | None, waiters: list[asyncio.Future[None]]) -> None:
        if refusal is None:
            self.batch += 1
        else:
            self._rows = self.waiting()
        self._writing = {}
        for waiter in waiters:
            if waiter.done():
                continue
            if refusal is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(refusal)

    def _transact(self, parts: Sequence[Sequence[Statement]]) -> list[PinnaceError | None]:
        """In the thread. The refusal of each part, None for one that is on disk. Later parts may build on the first."""
        try:
            if self._refused is not None or not self._database.writable:
                self._database.recover()
            everything = [statement for part in parts for statement in part]
            if everything:
                self._database.transact(everything)
        except PinnaceError as error:
            if sum(map(bool, parts)) <= 1 or isinstance(error, StoreDamaged):
                return [error] * len(parts)
        else:
            return [None] * len(parts)
        refusals: list[PinnaceError | None] = []
        for part in parts:
            try:
                if refusals and refusals[0] is not None:
                    raise refusals[0]
                if part:
                    self._database.transact(part)
                refusals.append(None)
            except PinnaceError as error:
                refusals.append(error)
        return refusals

    def _note_health(self, refusals: list[PinnaceError | None]) -> None:
        damage = next((each for each in refusals if isinstance(each, StoreDamaged)), None)
        if damage is not None:
            self._damage = damage
            self._health.set(DAMAGED, str(damage))
            self._abandon(damage)
            raise damage
        full = next((each for each in refusals if isinstance(each, StoreFull)), None)
        self._refused = full or refusals[0]
        if self._refused is None:
            self._health.set(WRITABLE)
        else:
            self.state_unwritable(str(self._refused))
            if not self._is_closing:
                self._due = self._clock.now() + RETRY_SECONDS
            elif self._rows:
                logger.error("store.unwritten rows=%d: %s", len(self._rows), self._refused)

    def _note_desired(self) -> None:
        if self._snapshot_due is None:
            self._snapshot_due = max(self._clock.now() + 60.0, self._snapshot_taken + SNAPSHOT_SECONDS)

    async def _snapshot(self) -> None:
        self._snapshot_due = None
        self._snapshot_taken = self._clock.now()
        try:
            await self.call(self._database.snapshot)
        except StoreDamaged as error:
            self._note_health([error])
        except StoreError as error:
            logger.warning("store.snapshot-failed: %s", error)
            self._snapshot_due = self._snapshot_taken + SNAPSHOT_SECONDS
        else:
            await self.look()
