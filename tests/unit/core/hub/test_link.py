"""One connection over a socket that does what the test says."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import pytest
from fakes.clock import FakeClock, settle
from fakes.outbox import FakeDepartures

from pinnace.core.base.contract.envelopes import new, reply
from pinnace.core.base.wire.session import Limits
from pinnace.core.hub.link import Link
from pinnace.ext import envelope as codec
from pinnace.ext.records import Envelope

VECTORS = Path(__file__).resolve().parents[3] / "vectors" / "kubeedge"


class FakeSocket:
    """Written messages in `sent`; what the cloud says is put into `incoming` (an exception is raised). Pongs come when `pong` is called."""

    def __init__(self) -> None:
        self.sent: list[Envelope] = []
        self.incoming: asyncio.Queue[str | bytes | Exception] = asyncio.Queue()
        self.pings: list[asyncio.Future[float]] = []
        self.closed: tuple[int, str] | None = None
        self.stuck = asyncio.Event()
        self.stuck.set()

    async def send(self, message: str | bytes) -> None:
        await self.stuck.wait()
        self.sent.append(codec.decode(message.encode() if isinstance(message, str) else message))

    async def recv(self) -> str | bytes:
        message = await self.incoming.get()
        if isinstance(message, Exception):
            raise message
        return message

    async def ping(self, data: str | bytes | None = None) -> Awaitable[float]:
        self.pings.append(asyncio.get_running_loop().create_future())
        return self.pings[-1]

    async def close(self, code: int = 1000, reason: str = "") -> None:
        self.closed = (code, reason)
        self.incoming.put_nowait(ConnectionResetError("closed"))

    def say(self, envelope: Envelope) -> None:
        self.incoming.put_nowait(codec.encode(envelope).decode())


class World:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.socket = FakeSocket()
        self.departures = FakeDepartures()
        self.arrivals: list[Envelope] = []
        self.link = Link(
            self.socket,
            wire=0,
            clock=self.clock,
            limits=Limits(),
            write_timeout=0.05,
            departures=self.departures,
            arrived=self._arrived,
        )
        self.departures.on_waiting(self.link.wake)
        self.ended = ""

    async def _arrived(self, envelope: Envelope) -> None:
        self.arrivals.append(envelope)

    async def run(self) -> None:
        try:
            self.ended = await self.link.run()
        finally:
            await self.link.close()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.run())
        await settle()
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def said(self) -> list[str]:
        return [each.operation for each in self.socket.sent]


def report(text: str = "x") -> Envelope:
    return new("twin", "resource", "update", "device/ns/d/twin/edge_updated", text)


async def test_the_first_message_is_a_keepalive_and_one_follows_every_15_seconds() -> None:
    world = World()
    async with world.running():
        assert world.said() == ["keepalive"]
        for _ in range(4):
            await world.clock.advance(15)
        assert world.said() == ["keepalive"] * 5


async def test_departures_go_out_when_they_become_due() -> None:
    world = World()
    world.departures.put(report("early"))
    async with world.running():
        assert world.said() == ["keepalive", "update"]
        world.departures.put(report("late"))
        await settle()
        assert [each.body for each in world.socket.sent[1:]] == [b'"early"', b'"late"']


async def test_what_is_not_answered_goes_out_again() -> None:
    world = World()
    async with world.running():
        world.departures.put(report())
        await settle()
        await world.clock.advance(6)
        assert world.said().count("update") == 2


async def test_a_pong_confirms_what_was_written_before_its_ping() -> None:
    world = World()
    first, second = (new("bus", "user", "upload", "t", text) for text in "ab")
    async with world.running():
        world.departures.put(first, confirmed=False)
        await settle()
        world.departures.put(second, confirmed=False)
        await settle()
        assert len(world.socket.pings) == 1
        world.socket.pings[0].set_result(0.0)
        await settle()
        assert world.departures.confirmed == [first.msg_id]
        world.socket.pings[1].set_result(0.0)
        await settle()
        assert world.departures.confirmed == [first.msg_id, second.msg_id]


async def test_without_a_pong_it_is_recalled() -> None:
    world = World()
    async with world.running():
        world.departures.put(new("bus", "user", "upload", "t", "a"), confirmed=False)
        await settle()
    assert world.departures.confirmed == []
    assert len(world.departures.waiting) == 1


async def test_a_cloud_that_reads_nothing_is_left() -> None:
    world = World()
    world.socket.stuck.clear()
    task = asyncio.create_task(world.run())
    await asyncio.wait_for(task, 10)
    assert world.ended == "the cloud reads nothing for 0.05 s"
    assert world.socket.closed == (1000, world.ended)


@pytest.mark.parametrize("message", ["{", '{"header":{"msg_id":1}}', b"\xff"])
async def test_garbage_ends_the_connection(message: str | bytes, caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    async with world.running():
        world.socket.incoming.put_nowait(message)
        await settle()
        assert world.ended.startswith("the cloud broke the protocol")
    assert caplog.text.count("hub.link.violation") == 1


async def test_what_had_arrived_before_the_end_is_taken_in() -> None:
    world = World()
    async with world.running():
        world.link.finish("a test")
        for number in range(3):
            world.socket.say(reply(report(), str(number)))
        await settle()
    assert [each.body for each in world.arrivals] == [b'"0"', b'"1"', b'"2"']
    assert world.ended == "a test"


async def test_arrivals_are_handed_over_one_after_the_other() -> None:
    world = World()
    gate = asyncio.Event()
    order: list[str] = []

    async def slow(envelope: Envelope) -> None:
        order.append(f"begin {envelope.msg_id}")
        await gate.wait()
        order.append(f"end {envelope.msg_id}")

    world.link._arrived = slow
    async with world.running():
        for name in "ab":
            world.socket.say(Envelope(msg_id=name, operation="update", resource="r", group="twin"))
        await settle()
        gate.set()
        await settle()
        assert order == ["begin a", "end a", "begin b", "end b"]


async def test_control_messages_are_answered() -> None:
    """KubeEdge's transport answers `config`, `ping` and `pong` itself."""
    world = World()
    async with world.running():
        world.socket.say(Envelope(msg_id="q", operation="config", resource="r", source="s", group="g"))
        await settle()
        answer = world.socket.sent[-1]
        assert (answer.parent_id, answer.operation, answer.body) == ("q", "response", b'"ack"')
        assert world.arrivals == []


def recorded() -> list[str]:
    """What an upstream cloudcore sent."""
    lines = (VECTORS / "edge-to-upstream-cloud.jsonl").read_text().splitlines()
    frames = [json.loads(line) for line in lines]
    return [frame["text"] for frame in frames if frame["from"] == "cloud"]


async def test_takes_in_everything_an_upstream_cloud_was_seen_to_send() -> None:
    world = World()
    messages = recorded()
    async with world.running():
        for message in messages:
            world.socket.incoming.put_nowait(message)
            await settle(3)
        assert world.ended == ""
    assert len(world.arrivals) == len(messages) > 100
    assert {each.group for each in world.arrivals} <= {"resource", "twin", "user", "taskmanager", ""}
