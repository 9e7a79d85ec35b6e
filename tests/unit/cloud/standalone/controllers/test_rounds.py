"""Every key has its round, whatever becomes of the others."""

from __future__ import annotations

import asyncio

import pytest

from pinnace.cloud.standalone.controllers.rounds import Rounds
from pinnace.cloud.standalone.status import ApiError
from pinnace.core.base.aio.backoff import Backoff
from pinnace.core.base.aio.supervise import supervise


class Rig:
    """Rounds that are run as the server runs them; `failures` are raised by a key's next rounds, first one first; `writes` of a key touch
    itself and then another one."""

    def __init__(self, failures: dict[str, list[Exception]], writes: dict[str, str] | None = None) -> None:
        self.failures = failures
        self._writes = writes or {}
        self.done: list[str] = []
        self.rounds: Rounds[str] = Rounds("test", self._reconcile)
        self._news = asyncio.Event()

    async def _reconcile(self, key: str) -> float | None:
        if key in self._writes:
            self.rounds.touch(key)
            self.rounds.touch(self._writes.pop(key))
        if self.failures.get(key):
            raise self.failures[key].pop(0)
        self.done.append(key)
        self._news.set()
        return None

    async def until_done(self, *keys: str) -> None:
        running = asyncio.create_task(supervise("test", self.rounds.run, Backoff(0.01, 0.01)))
        async with asyncio.timeout(20):
            while not set(keys) <= set(self.done):
                self._news.clear()
                await self._news.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_touches_of_a_key_that_waits_are_one_round() -> None:
    rig = Rig({})
    for key in ("a", "b", "a"):
        rig.rounds.touch(key)
    await rig.until_done("a", "b")
    assert rig.done == ["a", "b"]


@pytest.mark.parametrize("failure", [ApiError(500, "not now"), KeyError("spec")], ids=["refused", "broken"])
async def test_one_that_fails_holds_up_no_other_and_comes_again(failure: Exception) -> None:
    rig = Rig({"bad": [failure, failure]})
    for key in ("bad", "good"):
        rig.rounds.touch(key)
    await rig.until_done("bad", "good")
    assert rig.done == ["good", "bad"]


async def test_one_that_touches_itself_and_fails_still_waits() -> None:
    rig = Rig({"bad": [ApiError(403, "no")]}, writes={"bad": "good"})
    rig.rounds.touch("bad")
    await rig.until_done("bad", "good")
    assert rig.done == ["good", "bad"]
