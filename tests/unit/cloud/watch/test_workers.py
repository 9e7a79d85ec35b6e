"""One worker a key: never two rounds of a key at once, no touch lost, failures repeated, idle workers gone."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinnace.cloud.watch import KeyWorkers
from pinnace.core.base.errors import LinkError


async def test_touches_during_a_round_make_one_more() -> None:
    rounds: list[str] = []
    gate = asyncio.Event()
    began = asyncio.Event()

    async def reconcile(key: str) -> None:
        rounds.append(key)
        began.set()
        await gate.wait()

    workers = KeyWorkers("test", reconcile)
    workers.touch("a")
    await began.wait()
    for _ in range(5):
        workers.touch("a")
    gate.set()
    await workers.idle()
    assert rounds == ["a", "a"]
    assert len(workers) == 0


async def test_many_keys_linger_at_once_and_each_has_one_round_for_many_touches() -> None:
    rounds: list[int] = []
    lingering, over = asyncio.Event(), asyncio.Event()
    slept: list[float] = []

    async def reconcile(key: int) -> None:
        rounds.append(key)

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 100:
            lingering.set()
        await over.wait()

    workers = KeyWorkers("test", reconcile, parallel=2, linger=0.2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pinnace.cloud.watch.workers.asyncio.sleep", sleep)
        for key in range(100):
            workers.touch(key)
        async with asyncio.timeout(10):
            await lingering.wait()
            for key in range(100):
                workers.touch(key)
            over.set()
            await workers.idle()
    assert slept == [0.2] * 100
    assert sorted(rounds) == list(range(100))


async def test_keys_run_beside_each_other_up_to_the_bound() -> None:
    running = peak = 0
    gate = asyncio.Event()
    full = asyncio.Event()

    async def reconcile(key: int) -> None:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        if running == 3:
            full.set()
        await gate.wait()
        running -= 1

    workers = KeyWorkers("test", reconcile, parallel=3)
    for key in range(10):
        workers.touch(key)
    await full.wait()
    gate.set()
    await workers.idle()
    assert peak == 3


async def test_a_failed_round_is_repeated(caplog: pytest.LogCaptureFixture) -> None:
    left = [LinkError("away"), KeyError("a fault"), None]

    async def reconcile(key: str) -> None:
        error = left.pop(0)
        if error is not None:
            raise error

    workers = KeyWorkers("test", reconcile, first_retry=0.001, last_retry=0.002)
    workers.touch("a")
    await workers.idle()
    assert left == []
    expected, fault = (record for record in caplog.records if "test.failed" in record.message)
    assert expected.exc_info is None, "what can happen needs no traceback"
    assert fault.exc_info is not None


async def test_a_touch_cuts_the_wait_short() -> None:
    rounds = 0
    failed = asyncio.Event()

    async def reconcile(key: str) -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 1:
            failed.set()
            raise LinkError("away")

    workers = KeyWorkers("test", reconcile, first_retry=1000.0, last_retry=1000.0)
    workers.touch("a")
    await failed.wait()
    await asyncio.sleep(0)
    workers.touch("a")
    async with asyncio.timeout(10):
        await workers.idle()
    assert rounds == 2


async def test_after_closing_nothing_begins() -> None:
    rounds: list[str] = []

    async def reconcile(key: str) -> None:
        rounds.append(key)
        await asyncio.Event().wait()

    workers = KeyWorkers("test", reconcile)
    workers.touch("a")
    await asyncio.sleep(0)
    await workers.close()
    workers.touch("b")
    assert rounds in (["a"], [])
    assert len(workers) == 0


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=40))
@settings(deadline=None)
def test_the_last_touch_of_every_key_is_seen(steps: list[tuple[int, int]]) -> None:
    """Whatever the interleaving, the newest state of each key is what its last round read."""

    async def run() -> None:
        state: dict[int, int] = {}
        seen: dict[int, int] = {}
        busy: set[int] = set()

        async def reconcile(key: int) -> None:
            assert key not in busy
            busy.add(key)
            value = state[key]
            for _ in range(value % 3):
                await asyncio.sleep(0)
            seen[key] = value
            busy.discard(key)

        workers = KeyWorkers("test", reconcile, parallel=2)
        for number, (key, pauses) in enumerate(steps):
            state[key] = number
            workers.touch(key)
            for _ in range(pauses):
                await asyncio.sleep(0)
        await workers.idle()
        assert seen == state

    asyncio.run(run())
