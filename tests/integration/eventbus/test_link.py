"""The connection to a broker, against a real mosquitto."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from integration.eventbus.conftest import Link, run, seen
from integration.mosquitto import Mosquitto, Probe, make_tls
from rig.processes import free_port
from rig.waiting import until

from pinnace.core.eventbus import link as link_module
from pinnace.core.eventbus import sockets
from pinnace.core.eventbus.link import FRUITLESS, PIECES
from pinnace.core.eventbus.pending import BOUND
from pinnace.core.eventbus.settings import BusTlsSettings
from pinnace.core.eventbus.tls import client_context

pytestmark = pytest.mark.mosquitto


async def test_messages_go_both_ways(broker: Mosquitto, probe: Probe) -> None:
    probe.subscribe("down/#")
    edge = Link(broker.url)
    edge.link.subscribe(["up/#"])
    async with edge.running() as link:
        probe.publish("up/a", b"1")
        assert await edge.next() == ("up/a", b"1")
        link.publish("down/b", b"2")
        assert await seen(probe) == [("down/b", b"2")]


async def test_what_was_published_before_the_connect_arrives_in_order(broker: Mosquitto, probe: Probe) -> None:
    probe.subscribe("down/#")
    edge = Link(broker.url)
    for number in range(100):
        edge.link.publish(f"down/{number}", b"")
    edge.link.subscribe(["up/#"])
    async with edge.running():
        assert [topic for topic, _ in await seen(probe, 100)] == [f"down/{number}" for number in range(100)]


async def test_comes_back_after_the_broker_was_killed(broker: Mosquitto) -> None:
    edge = Link(broker.url)
    edge.link.subscribe(["up/#"])
    async with edge.running():
        broker.kill()
        await edge.reported("refused")
        broker.start()
        await edge.reported("")
        await edge.is_subscribed()
        with Probe(broker.url) as probe:
            probe.publish("up/again", b"x")
            assert await edge.next() == ("up/again", b"x")
        assert edge.ups == 2


async def test_gets_what_was_published_while_it_was_away(broker: Mosquitto) -> None:
    edge = Link(broker.url)
    edge.link.subscribe(["up/#"])
    async with edge.running():
        pass
    with Probe(broker.url) as probe:
        for number in range(50):
            probe.publish(f"up/{number}", b"")
    broker.stop()
    broker.start()
    fresh = Link(broker.url)
    fresh.link.subscribe(["up/#"])
    async with fresh.running():
        assert [(await fresh.next())[0] for _ in range(50)] == [f"up/{number}" for number in range(50)]


async def test_a_message_that_was_not_acknowledged_comes_again(broker: Mosquitto) -> None:
    edge = Link(broker.url, hold=True)
    edge.link.subscribe(["up/#"])
    async with edge.running():
        with Probe(broker.url) as probe:
            probe.publish("up/kept", b"")
            probe.publish("up/done", b"")
        _, _, of_kept = await edge.messages.get()
        _, _, of_done = await edge.messages.get()
        assert of_kept is not None
        assert of_done is not None
        of_done()
        with Probe(broker.url) as probe:  # the broker has read our acknowledgement once it answers what came later
            probe.subscribe("echo")
            edge.link.publish("echo", b"")
            await seen(probe)
        broker.stop()
        broker.start()
        topic, _, again = await asyncio.wait_for(edge.messages.get(), 20)
        assert topic == "up/kept"
        of_kept()  # of the lost connection: must not acknowledge anything of this one
        assert again is not None
        again()
        with Probe(broker.url) as probe:
            probe.publish("up/last", b"")
        assert await edge.next() == ("up/last", b"")


async def test_what_is_in_flight_when_the_broker_ends_is_sent_again_in_order(broker: Mosquitto) -> None:
    with Probe(broker.url, "mapper", clean=False) as mapper:
        mapper.subscribe("down/#")
    edge = Link(broker.url)
    edge.link.subscribe(["up/#"])
    async with edge.running() as link:
        broker.stop()
        for number in range(200):  # the link has not heard yet
            link.publish(f"down/{number}", b"")
        await edge.reported("refused")
        for number in range(200, 400):
            link.publish(f"down/{number}", b"")
        broker.start()
        await edge.is_subscribed()
        with Probe(broker.url, "mapper", clean=False) as mapper:
            assert [topic for topic, _ in await seen(mapper, 400)] == [f"down/{number}" for number in range(400)]


async def test_the_oldest_goes_when_too_much_waits(broker: Mosquitto, probe: Probe, caplog: pytest.LogCaptureFixture) -> None:
    probe.subscribe("down/#")
    edge = Link(broker.url)
    for number in range(BOUND + 100):
        edge.link.publish(f"down/{number}", b"")
    edge.link.subscribe(["up/#"])
    async with edge.running():
        got = [topic for topic, _ in await seen(probe, BOUND)]
    assert got == [f"down/{number}" for number in range(100, BOUND + 100)]
    assert [record.getMessage() for record in caplog.records if "mqtt.queue-drained" in record.getMessage()] == [
        f"mqtt.queue-drained server=127.0.0.1:{broker.port} dropped=100"
    ]


@pytest.mark.parametrize("qos", [0, 1])
async def test_a_burst_arrives_whole_and_in_order(broker: Mosquitto, probe: Probe, qos: int) -> None:
    count = 10_000
    edge = Link(broker.url)
    edge.link.subscribe(["up/#"])
    async with edge.running():
        for number in range(count):
            probe.publish("up/burst", b"%d" % number, qos=qos, wait=number == count - 1)
        assert [(await edge.next())[1] for _ in range(count)] == [b"%d" % number for number in range(count)]


async def test_a_burst_leaves_whole_and_in_order(broker: Mosquitto, probe: Probe) -> None:
    count = 10_000
    probe.subscribe("down/#")
    edge = Link(broker.url)
    edge.link.subscribe(["up/#"])
    async with edge.running() as link:
        taken = asyncio.create_task(seen(probe, count))
        for number in range(count):
            while len(link._pending) >= BOUND:
                await asyncio.sleep(0)
            link.publish("down/burst", b"%d" % number)
        assert [payload for _, payload in await taken] == [b"%d" % number for number in range(count)]


async def test_large_payloads_go_both_ways(broker: Mosquitto, probe: Probe) -> None:
    large = bytes(range(256)) * (5 << 12)
    probe.subscribe("down/#")
    edge = Link(broker.url)
    edge.link.subscribe(["up/#"])
    async with edge.running() as link:
        for size in (1 << 20, len(large)):
            await asyncio.to_thread(probe.publish, "up/large", large[:size])
            assert await edge.next() == ("up/large", large[:size])
            link.publish("down/large", large[:size])
            assert await seen(probe) == [("down/large", large[:size])]


async def test_retained_messages_arrive_at_each_connect_and_are_left_when_asked_for(broker: Mosquitto, probe: Probe) -> None:
    probe.publish("up/state", b"old", retain=True)
    edge = Link(broker.url, retain=True, qos=0)
    edge.link.subscribe(["up/#"])
    async with edge.running() as link:
        assert await edge.next() == ("up/state", b"old")
        link.publish("down/kept", b"x")
        await asyncio.to_thread(_until_retained, broker.url, "down/kept", b"x")


def _until_retained(url: str, topic: str, payload: bytes) -> None:
    with Probe(url) as late:
        late.subscribe(topic)
        assert late.next() == (topic, payload)


async def test_a_wrong_password_is_reported_and_tried_again(tmp_path: Path) -> None:
    with Mosquitto(tmp_path, username="pi", password="right") as broker:
        wrong = Link(broker.url, username="pi", password="wrong")
        async with wrong.running(subscribed=False):
            for _ in range(2):
                assert "mqttPassword" in await wrong.reported("efused")
        right = Link(broker.url, username="pi", password="right")
        right.link.subscribe(["up/#"])
        async with right.running():
            assert right.link.connected


async def test_tls_with_a_certificate(tmp_path: Path) -> None:
    tls = make_tls(tmp_path / "tls")
    # paho's own loop leaves a packet of PIECES reads until something else comes, here an answer to its ping.
    with Mosquitto(tmp_path, tls=tls, client_certificates=True) as broker, Probe(broker.url, tls=tls, keepalive=4) as probe:
        probe.subscribe("down/#")
        settings = BusTlsSettings(True, tls.ca, tls.client_certificate, tls.client_key)
        edge = Link(broker.url, tls=lambda: client_context(settings))
        edge.link.subscribe(["up/#"])
        large = b"x" * (3 << 20)
        async with edge.running() as link:
            await asyncio.to_thread(probe.publish, "up/a", large)
            assert await edge.next() == ("up/a", large)
            link.publish("down/a", large)
            assert await seen(probe) == [("down/a", large)]
            for number in range(2000):
                probe.publish("up/burst", b"%d" % number, wait=number == 1999)
            assert [(await edge.next())[1] for _ in range(2000)] == [b"%d" % number for number in range(2000)]


async def test_a_message_that_is_whole_with_the_last_piece_paho_reads_at_once(broker: Mosquitto, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing comes after it that would wake the link: paho must be called again although the connection is empty."""
    piece = 64
    monkeypatch.setattr(sockets, "_CHUNK", piece)
    edge = Link(broker.url)
    edge.link.subscribe(["up/#"])
    async with edge.running():
        with Probe(broker.url) as probe:
            for pieces in range(PIECES - 2, PIECES + 3):
                payload = b"x" * (piece * pieces - piece // 2)
                probe.publish("up/a", payload, wait=False)
                assert await edge.next() == ("up/a", payload)


async def test_a_broker_of_another_authority_is_refused(tmp_path: Path) -> None:
    tls, other = make_tls(tmp_path / "tls"), make_tls(tmp_path / "other")
    settings = BusTlsSettings(True, other.ca, other.client_certificate, other.client_key)
    with Mosquitto(tmp_path, tls=tls) as broker:
        edge = Link(broker.url, tls=lambda: client_context(settings))
        async with edge.running(subscribed=False):
            await edge.reported("certificate verify failed")


async def test_a_missing_certificate_file_is_named_and_used_once_it_is_there(tmp_path: Path) -> None:
    tls = make_tls(tmp_path / "tls")
    authority = tmp_path / "later.crt"
    settings = BusTlsSettings(True, authority, tls.client_certificate, tls.client_key)
    with Mosquitto(tmp_path, tls=tls) as broker:
        edge = Link(broker.url, tls=lambda: client_context(settings))
        edge.link.subscribe(["up/#"])
        async with edge.running(subscribed=False):
            assert str(authority) in await edge.reported("tlsMqttCAFile")
            authority.write_bytes(tls.ca.read_bytes())
            await edge.is_subscribed()


async def test_unsubscribing_while_away_reaches_the_broker(broker: Mosquitto) -> None:
    edge = Link(broker.url)
    edge.link.subscribe(["up/#", "gone/#"])
    async with edge.running():
        pass
    edge.link.unsubscribe("gone/#")
    async with edge.running():
        with Probe(broker.url) as probe:
            probe.publish("gone/a", b"")
            probe.publish("up/a", b"")
        assert await edge.next() == ("up/a", b"")


async def test_subscribing_and_unsubscribing_while_connected(broker: Mosquitto, probe: Probe) -> None:
    edge = Link(broker.url)
    edge.link.subscribe(["up/#"])
    async with edge.running() as link:
        probe.subscribe("echo")
        link.subscribe(["more/+", "no#good", ""])
        link.publish("echo", b"")
        await seen(probe)  # the broker has read what came before
        probe.publish("more/a", b"")
        assert await edge.next() == ("more/a", b"")
        link.unsubscribe("more/+")
        link.publish("echo", b"")
        await seen(probe)
        probe.publish("more/a", b"")
        probe.publish("up/a", b"")
        assert await edge.next() == ("up/a", b"")
    assert link.topics == {"up/#"}


@pytest.mark.parametrize("topic", ["", "a/+", "a/#", "nul\0", "line\nfeed", "surrogate\udc80", "x" * 70_000, "/" * 300])
async def test_what_no_broker_takes_is_not_sent(broker: Mosquitto, probe: Probe, topic: str) -> None:
    probe.subscribe("down/#")
    edge = Link(broker.url)
    edge.link.subscribe(["up/#"])
    async with edge.running() as link:
        link.publish(topic, b"")
        link.publish("down/good", b"")
        assert await seen(probe) == [("down/good", b"")]
        assert edge.ups == 1


async def test_gives_up_what_makes_the_broker_hang_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Mosquitto(tmp_path, extra=["max_packet_size 1000"]) as broker, Probe(broker.url) as probe:
        probe.subscribe("down/#")
        edge = Link(broker.url)
        edge.link.subscribe(["up/#"])
        async with edge.running() as link:
            link.publish("down/poison", b"x" * 2000)
            await until(lambda: "mqtt.in-flight-dropped" in caplog.text)
            link.publish("down/good", b"")
            assert await seen(probe) == [("down/good", b"")]
        assert edge.ups > FRUITLESS


@pytest.mark.parametrize("error", [ValueError("no"), RuntimeError("no")])
async def test_a_listener_that_raises_does_not_end_the_connection(broker: Mosquitto, probe: Probe, error: Exception) -> None:
    edge = Link(broker.url)
    good = edge.link._arrival

    def arrival(topic: str, payload: bytes, acknowledge: Callable[[], None] | None) -> None:
        if payload == b"bad":
            raise error
        good(topic, payload, acknowledge)

    edge.link._arrival = arrival
    edge.link.subscribe(["up/#"])
    async with edge.running():
        probe.publish("up/a", b"bad")
        probe.publish("up/a", b"good")
        assert await edge.next() == ("up/a", b"good")
        assert edge.ups == 1


# a broker that misbehaves


@contextlib.asynccontextmanager
async def fake_broker(*answers: bytes) -> AsyncIterator[str]:
    """Answers each connection's first packet with the next of `answers` (the last one for ever), then waits."""
    left = list(answers)
    open_writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_writers.append(writer)
        await reader.read(1)
        writer.write(left.pop(0) if len(left) > 1 else left[0])
        with contextlib.suppress(ConnectionError):
            while await reader.read(65536):
                pass
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in open_writers:
            writer.close()


CONNACK = b"\x20\x02\x00\x00"


def packet(topic: bytes, payload: bytes) -> bytes:
    return bytes([0x30, 2 + len(topic) + len(payload), 0, len(topic)]) + topic + payload


@pytest.mark.parametrize(
    "garbage",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x00" * 64,
        b"\xff" * 64,
        b"\x20\x00",
        b"\x20\x01\x00",
        b"\x30\x01\x00",
        b"\x20\xff\xff\xff\xff\xff",
    ],
)
async def test_a_server_that_is_no_broker_is_left_and_tried_again(garbage: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "CONNECT_TIMEOUT", 1.0)
    async with fake_broker(garbage, CONNACK) as url:
        edge = Link(url)
        async with edge.running(subscribed=False):
            assert await edge.reports.get() != ""
            await edge.reported("")
            await until(lambda: edge.link.connected)


