"""Messages between a node and the hub: both dialects, both directions, and what happens to them when the line is bad."""

from __future__ import annotations

import asyncio
import logging
import os
from random import Random

import pytest
from fakes.clock import FakeClock
from fakes.cutproxy import CutProxy, Plan
from rig.hub import Cloud, Edge, EdgeMaker
from rig.waiting import until

from pinnace.cloud.ports import Downlink
from pinnace.core.base.aio.clock import LoopClock
from pinnace.core.base.contract import wireversion
from pinnace.core.base.contract.envelopes import Operation, new, reply
from pinnace.core.base.contract.keys import NodeName, ResourceKey
from pinnace.core.base.errors import LinkError, ReplyTimeout
from pinnace.ext.records import Envelope

SEEDS = range(200) if os.environ.get("PINNACE_SOAK") else range(20)


@pytest.fixture(params=[0, 1], ids=["upstream", "ours"])
def wire(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """The dialect the edge offers."""
    monkeypatch.setattr(wireversion, "CURRENT", request.param)
    return int(request.param)


class HurriedClock(LoopClock):
    """Waits between attempts pass fifty times as fast."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds / 50)


async def connected(edge: Edge) -> Edge:
    edge.start()
    await until(lambda: edge.link.connected)
    return edge


def user(text: str) -> Envelope:
    return new("bus", "user", Operation.UPLOAD, "topic", text)


def bodies(cloud: Cloud, node: str = "edge-1", *, operation: str = Operation.UPLOAD) -> list[str]:
    return [message.body.decode().strip('"') for who, message in cloud.received if who == node and message.operation == operation]


async def answer_ok(node: NodeName, key: ResourceKey, message: Envelope) -> list[Envelope]:
    return [reply(message, "OK", source="devicecontroller", group="twin")] if message.operation == Operation.UPDATE else []


async def test_pushes_are_stored_in_order_and_acknowledged(cloud: Cloud, make_edge: EdgeMaker, wire: int) -> None:
    edge = await connected(make_edge())
    assert edge.link.peer_wire == wire
    for version in range(1, 51):
        cloud.push("edge-1", f"map-{version}", version)
    await until(lambda: len(cloud.stored) == 50)
    assert edge.stored == [(f"default/configmap/map-{version}", version) for version in range(1, 51)]


async def test_requests_are_answered(cloud: Cloud, make_edge: EdgeMaker, wire: int) -> None:
    async def echo(node: NodeName, key: ResourceKey, message: Envelope) -> list[Envelope]:
        return [reply(message, {"Object": {"name": key.name}, "Err": None}, source="edgecontroller", group="resource")]

    cloud.answer = echo
    edge = await connected(make_edge())
    answers = await asyncio.gather(*(edge.link.request(new("edged", "meta", "query", f"ns/secret/s{n}")) for n in range(20)))
    assert [answer.body for answer in answers] == [b'{"Object":{"name":"s%d"},"Err":null}' % n for n in range(20)]


async def test_a_request_without_answer_times_out(cloud: Cloud, make_edge: EdgeMaker) -> None:
    clock = FakeClock()
    edge = make_edge(clock=None)
    await connected(edge)
    edge.link._clock = clock
    asking = asyncio.create_task(edge.link.request(new("edged", "meta", "query", "ns/secret/s"), timeout_seconds=60.0))
    await until(lambda: cloud.received)
    await clock.advance(61)
    with pytest.raises(ReplyTimeout, match="within 60 s"):
        await asking


async def test_a_request_fails_when_the_link_breaks(cloud: Cloud, make_edge: EdgeMaker) -> None:
    edge = await connected(make_edge())
    asking = asyncio.create_task(edge.link.request(new("edged", "meta", "query", "ns/secret/s")))
    await until(lambda: cloud.received)
    cloud.hub.disconnect(NodeName("edge-1"), "a test")
    with pytest.raises(LinkError, match="broke"):
        await asking
    with pytest.raises(LinkError):
        await make_edge("edge-2").link.request(new("edged", "meta", "query", "ns/secret/s"))


async def test_a_late_answer_with_an_object_is_acknowledged(cloud: Cloud, make_edge: EdgeMaker, wire: int) -> None:
    """Otherwise an upstream cloud repeats it and holds back what follows."""
    edge = await connected(make_edge())
    key = ResourceKey("secret", "ns", "s")
    cloud.hub.push(
        NodeName("edge-1"), Downlink(key, "response", b"{}", "edgecontroller", "resource", "5", uid="u", parent_id="nobody-asks-any-more")
    )
    await until(lambda: cloud.stored)
    assert edge.stored == []


async def test_departures_are_confirmed_by_answers(cloud: Cloud, make_edge: EdgeMaker, wire: int) -> None:
    cloud.answer = answer_ok
    edge = await connected(make_edge())
    sent = [new("twin", "resource", Operation.UPDATE, f"device/default/lamp-{n}/twin/edge_updated", {}) for n in range(100)]
    for envelope in sent:
        edge.departures.put(envelope)
    await until(lambda: len(edge.departures.confirmed) == 100)
    assert edge.departures.confirmed == [envelope.msg_id for envelope in sent]
    assert not edge.departures.in_flight


async def test_departures_without_answer_are_confirmed_when_the_cloud_has_read_them(cloud: Cloud, make_edge: EdgeMaker, wire: int) -> None:
    edge = await connected(make_edge())
    for number in range(100):
        edge.departures.put(user(str(number)), confirmed=False)
    await until(lambda: len(edge.departures.confirmed) == 100)
    await until(lambda: len(cloud.received) == 100)
    assert bodies(cloud) == [str(number) for number in range(100)]


async def test_what_is_too_long_to_send_holds_up_nothing(cloud: Cloud, make_edge: EdgeMaker, caplog: pytest.LogCaptureFixture) -> None:
    edge = await connected(make_edge())
    edge.departures.put(user("x" * (33 << 20)), confirmed=False)
    edge.departures.put(user("small"), confirmed=False)
    await until(lambda: len(edge.departures.confirmed) == 2)
    assert bodies(cloud) == ["small"]
    assert "hub.departure.impossible" in caplog.text


async def test_groups_do_not_wait_for_each_other(cloud: Cloud, make_edge: EdgeMaker) -> None:
    edge = make_edge()
    held, seen = asyncio.Event(), []

    async def slow(envelope: Envelope) -> None:
        await held.wait()
        seen.append(envelope.group)

    async def quick(envelope: Envelope) -> None:
        seen.append(envelope.group)

    edge.link.deliver("user", slow)
    edge.link.deliver("twin", quick)
    await connected(edge)
    for group in ("user", "twin"):
        cloud.hub.push(
            NodeName("edge-1"), Downlink(ResourceKey("membership"), "update", b"{}", "devicecontroller", group, acknowledged=False)
        )
    await until(lambda: seen)
    assert seen == ["twin"]
    held.set()
    await until(lambda: seen == ["twin", "user"])


async def test_a_listener_that_fails_acknowledges_nothing_and_harms_nothing(
    cloud: Cloud, make_edge: EdgeMaker, caplog: pytest.LogCaptureFixture
) -> None:
    edge = make_edge()
    store = edge._store

    async def fail_once(envelope: Envelope) -> list[Envelope]:
        if envelope.resource.endswith("bad"):
            raise RuntimeError("a fault")
        return await store(envelope)

    edge.link.deliver("resource", fail_once)
    await connected(edge)
    cloud.push("edge-1", "bad", 1)
    cloud.push("edge-1", "good", 2)
    await until(lambda: cloud.stored)
    assert [message.key.name for _, message in cloud.stored] == ["good"]
    assert caplog.text.count("hub.delivery.failed") == 1


async def test_a_group_nobody_wants_is_said_once(cloud: Cloud, make_edge: EdgeMaker, caplog: pytest.LogCaptureFixture) -> None:
    await connected(make_edge())
    for _ in range(3):
        cloud.hub.push(NodeName("edge-1"), Downlink(ResourceKey("x"), "update", b"{}", "s", "taskmanager", acknowledged=False))
    await until(lambda: "hub.undeliverable" in caplog.text)
    cloud.push("edge-1", "after", 1)
    await until(lambda: cloud.stored)
    assert caplog.text.count("hub.undeliverable") == 1


async def test_listeners_hear_of_each_connection_and_may_ask(cloud: Cloud, make_edge: EdgeMaker) -> None:
    async def echo(node: NodeName, key: ResourceKey, message: Envelope) -> list[Envelope]:
        return [reply(message, "OK", group="resource")]

    cloud.answer = echo
    edge = make_edge()
    answers: list[bytes] = []

    async def ask() -> None:
        answers.append((await edge.link.request(new("edged", "meta", "query", "null/node/edge-1"))).body)

    edge.link.on_connected(ask)
    await connected(edge)
    await until(lambda: answers)
    cloud.hub.disconnect(NodeName("edge-1"), "a test")
    await until(lambda: answers == [b'"OK"', b'"OK"'])


async def test_comes_back_when_the_cloud_does(cloud: Cloud, make_edge: EdgeMaker) -> None:
    cloud.answer = answer_ok
    edge = await connected(make_edge())
    await cloud.stop()
    await until(lambda: not edge.link.connected)
    await until(lambda: edge.health.problem("cloud"))
    for number in range(10):
        edge.departures.put(user(str(number)), confirmed=False)
    await cloud.start()
    await until(lambda: edge.link.connected)
    await until(lambda: len(edge.departures.confirmed) == 10)
    assert bodies(cloud) == [str(number) for number in range(10)]
    assert edge.health.problems == {}


async def test_what_the_cloud_has_read_it_handles_although_the_line_was_cut(cloud: Cloud, make_edge: EdgeMaker) -> None:
    """And before what comes over the next connection."""
    gate = asyncio.Event()
    handled: list[str] = []

    async def slow(node: NodeName, key: ResourceKey, message: Envelope) -> list[Envelope]:
        text = message.body.decode().strip('"')
        if text == "0":
            await gate.wait()
        handled.append(text)
        return []

    cloud.answer = slow
    async with CutProxy("127.0.0.1", cloud.hub_port) as proxy:
        edge = await connected(make_edge(hub_port=proxy.port))
        for number in range(5):
            edge.departures.put(user(str(number)), confirmed=False)
        await until(lambda: len(edge.departures.confirmed) == 5)
        await proxy.cut()
        await until(lambda: cloud.events.count(("edge-1", True)) == 2)
        await until(lambda: edge.link.connected)
        edge.departures.put(user("later"), confirmed=False)
        await until(lambda: len(edge.departures.confirmed) == 6)
        gate.set()
        await until(lambda: len(handled) == 6)
    assert handled == ["0", "1", "2", "3", "4", "later"]


async def test_a_cloud_that_breaks_the_protocol_is_left_and_tried_again(
    cloud: Cloud, make_edge: EdgeMaker, caplog: pytest.LogCaptureFixture
) -> None:
    edge = await connected(make_edge())
    connection = cloud.hub._nodes[NodeName("edge-1")]
    await connection._socket.send("{")
    await until(lambda: cloud.events.count(("edge-1", True)) == 2)
    assert caplog.text.count("hub.link.violation") == 1
    await until(lambda: edge.link.connected)


async def test_a_silent_node_is_dropped_alone(make_edge_on: EdgeMaker, slow_cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    """One node's line stalls towards the cloud. Time is the hub's and the nodes' fake clock."""
    caplog.set_level(logging.INFO)
    clock = slow_cloud.clock
    assert isinstance(clock, FakeClock)
    async with CutProxy("127.0.0.1", slow_cloud.hub_port) as proxy:
        quiet, healthy = make_edge_on("quiet", hub_port=proxy.port), make_edge_on("healthy")
        for edge in (quiet, healthy):
            await connected(edge)
        await until(lambda: slow_cloud.hub.connected() == {"quiet", "healthy"})
        proxy.hold(up=True)
        for _ in range(3):
            await clock.advance(14)
            await until(lambda: _has_been_heard(slow_cloud, "healthy", clock))
        await until(lambda: slow_cloud.hub.connected() == {"healthy"})
    ends = [record.getMessage() for record in caplog.records if "hub.session.ended" in record.getMessage()]
    assert [("node=quiet" in end, "no keepalive for 30 s" in end) for end in ends] == [(True, True)]
    assert slow_cloud.events.count(("healthy", True)) == 1


def _has_been_heard(cloud: Cloud, node: str, clock: FakeClock) -> bool:
    """Whether the hub took in the keepalive of that node that is due by now: every 15 s since time 1,000."""
    session = cloud.hub._nodes[NodeName(node)]._session
    return session._beat - 30.0 >= clock.now() - 15.0


def bad_line(random: Random) -> Plan:
    at, is_up = random.randrange(1, 12_000), random.random() < 0.5
    match random.randrange(3):
        case 0:
            return Plan(corrupt_up=at if is_up else None, corrupt_down=None if is_up else at)
        case kind:
            return Plan(cut_up=at if is_up else None, cut_down=None if is_up else at, reset=kind == 1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
async def test_nothing_is_lost_or_out_of_order_over_a_line_that_keeps_breaking(cloud: Cloud, make_edge: EdgeMaker, seed: int) -> None:
    """Cuts and wrong bytes at random places in both directions while both sides push. What a real sync controller and a real outbox
    of the edge do is done here in a few lines: the newest version of each object is pushed again on connecting, what is unconfirmed
    goes out again."""
    random = Random(seed)
    objects, versions, reports = 8, 40, 150
    newest: dict[str, int] = {}
    cloud.answer = answer_ok

    async def catch_up(node: NodeName, is_connected: bool) -> None:
        if is_connected:
            for name, version in newest.items():
                cloud.push(node, name, version)

    cloud.hub.on_connection(catch_up)
    for number in range(reports // 2):  # before the node was ever there: these wait on disk
        cloud.user("edge-1", str(number))
    async with CutProxy("127.0.0.1", cloud.hub_port, seed=seed) as proxy:
        proxy.plan(*(bad_line(random) for _ in range(12)))
        edge = make_edge(hub_port=proxy.port, clock=HurriedClock())
        edge.start()

        async def push() -> None:
            for version in range(1, versions + 1):
                for number in range(objects):
                    newest[f"map-{number}"] = version
                    cloud.push("edge-1", f"map-{number}", version, b'"%s"' % (b"x" * random.randrange(500)))
                await asyncio.sleep(random.random() * 0.02)

        async def report() -> None:
            for number in range(reports):
                if number >= reports // 2:
                    cloud.user("edge-1", str(number))
                edge.departures.put(user(str(number)), confirmed=False)
                edge.departures.put(new("twin", "resource", Operation.UPDATE, "device/ns/d/twin/edge_updated", number))
                await asyncio.sleep(random.random() * 0.005)

        await asyncio.gather(push(), report())
        await until(lambda: not edge.departures.waiting and not edge.departures.in_flight)
        await until(lambda: {(name, version) for name, version in last(edge).items()} == set(newest.items()))
        await until(lambda: len(set(bodies(cloud))) == reports)
        await until(lambda: len(set(edge.user)) == reports)

    assert proxy.connections > 1
    assert list(dict.fromkeys(edge.user)) == [str(number) for number in range(reports)]
    for name in newest:
        seen = [version for resource, version in edge.stored if resource.endswith(f"/{name}")]
        assert seen == sorted(seen), name
    for operation in (Operation.UPLOAD, Operation.UPDATE):
        seen_first = list(dict.fromkeys(bodies(cloud, operation=operation)))
        assert seen_first == [str(number) for number in range(reports)], operation


def last(edge: Edge) -> dict[str, int]:
    """The version of each object that was stored last."""
    return {resource.rpartition("/")[2]: version for resource, version in edge.stored}
