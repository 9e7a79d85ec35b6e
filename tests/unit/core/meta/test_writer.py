"""Group commits on a disk that refuses at times: order, atomicity, what waits and what is forgotten."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from fakes.clock import FakeClock, settle

from pinnace.core.base.errors import StoreDamaged, StoreError, StoreFull
from pinnace.core.base.observe.health import Health
from pinnace.core.meta.database import Database, Statement
from pinnace.core.meta.writer import RETRY_SECONDS, Writer

PUT = "INSERT OR REPLACE INTO rows VALUES (?, ?)"
DELETE = "DELETE FROM rows WHERE key = ?"


class FaultyDatabase(Database):
    """A database in memory that refuses when told; `transactions` counts those that went through."""

    def __init__(self) -> None:
        super().__init__(Path("memory.db"))
        self.writable = True
        self.refusal: Exception | None = None
        self.transactions = 0
        self._connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self._connection.execute("CREATE TABLE rows (key TEXT PRIMARY KEY, value INTEGER)")

    def recover(self) -> None:
        if self.refusal is not None:
            raise self.refusal

    def transact(self, statements: Iterable[Statement]) -> None:
        if self.refusal is not None:
            raise self.refusal
        super().transact(statements)
        self.transactions += 1

    def content(self) -> dict[str, int]:
        return dict(self.rows("SELECT key, value FROM rows"))


class Rig:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.health = Health()
        self.database = FaultyDatabase()
        self.writer = Writer(self.database, clock=self.clock, health=self.health)
        self.running = asyncio.create_task(self.writer.run())

    def put(self, key: str, value: int) -> None:
        self.writer.put(key, (PUT, (key, value)))

    async def content(self) -> dict[str, int]:
        return await self.writer.call(self.database.content)

    async def close(self) -> None:
        self.writer.close()
        await asyncio.wait([self.running])
        await self.writer.shut()


async def test_rows_and_commits_that_meet_share_a_transaction() -> None:
    rig = Rig()
    followed: list[str] = []
    rig.put("row", 1)
    await asyncio.gather(*(rig.writer.commit([(PUT, (name, 1))], lambda name=name: followed.append(name)) for name in "abc"))  # type: ignore[misc]
    assert followed == ["a", "b", "c"]
    assert rig.database.transactions == 1
    assert await rig.content() == {"row": 1, "a": 1, "b": 1, "c": 1}
    await rig.close()


async def test_the_newest_row_of_a_key_is_written_once() -> None:
    rig = Rig()
    for value in range(500):
        rig.put("red", value)
    await rig.writer.committed()
    await rig.writer.committed()
    assert (rig.database.transactions, await rig.content()) == (1, {"red": 499})
    await rig.close()


async def test_what_waits_is_written_at_the_end() -> None:
    rig = Rig()
    rig.put("red", 1)
    await rig.close()
    assert rig.database.transactions == 1


async def test_refused_rows_are_kept_in_order_and_written_later() -> None:
    rig = Rig()
    rig.database.refusal = StoreFull("full")
    rig.put("a", 1)
    with pytest.raises(StoreFull):
        await rig.writer.committed()
    assert rig.health.problem("store.writable").startswith("full; ")
    rig.put("b", 1)
    rig.put("a", 2)
    rig.writer.put("all", ("DELETE FROM rows", ()))
    rig.put("b", 3)
    rig.database.refusal = None
    await rig.clock.advance(RETRY_SECONDS)
    await rig.writer.committed()
    assert await rig.content() == {"b": 3}
    assert rig.health.problems == {}
    await rig.close()


async def test_it_recovers_without_anybody_asking() -> None:
    rig = Rig()
    rig.database.refusal = StoreFull("full")
    with pytest.raises(StoreFull):
        await rig.writer.commit([(PUT, ("a", 1))], lambda: None)
    rig.database.refusal = None
    async with asyncio.timeout(30):
        while rig.health.problems:
            await rig.clock.advance(RETRY_SECONDS)
            await settle()
    await rig.close()


async def test_a_row_that_never_reached_the_disk_is_only_forgotten() -> None:
    rig = Rig()
    rig.database.refusal = StoreFull("full")
    for number in range(100):
        batch = rig.writer.batch
        rig.put(str(number), number)
        with pytest.raises(StoreFull):
            await rig.writer.committed()
        rig.writer.drop(str(number), (DELETE, (str(number),)), batch)
    assert rig.writer.waiting() == {}, "a disk that stays full costs no memory"
    await rig.close()


async def test_a_row_that_is_on_its_way_to_the_disk_is_deleted_there() -> None:
    rig = Rig()
    batch = rig.writer.batch
    rig.put("a", 1)
    under_way = asyncio.ensure_future(rig.writer.committed())
    async with asyncio.timeout(30):
        while "a" not in rig.writer._writing:
            await asyncio.sleep(0)
    rig.writer.drop("a", (DELETE, ("a",)), batch)
    await under_way
    await rig.writer.committed()
    assert await rig.content() == {}
    await rig.close()


async def test_one_bad_commit_is_refused_alone() -> None:
    rig = Rig()
    rig.put("row", 1)
    results = await asyncio.gather(
        rig.writer.commit([(PUT, ("a", 1))], lambda: None),
        rig.writer.commit([(PUT, ("b", 1)), ("INSERT INTO nowhere VALUES (1)", ())], lambda: None),
        rig.writer.commit([(PUT, ("c", 1))], lambda: None),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [type(None), StoreError, type(None)]
    assert await rig.content() == {"row": 1, "a": 1, "c": 1}
    assert rig.health.problems == {}
    await rig.close()


@pytest.mark.parametrize("error", [StoreDamaged("torn"), RuntimeError("a mistake of ours")])
async def test_damage_and_our_own_mistakes_end_it_and_leave_nobody_waiting(error: Exception) -> None:
    rig = Rig()
    rig.database.refusal = error
    rig.put("row", 1)
    waiting = [asyncio.ensure_future(rig.writer.commit([(PUT, (name, 1))], lambda: None)) for name in "ab"]
    waiting.append(asyncio.ensure_future(rig.writer.committed()))
    done, pending = await asyncio.wait(waiting, timeout=30)
    assert not pending
    assert all(isinstance(each.exception(), StoreError) for each in done)
    with pytest.raises(type(error)):
        await rig.running
    with pytest.raises(StoreError):
        await rig.writer.commit([(PUT, ("c", 1))], lambda: None)
    assert bool(rig.health.problem("store.damaged")) == isinstance(error, StoreDamaged)
    await rig.writer.shut()


@pytest.mark.parametrize("seed", range(30))
async def test_whatever_is_refused_meanwhile_the_newest_of_each_key_is_on_the_disk_at_the_end(seed: int) -> None:
    draw = random.Random(seed)
    rig = Rig()
    expected: dict[str, int] = {}
    born: dict[str, int] = {}
    waiting: list[asyncio.Future[None]] = []
    for number in range(300):
        key = draw.choice("abcdef")
        match draw.randrange(9):
            case 0 | 1 | 2:
                if key not in expected:
                    born[key] = rig.writer.batch
                expected[key] = number
                rig.put(key, number)
            case 3 if key in expected:
                del expected[key]
                rig.writer.drop(key, (DELETE, (key,)), born.pop(key))
            case 4:
                expected.clear()
                born.clear()
                rig.writer.put("all", ("DELETE FROM rows", ()))
            case 5:
                rig.database.refusal = StoreFull("full") if rig.database.refusal is None else None
            case 6:
                waiting.append(asyncio.ensure_future(rig.writer.committed()))
            case 7:
                await asyncio.wait(waiting, timeout=30) if waiting else None
            case _:
                await rig.clock.advance(draw.choice([0.1, 0.3, RETRY_SECONDS]))
    rig.database.refusal = None
    await asyncio.gather(*waiting, return_exceptions=True)
    await rig.writer.committed()
    assert await rig.content() == expected
    await rig.close()


async def test_damage_is_told_from_a_recovery_on_until_what_was_set_aside_is_gone() -> None:
    rig = Rig()
    notices = [""]
    rig.database.damage_notice = lambda: notices[0]  # type: ignore[method-assign]
    rig.database.refusal = StoreFull("damaged and read-only")
    rig.put("a", 1)
    with pytest.raises(StoreFull):
        await rig.writer.committed()
    rig.database.refusal = None
    notices[0] = "set aside"
    await until(lambda: rig.health.problem("store.damaged") == "set aside", rig)
    assert not rig.health.problem("store.writable")
    notices[0] = ""
    await until(lambda: not rig.health.problem("store.damaged"), rig)
    await rig.close()


async def until(is_so: Callable[[], bool], rig: Rig) -> None:
    async with asyncio.timeout(30):
        while not is_so():
            await rig.clock.advance(1.0)
