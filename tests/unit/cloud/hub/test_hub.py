"""The hub over sockets that obey: who is connected, what listeners hear, and whose fault ends what."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable
from pathlib import Path

import pytest
from fakes.clock import FakeClock, settle

from pinnace.cloud.hub.hub import Hub
from pinnace.cloud.hub.outbox import Outbox
from pinnace.cloud.ports import Downlink, NodeIdentity
from pinnace.core.base.contract.envelopes import ack, reply
from pinnace.core.base.contract.keys import NodeName, ResourceKey
from pinnace.core.base.errors import LinkError
from pinnace.core.base.wire.session import Limits
from pinnace.ext import envelope as codec
from pinnace.ext.records import Envelope

NODE = NodeName("edge-1")


class FakeSocket:
    """A node's end: `say` is heard by the hub, `heard` is what the hub sent."""

    def __init__(self) -> None:
        self.heard: list[Envelope] = []
        self.closed: tuple[int, str] | None = None
        self.stuck = asyncio.Event()
        self.stuck.set()
        self._incoming: asyncio.Queue[str | Exception] = asyncio.Queue()

    async def send(self, message: str | bytes) -> None:
        await self.stuck.wait()
        self.heard.append(codec.decode(message.encode() if isinstance(message, str) else message))

    async def recv(self) -> str | bytes:
        message = await self._incoming.get()
        if isinstance(message, Exception):
            raise message
        return message

    async def ping(self, data: str | bytes | None = None) -> Awaitable[float]:
        return asyncio.sleep(0, 0.0)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        self.closed = (code, reason)
        self._incoming.put_nowait(ConnectionResetError("closed"))

    def say(self, envelope: Envelope) -> None:
        self._incoming.put_nowait(codec.encode(envelope).decode())

    def break_off(self) -> None:
        self._incoming.put_nowait(ConnectionResetError("gone"))


class World:
    def __init__(
        self, *, node_limit: int = 10, write_timeout: float = 5.0, limits: Limits | None = None, outbox: Outbox | None = None
    ) -> None:
        self.clock = FakeClock()
        self.hub = Hub(clock=self.clock, node_limit=node_limit, write_timeout=write_timeout, limits=limits, outbox=outbox)
        self.events: list[tuple[str, bool]] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.hub.on_connection(self._connection)

    async def _connection(self, node: NodeName, is_connected: bool) -> None:
        self.events.append((node, is_connected))

    async def connect(self, node: str = NODE) -> FakeSocket:
        socket = FakeSocket()
        self.tasks.append(asyncio.create_task(self.hub.serve(NodeIdentity(NodeName(node)), socket, "peer")))
        await settle()
        return socket


def push(version: int = 1) -> Downlink:
    return Downlink(ResourceKey("configmap", "ns", "a"), "update", b"{}", "edgecontroller", "resource", str(version), uid="u")


def query(number: int = 0) -> Envelope:
    return Envelope(msg_id=f"q{number}", operation="query", resource="ns/secret/a", source="edged", group="meta")


async def test_a_push_is_sent_stored_and_told() -> None:
    world = World()
    stored: list[tuple[str, Downlink]] = []

    async def note(node: NodeName, message: Downlink) -> None:
        stored.append((node, message))

    world.hub.on_stored(note)
    socket = await world.connect()
    message = push()
    world.hub.push(NODE, message)
    await settle()
    socket.say(ack(socket.heard[0]))
    await settle()
    assert stored == [(NODE, message)]


async def test_a_push_for_an_absent_node_is_left_to_the_sync_controller() -> None:
    world = World()
    world.hub.push(NODE, push())
    socket = await world.connect()
    assert socket.heard == []


async def test_a_newer_connection_replaces_the_older_one() -> None:
    world = World()
    first = await world.connect()
    second = await world.connect()
    assert first.closed is not None
    assert "replaced by a newer connection" in first.closed[1]
    assert world.hub.connected() == {NODE}
    world.hub.push(NODE, push())
    await settle()
    assert len(second.heard) == 1
    assert world.events == [(NODE, True), (NODE, False), (NODE, True)]


async def test_a_late_error_of_the_older_connection_does_not_touch_the_newer_one() -> None:
    world = World()
    first = await world.connect()
    await world.connect()
    first.break_off()
    await settle()
    assert world.hub.connected() == {NODE}


async def test_the_node_limit_lets_known_nodes_come_back() -> None:
    world = World(node_limit=1)
    await world.connect()
    refused = await world.connect("edge-2")
    assert refused.closed == (1013, "the node limit is reached")
    again = await world.connect()
    assert again.closed is None


async def test_answers_go_back_in_order() -> None:
    world = World()

    async def handle(node: NodeName, key: ResourceKey, message: Envelope) -> list[Envelope]:
        await asyncio.sleep(0)
        return [reply(message, key.name, group="resource")]

    world.hub.handle_with(handle)
    socket = await world.connect()
    for number in range(5):
        socket.say(query(number))
    await settle(60)
    assert [each.parent_id for each in socket.heard] == [f"q{number}" for number in range(5)]


