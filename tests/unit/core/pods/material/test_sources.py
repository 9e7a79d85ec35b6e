"""Objects from the store and from the cloud, in every form a cloud answers in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from fakes.clock import FakeClock, settle
from fakes.edgeports import FakeObjects
from fakes.uplink import FakeUplink

from pinnace.core.base.contract.envelopes import OK_BODY, Envelope, Group, Operation, Source, reply
from pinnace.core.base.contract.keys import ResourceKey
from pinnace.core.base.errors import LinkError, StoreFull
from pinnace.core.base.ports import ObjectChange, StoredObject
from pinnace.core.pods.material.sources import Queries, SourceMissing, Sources

KEY = ResourceKey("configmap", "shop", "app")


def config_map(version: str = "7", **data: str) -> dict[str, Any]:
    return {"kind": "ConfigMap", "metadata": {"name": "app", "namespace": "shop", "uid": "m-1", "resourceVersion": version}, "data": data}


def answering(content: Any, operation: str = Operation.RESPONSE) -> Callable[[Envelope], Envelope]:
    return lambda request: reply(request, content, source=Source.EDGECONTROLLER, group=Group.RESOURCE, operation=operation)


class World:
    def __init__(self, answer: Callable[[Envelope], Envelope]) -> None:
        self.clock = FakeClock()
        self.objects = FakeObjects()
        self.uplink = FakeUplink(answer)
        self.uplink.is_up = True
        self.sources = Sources(self.objects, Queries(self.uplink, self.clock))

    def store(self, obj: dict[str, Any]) -> None:
        self.objects.stored[KEY] = StoredObject(KEY, obj["metadata"]["resourceVersion"], json.dumps(obj).encode())


async def test_what_is_stored_is_not_asked_for() -> None:
    world = World(answering("OK"))
    world.store(config_map(color="red"))
    assert (await world.sources.get(KEY))["data"] == {"color": "red"}
    assert world.uplink.asked == []


async def test_what_is_not_stored_is_asked_for_stored_and_acknowledged() -> None:
    world = World(answering(config_map(color="red")))
    assert (await world.sources.get(KEY))["data"] == {"color": "red"}
    (asked,) = world.uplink.asked
    assert (asked.source, asked.group, asked.operation, asked.resource, asked.body) == (
        "edged",
        "meta",
        "query",
        "shop/configmap/app",
        b"null",
    )
    assert json.loads(world.objects.stored[KEY].body)["data"] == {"color": "red"}
    assert world.objects.stored[KEY].version == "7"
    (acknowledged,) = world.uplink.posted
    assert (acknowledged.operation, acknowledged.body) == (Operation.RESPONSE, OK_BODY)
    await world.sources.get(KEY)
    assert len(world.uplink.asked) == 1


STATUS = {"metadata": {}, "status": "Failure", "message": 'configmaps "app" not found', "reason": "NotFound", "code": 404}


@pytest.mark.parametrize(
    ("answer", "is_absent"),
    [
        (answering({"ErrStatus": STATUS}), True),
        (answering({"Object": None, "Err": {"ErrStatus": STATUS}}), True),
        (answering({"Object": config_map(), "Err": {}}), False),
        (answering({"Op": "Get", "URL": "x", "Err": {}}), False),
        (answering('configmaps "app" not found', Operation.ERROR), True),
        (answering("the API server is away", Operation.ERROR), False),
        (answering("OK"), False),
        (answering({"data": {"color": "red"}}), False),
        (answering({"metadata": {"name": "other"}}), False),
        (answering([1]), False),
    ],
)
async def test_no_answer_but_the_object_itself_is_taken_for_one(answer: Callable[[Envelope], Envelope], is_absent: bool) -> None:
    world = World(answer)
    with pytest.raises(SourceMissing, match='configmap "shop/app"') as caught:
        await world.sources.get(KEY)
    assert caught.value.is_absent is is_absent
    assert world.objects.stored == {}
    assert world.uplink.posted == []


async def test_without_a_link_it_says_so_at_once() -> None:
    world = World(answering(config_map()))
    world.uplink.disconnect()
    with pytest.raises(SourceMissing, match="cloud cannot be reached"):
        await world.sources.get(KEY)


async def test_what_failed_is_asked_again_ever_more_slowly() -> None:
    world = World(answering({"ErrStatus": STATUS}))
    for _ in range(100):
        with pytest.raises(SourceMissing, match="not found"):
            await world.sources.get(KEY)
        await world.clock.advance(1.0)
    assert 3 <= len(world.uplink.asked) <= 9


async def test_a_link_that_came_back_and_a_push_end_the_pause() -> None:
    world = World(answering({"ErrStatus": STATUS}))
    ends = (lambda: world.sources.changed(ObjectChange("delete", KEY, "", b"")), _forgive(world))
    for asked, end in enumerate(ends, 1):
        with pytest.raises(SourceMissing):
            await world.sources.get(KEY)
        with pytest.raises(SourceMissing):
            await world.sources.get(KEY)
        assert len(world.uplink.asked) == asked
        await end()
    with pytest.raises(SourceMissing):
        await world.sources.get(KEY)
    assert len(world.uplink.asked) == 3


def _forgive(world: World) -> Callable[[], Any]:
    async def forgive() -> None:
        world.sources._queries.forgive()

    return forgive


class SlowUplink(FakeUplink):
    """Answers when told."""

    def __init__(self) -> None:
        super().__init__(answering("OK"))
        self.is_up = True
        self.answers: asyncio.Queue[Any] = asyncio.Queue()

    async def request(self, envelope: Envelope, *, timeout_seconds: float = 60.0) -> Envelope:
        self.asked.append(envelope)
        content = await self.answers.get()
        if isinstance(content, Exception):
            raise content
        return answering(content)(envelope)


def slow() -> tuple[World, SlowUplink]:
    world, uplink = World(answering("OK")), SlowUplink()
    world.sources = Sources(world.objects, Queries(uplink, world.clock))
    return world, uplink


async def test_many_pods_ask_once() -> None:
    world, uplink = slow()
    waiting = [asyncio.create_task(world.sources.get(KEY)) for _ in range(10)]
    await settle()
    waiting[0].cancel()
    uplink.answers.put_nowait(config_map(color="red"))
    found = await asyncio.gather(*waiting[1:])
    assert len(uplink.asked) == 1
    assert all(each["data"] == {"color": "red"} for each in found)


async def test_a_push_ends_the_wait() -> None:
    world, _ = slow()
    waiting = asyncio.create_task(world.sources.get(KEY))
    await settle()
    world.store(config_map("8", color="blue"))
    await world.sources.changed(ObjectChange("insert", KEY, "8", world.objects.stored[KEY].body))
    assert (await waiting)["data"] == {"color": "blue"}


async def test_an_answer_that_a_newer_push_overtook_is_not_stored() -> None:
    world, uplink = slow()
    waiting = asyncio.create_task(world.sources.get(KEY))
    await settle()
    world.store(config_map("9", color="blue"))
    uplink.answers.put_nowait(config_map("7", color="red"))
    assert (await waiting)["data"] == {"color": "blue"}
    assert world.objects.stored[KEY].version == "9"
    assert len(uplink.posted) == 1


async def test_a_link_that_breaks() -> None:
    world, uplink = slow()
    uplink.answers.put_nowait(LinkError("the link broke"))
    with pytest.raises(SourceMissing, match="the link broke"):
        await world.sources.get(KEY)


async def test_an_optional_one_is_absent_when_the_cloud_says_so_or_cannot_be_asked() -> None:
    world, uplink = slow()
    uplink.answers.put_nowait({"ErrStatus": STATUS})
    for _ in range(2):
        assert await world.sources.needed(KEY, optional=True) is None
    assert len(uplink.asked) == 1, "it is known for a while"
    with pytest.raises(SourceMissing, match="not found"):
        await world.sources.needed(KEY, optional=False)
    uplink.disconnect()
    assert await world.sources.needed(KEY, optional=True) is None
    with pytest.raises(SourceMissing, match="cannot be reached"):
        await world.sources.needed(KEY, optional=False)


async def test_an_optional_one_is_waited_for_when_its_query_only_failed() -> None:
    world, uplink = slow()
    for _ in range(2):
        uplink.answers.put_nowait(LinkError("no answer within 15 s"))
        with pytest.raises(SourceMissing, match="no answer within 15 s"):
            await world.sources.needed(KEY, optional=True)
    assert len(uplink.asked) == 1, "not again before its back-off is over"
    uplink.answers.get_nowait()
    uplink.answers.put_nowait(config_map(color="red"))
    await world.clock.advance(2)
    found = await world.sources.needed(KEY, optional=True)
    assert found is not None
    assert found["data"] == {"color": "red"}


async def test_what_cannot_be_stored_is_neither_used_nor_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(answering(config_map()))

    async def full(changes: Any) -> None:
        raise StoreFull("no space left")

    monkeypatch.setattr(world.objects, "apply", full)
    with pytest.raises(SourceMissing, match="no space left"):
        await world.sources.get(KEY)
    assert world.uplink.posted == []


async def test_the_newest_is_asked_for_and_the_stored_one_serves_without_an_answer() -> None:
    world = World(answering(config_map("8", color="blue")))
    world.store(config_map(color="red"))
    assert (await world.sources.get(KEY, newest=True))["data"] == {"color": "blue"}
    assert world.objects.stored[KEY].version == "8"
    world.uplink.answer = answering("away", Operation.ERROR)
    assert (await world.sources.get(KEY, newest=True))["data"] == {"color": "blue"}
    world.uplink.disconnect()
    assert (await world.sources.get(KEY, newest=True))["data"] == {"color": "blue"}
    assert len(world.uplink.asked) == 2


async def test_an_error_that_an_older_program_stored_is_no_object() -> None:
    world = World(answering(config_map(color="red")))
    world.objects.stored[KEY] = StoredObject(KEY, "", json.dumps({"ErrStatus": STATUS}).encode())
    assert (await world.sources.get(KEY))["data"] == {"color": "red"}