@pytest.mark.parametrize("garbage", [b"\x30\x01\x00", b"\x30\x03\x00\xff\x00", b"\xf0\x00", b"\x90\x00", b"\x40\x00"])
async def test_garbage_after_the_connect_ends_that_connection_only(garbage: bytes) -> None:
    async with fake_broker(CONNACK + garbage, CONNACK + packet(b"up/a", b"1")) as url:
        edge = Link(url)
        async with edge.running(subscribed=False):
            assert await edge.next() == ("up/a", b"1")


async def test_a_refused_subscription_is_said(caplog: pytest.LogCaptureFixture) -> None:
    async with fake_broker(CONNACK + b"\x90\x03\x00\x01\x80") as url:
        edge = Link(url)
        edge.link.subscribe(["up/#"])
        async with edge.running():
            assert caplog.text.count("mqtt.subscription-refused") == 1


async def test_a_topic_that_is_no_utf8_is_skipped() -> None:
    async with fake_broker(CONNACK + packet(b"up/\xff", b"1") + packet(b"up/a", b"2")) as url:
        edge = Link(url)
        async with edge.running(subscribed=False):
            assert await edge.next() == ("up/a", b"2")
            assert edge.ups == 1


async def test_a_burst_in_one_piece_does_not_starve_the_loop() -> None:
    async with fake_broker(CONNACK + packet(b"up/a", b"1") * 3000) as url:
        edge = Link(url)
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        async with edge.running(subscribed=False), run(count()):
            await edge.next()
            before = turns
            for _ in range(2999):
                await edge.next()
            assert turns > before


async def test_nobody_there_is_reported_until_somebody_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    broker = Mosquitto(tmp_path)
    broker.port = free_port()
    edge = Link(broker.url)
    edge.link.subscribe(["up/#"])
    async with edge.running(subscribed=False):
        await edge.reported("refused")
        with broker:
            await edge.is_subscribed()
    assert "mqtt.connected" in caplog.text