@pytest.mark.parametrize("error", [LinkError("the API server cannot be reached"), RuntimeError("a fault")])
async def test_a_handler_that_fails_harms_nothing_else(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    world = World()

    async def handle(node: NodeName, key: ResourceKey, message: Envelope) -> list[Envelope]:
        if message.msg_id == "q0":
            raise error
        return [reply(message, "OK", group="resource")]

    world.hub.handle_with(handle)
    socket = await world.connect()
    socket.say(query(0))
    socket.say(query(1))
    await settle(60)
    assert [each.parent_id for each in socket.heard] == ["q1"]
    assert caplog.text.count("hub.uplink.failed node=edge-1") == 1


async def test_a_listener_that_fails_does_not_keep_the_news_from_others() -> None:
    world = World()
    heard: list[bool] = []

    async def fail(node: NodeName, is_connected: bool) -> None:
        raise RuntimeError("a fault")

    async def note(node: NodeName, is_connected: bool) -> None:
        heard.append(is_connected)

    world.hub.on_connection(fail)
    world.hub.on_connection(note)
    socket = await world.connect()
    socket.break_off()
    await settle(60)
    assert heard == [True, False]


async def test_a_node_that_flaps_faster_than_anybody_listens_loses_old_pairs_of_news() -> None:
    world = World()
    gate = asyncio.Event()
    heard: list[bool] = []

    async def slow(node: NodeName, is_connected: bool) -> None:
        await gate.wait()
        heard.append(is_connected)

    world.hub.on_connection(slow)
    for _ in range(20):
        socket = await world.connect()
        socket.break_off()
        await settle()
    await world.connect()
    gate.set()
    await settle(100)
    assert len(heard) <= 6
    assert heard[-1] is True
    assert all(before is not after for before, after in itertools.pairwise(heard))


async def test_a_node_that_reads_nothing_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    world = World(write_timeout=0.05)
    socket = await world.connect()
    socket.stuck.clear()
    world.hub.push(NODE, push())
    await asyncio.wait_for(world.tasks[0], 10)
    assert socket.closed == (1001, "the node reads nothing for 0.05 s")
    assert caplog.text.count("hub.session.ended") == 1


async def test_silence_of_thirty_seconds_ends_a_session() -> None:
    world = World()
    socket = await world.connect()
    await world.clock.advance(29)
    assert socket.closed is None
    socket.say(Envelope(msg_id="k", operation="keepalive", resource="node", source="websocket", group="resource", body=b'"ping"'))
    await settle()
    await world.clock.advance(29)
    assert socket.closed is None
    await world.clock.advance(2)
    assert socket.closed == (1001, "no keepalive for 30 s")


async def test_a_slow_handler_is_not_taken_for_a_silent_node() -> None:
    """While the hub itself does not read, it cannot blame the node."""
    world = World()
    gate = asyncio.Event()

    async def handle(node: NodeName, key: ResourceKey, message: Envelope) -> list[Envelope]:
        await gate.wait()
        return []

    world.hub.handle_with(handle)
    socket = await world.connect()
    for number in range(1_005):
        socket.say(query(number))
    await settle(2_500)
    for _ in range(4):
        await world.clock.advance(20)
    assert socket.closed is None
    gate.set()
    await settle(50)
    assert socket.closed is None


async def test_the_outbox_is_emptied_though_it_holds_more_than_the_session_takes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    outbox = Outbox(tmp_path / "outbox.db")
    await outbox.open()
    sizes = [10, 3_000, 700, 9_000, 700, 700, 10]  # the fourth can never be sent, and the session takes two of 700
    for number, size in enumerate(sizes):
        await outbox.put(NODE, Envelope(msg_id=f"u{number}", operation="publish", resource="t", group="user", body=b"1" * size))
    world = World(outbox=outbox, limits=Limits(queue_bytes=4_000, message_bytes=5_000, burst_bytes=1))
    socket = await world.connect()
    async with asyncio.timeout(10):
        while len(socket.heard) < 6 or await outbox.pending(NODE):
            await asyncio.sleep(0)
    assert [each.msg_id for each in socket.heard] == ["u0", "u1", "u2", "u4", "u5", "u6"]
    assert "hub.outbox.impossible node=edge-1" in caplog.text
    await world.hub.close()
    await outbox.close()


async def test_closing_ends_everything() -> None:
    world = World()
    sockets = [await world.connect(), await world.connect("edge-2")]
    await world.hub.close()
    await asyncio.wait_for(asyncio.gather(*world.tasks), 10)
    assert all(socket.closed == (1001, "cloudcore is going away") for socket in sockets)
    assert world.hub.connected() == frozenset()


async def test_a_node_can_be_disconnected() -> None:
    world = World()
    socket = await world.connect()
    world.hub.disconnect(NODE, "its Node was deleted")
    world.hub.disconnect(NodeName("nobody"), "x")
    await settle()
    assert socket.closed == (1001, "its Node was deleted")
