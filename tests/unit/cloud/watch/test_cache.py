"""A cache sees every change once and in order, lists as seldom as possible, and tells its listeners what a list has found out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest
from fakes.kube import FakeKube

from pinnace.cloud.kube.resources import CONFIG_MAPS
from pinnace.cloud.ports import Object, Resource
from pinnace.cloud.watch import Change, ObjectCache, is_newer, version_number
from pinnace.cloud.watch.cache import drop_managed_fields
from pinnace.core.base.aio.backoff import Backoff
from pinnace.core.base.errors import LinkError


def config(name: str, **data: str) -> Object:
    return {"metadata": {"name": name, "namespace": "default"}, "data": data}


class Followed:
    """A running cache and everything it told."""

    def __init__(self, kube: FakeKube) -> None:
        self.kube = kube
        self.cache = ObjectCache(kube, CONFIG_MAPS, backoff=Backoff(0.001, 0.002), trim=drop_managed_fields)
        self.changes: list[Change] = []
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self.cache.on_change(self._note)

    def _note(self, change: Change) -> None:
        self.changes.append(change)
        task = asyncio.get_running_loop().create_task(self._wake())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _wake(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(condition)

    def told(self) -> list[tuple[str, str]]:
        """What was told: the name, and + for new, - for gone, the data for changed."""
        return [
            (each.key.name, "+" if each.old is None else "-" if each.new is None else str(each.new["data"].get("x")))
            for each in self.changes
        ]


@pytest.fixture
async def followed() -> AsyncIterator[Followed]:
    kube = FakeKube()
    kube.put(CONFIG_MAPS, config("first"))
    made = Followed(kube)
    task = asyncio.create_task(made.cache.run())
    await made.cache.synced()
    yield made
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_the_first_list_and_then_each_change(followed: Followed) -> None:
    await followed.kube.create(CONFIG_MAPS, config("a", x="1"), "default")
    await followed.kube.patch(CONFIG_MAPS, "a", {"data": {"x": "2"}}, "default")
    await followed.kube.delete(CONFIG_MAPS, "a", "default")
    await followed.until(lambda: len(followed.changes) == 4)
    assert followed.told() == [("first", "+"), ("a", "+"), ("a", "2"), ("a", "-")]
    assert followed.cache.get("default", "first") is not None
    assert followed.cache.get("default", "a") is None
    assert len(followed.cache) == 1
    assert followed.cache.lists == 1


async def test_a_broken_watch_is_taken_up_without_a_list(followed: Followed) -> None:
    broken = 0

    def fail(verb: str, resource: Resource, name: str) -> None:
        nonlocal broken
        if verb in {"watch", "watching"} and broken < 3:
            broken += 1
            raise LinkError("the line is cut")

    followed.kube.fail_with = fail
    followed.kube.put(CONFIG_MAPS, config("while-away", x="1"))
    await followed.until(lambda: len(followed.changes) == 2)
    assert broken == 3
    assert followed.told() == [("first", "+"), ("while-away", "+")]
    assert followed.cache.lists == 1


async def test_an_expired_watch_lists_again_and_tells_the_difference(followed: Followed) -> None:
    cut = asyncio.Event()

    def fail(verb: str, resource: Resource, name: str) -> None:
        if verb in {"watch", "watching"}:
            cut.set()
            raise LinkError("the line is cut")

    followed.kube.put(CONFIG_MAPS, config("kept", x="1"))
    followed.kube.put(CONFIG_MAPS, config("changed", x="1"))
    await followed.until(lambda: len(followed.changes) == 3)
    followed.kube.fail_with = fail
    await followed.kube.interrupt()
    await cut.wait()
    del followed.changes[:]
    followed.kube.put(CONFIG_MAPS, config("changed", x="2"))
    followed.kube.put(CONFIG_MAPS, config("new", x="1"))
    await followed.kube.delete(CONFIG_MAPS, "first", "default")
    followed.kube.forget()
    followed.kube.fail_with = None
    await followed.until(lambda: len(followed.changes) == 3)
    assert sorted(followed.told()) == [("changed", "2"), ("first", "-"), ("new", "+")]
    assert followed.cache.lists == 2


async def test_a_listeners_fault_is_its_own(followed: Followed, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[str] = []

    def faulty(change: Change) -> None:
        raise KeyError("mine")

    followed.cache.on_change(faulty)
    followed.cache.on_change(lambda change: heard.append(change.key.name))
    followed.kube.put(CONFIG_MAPS, config("a"))
    await followed.until(lambda: len(followed.changes) == 2)
    assert heard == ["a"]
    assert "watch.listener-failed" in caplog.text


async def test_who_wrote_which_field_is_not_kept(followed: Followed) -> None:
    body = config("a")
    body["metadata"]["managedFields"] = [{"manager": "kubectl"}]
    followed.kube.put(CONFIG_MAPS, body)
    await followed.until(lambda: len(followed.changes) == 2)
    kept = followed.cache.get("default", "a")
    assert kept is not None
    assert "managedFields" not in kept["metadata"]


def test_versions_compare_as_numbers() -> None:
    assert [version_number(each) for each in ("10", "", "abc", "9")] == [10, 0, 0, 9]
    newer, older = {"metadata": {"resourceVersion": "10"}}, {"metadata": {"resourceVersion": "9"}}
    assert is_newer(newer, older)
    assert not is_newer(older, newer)
    assert not is_newer(older, older)
    assert is_newer({"metadata": {}}, newer)
