"""One connection to one broker: paho's client driven by the event loop, no thread, reconnecting for ever."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import Callable, Iterable
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from pinnace.core.base.aio.backoff import Backoff
from pinnace.core.base.errors import LinkError
from pinnace.core.eventbus import names
from pinnace.core.eventbus.pending import Publications
from pinnace.core.eventbus.settings import BrokerAddress
from pinnace.core.eventbus.sockets import BufferedSocket, open_socket

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT = 10.0
KEEPALIVE = 30
IN_FLIGHT = 1000
"""Publications given to the broker and not yet acknowledged; what comes meanwhile waits in `Publications`."""
IN_FLIGHT_BYTES = 4 << 20
FRUITLESS = 5
"""Connections in a row that end without any acknowledgement of what was sent: then that is what the broker cannot stand."""
READS = 64
"""Packets read before others have their turn on the loop."""

PIECES = 100
"""After so many reads paho leaves a packet, even one that is whole with the last of them, and looks at it only when it is called again."""

Arrival = Callable[[str, bytes, Callable[[], None] | None], None]
"""(topic, payload, acknowledge): called for each message; `acknowledge` is None for QoS 0, else it is called once it is on disk."""


class _Client(paho.Client):
    """paho with a socket that is already open: opening one inside paho would block the loop."""

    opened: BufferedSocket | None = None

    def _create_socket(self) -> BufferedSocket:
        assert self.opened is not None
        return self.opened


def _reason(error: Exception) -> str:
    """In words that are the same on every event loop."""
    if isinstance(error, ConnectionError) and error.errno:
        return os.strerror(error.errno).lower()
    return str(error) or "no answer in time"


class BrokerLink:
    """Speaks with a broker; `run` for ever. The session is persistent: what is published while we are away waits in the broker.

    `report` is told what keeps us from the broker, "" after each connect; `up` is called then, when the subscriptions are on their way.
    `tls` makes the context of each connect, so that renewed certificates are used; it may raise OSError.
    """

    def __init__(
        self,
        address: BrokerAddress,
        *,
        client_id: str,
        arrival: Arrival,
        up: Callable[[], None],
        report: Callable[[str], None],
        username: str = "",
        password: str = "",
        tls: Callable[[], ssl.SSLContext] | None = None,
        qos: int = 1,
        retain: bool = False,
        backoff: Backoff | None = None,
    ) -> None:
        self.address = address
        self.connected = False
        """True between the broker's CONNACK and the loss of the connection."""
        self.subscribed = asyncio.Event()
        """Set while the broker has confirmed the subscriptions of this connection."""
        self.topics: set[str] = set()
        self._dropped_topics: set[str] = set()
        self._arrival = arrival
        self._up = up
        self._report = report
        self._tls = tls
        self._qos = qos
        self._retain = retain
        self._backoff = backoff or Backoff(0.2, 5.0)
        self._pending = Publications(f"{address.host}:{address.port}")
        self._in_flight: dict[int, int] = {}
        self._in_flight_bytes = 0
        self._answered = False
        self._fruitless = 0
        self._generation = 0
        self._gathering = False
        self._draining = False
        self._reading = False
        self._lost = asyncio.Event()
        self._accepted: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._identity = (client_id, username, password)
        self._client = self._make_client()

    def _make_client(self) -> _Client:
        client_id, username, password = self._identity
        client = _Client(CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=False, manual_ack=True, reconnect_on_failure=False)
        client.max_inflight_messages_set(0)
        if username:
            client.username_pw_set(username, password or None)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_socket_register_write = lambda *_: self._flush_soon()
        client.on_socket_close = lambda *_: self._stop_watching()
        client.host = self.address.host
        client.port = self.address.port
        client.keepalive = KEEPALIVE
        return client

    # the connection

    async def run(self) -> None:
        """Connect, serve, and connect again, for ever."""
        self._loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    async with asyncio.timeout(CONNECT_TIMEOUT):
                        await self._connect()
                except (OSError, LinkError) as error:  # TimeoutError is an OSError
                    self._report(_reason(error))
                else:
                    self._backoff.reset()
                    self._report("")
                    logger.info("mqtt.connected server=%s:%d", self.address.host, self.address.port)
                    await self._serve()
                    logger.warning("mqtt.lost server=%s:%d", self.address.host, self.address.port)
                    self._judge_loss()
                self._close()
                await asyncio.sleep(self._backoff.next())
        finally:
            self._client.disconnect()
            self._client.loop_write()
            self._close()

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        self._lost.clear()
        tls = None
        if self._tls is not None:
            tls = await asyncio.to_thread(self._tls)  # the system's authorities are a long file
        opened = self._client.opened = await open_socket(self.address, tls)
        self._generation += 1
        self._answered = False
        if not self._qos:  # the kernel may have it or not; paho forgets it
            self._forget_in_flight()
        self._accepted = loop.create_future()
        self._client.reconnect()
        loop.add_reader(opened.fileno(), self._readable)
        self._flush()
        await self._accepted

    async def _serve(self) -> None:
        self._subscribe(self.topics)
        if self._dropped_topics:
            self._client.unsubscribe(sorted(self._dropped_topics))
            self._dropped_topics.clear()
        self._up()
        self._drain()
        while not self._lost.is_set():
            try:
                async with asyncio.timeout(KEEPALIVE / 3):
                    await self._lost.wait()
            except TimeoutError:
                self._client.loop_misc()

    def _judge_loss(self) -> None:
        """Give up what is in flight when the broker hangs up on it again and again: it would never get past it."""
        self._fruitless = self._fruitless + 1 if self._in_flight and not self._answered else 0
        if self._fruitless >= FRUITLESS:
            where = f"{self.address.host}:{self.address.port}"
            logger.error("mqtt.in-flight-dropped server=%s count=%d: the broker hangs up when it gets them", where, len(self._in_flight))
            self._close()
            self._client = self._make_client()
            self._forget_in_flight()
            self._fruitless = 0

    def _forget_in_flight(self) -> None:
        self._in_flight.clear()
        self._in_flight_bytes = 0

    def _fail(self, reason: str) -> None:
        self.connected = False
        if self._accepted is not None and not self._accepted.done():
            self._accepted.set_exception(LinkError(reason))
        self._lost.set()

    def _close(self) -> None:
        self.connected = False
        self.subscribed.clear()
        self._stop_watching()
        if self._client.opened is not None:
            self._client.opened.close()

    def _stop_watching(self) -> None:
        opened = self._client.opened
        if opened is not None and self._loop is not None and opened.fileno() >= 0:
            self._loop.remove_reader(opened.fileno())
            self._loop.remove_writer(opened.fileno())

    # paho's hooks

    def _on_connect(self, _client: Any, _userdata: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        accepted = self._accepted
        if accepted is None or accepted.done():
            return
        if reason.is_failure:
            accepted.set_exception(LinkError(f"refused: {reason}; check mqttUsername and mqttPassword"))
        else:
            self.connected = True
            accepted.set_result(None)

    def _on_disconnect(self, _client: Any, _userdata: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self._fail(f"closed while connecting: {reason}")

    def _on_subscribe(self, _client: Any, _userdata: Any, _mid: int, reasons: Iterable[Any], _properties: Any) -> None:
        for reason in reasons:
            if reason.is_failure:
                logger.error("mqtt.subscription-refused server=%s:%d: %s", self.address.host, self.address.port, reason)
        self.subscribed.set()

    def _on_publish(self, _client: Any, _userdata: Any, mid: int, _reason: Any, _properties: Any) -> None:
        self._answered = True
        self._in_flight_bytes -= self._in_flight.pop(mid, 0)
        if self._pending and not self._draining and self._loop is not None:
            self._draining = True
            self._loop.call_soon(self._drain)

    def _on_message(self, _client: Any, _userdata: Any, message: Any) -> None:
        generation, number, qos = self._generation, message.mid, message.qos

        def acknowledge() -> None:
            if generation == self._generation and self.connected:  # after a reconnect the broker sends it again
                self._client.ack(number, qos)

        try:
            topic = message.topic
        except UnicodeDecodeError:
            logger.warning("mqtt.bad-topic server=%s:%d: not UTF-8, message skipped", self.address.host, self.address.port)
            acknowledge()
            return
        try:
            self._arrival(topic, bytes(message.payload), acknowledge if qos else None)
        except Exception:  # one bad message must not end the connection
            logger.exception("mqtt.message-failed topic=%s", topic[:256])
            acknowledge()

    # reading and writing

    def _readable(self) -> None:
        client, opened = self._client, self._client.opened
        if opened is None:
            return
        self._reading = True
        try:
            for _ in range(READS):
                before = opened.reads
                if client.loop_read() != MQTTErrorCode.MQTT_ERR_SUCCESS or not (opened.buffered or opened.reads - before >= PIECES):
                    break
            else:
                asyncio.get_running_loop().call_soon(self._readable)
        except Exception:  # paho stumbles over packets that are none
            logger.exception("mqtt.bad-packet server=%s:%d: it does not speak MQTT 3.1.1", self.address.host, self.address.port)
            self._fail("it does not speak MQTT 3.1.1")
            self._stop_watching()
        finally:
            self._reading = False
        if client.want_write():
            self._flush()

    def _flush_soon(self) -> None:
        """Something is to be written: when the packets at hand are read, or else at the end of this turn of the loop."""
        if not self._gathering and not self._reading and self._loop is not None:
            self._gathering = True
            self._loop.call_soon(self._end_turn)

    def _end_turn(self) -> None:
        self._gathering = False
        if self._client.want_write():
            self._flush()

    def _flush(self) -> None:
        client = self._client
        opened = client.opened
        if opened is None or self._loop is None:
            return
        while client.socket() is not None:
            client.loop_write()
            if client.socket() is None:
                return
            try:
                pushed = opened.push()
            except OSError as error:
                self._fail(f"writing failed: {error.strerror or error}")
                self._stop_watching()
                return
            if not pushed:
                self._loop.add_writer(opened.fileno(), self._flush)
                return
            if not client.want_write():
                self._loop.remove_writer(opened.fileno())
                return

    # what the service asks for

    def publish(self, topic: str, payload: bytes) -> None:
        """Queue one publication, in order, whether or not the broker is there. Never waits."""
        if not names.is_topic(topic):
            logger.warning("mqtt.unpublishable topic=%s: no topic MQTT knows", ascii(topic[:256]))
            return
        self._pending.put(topic, payload)
        if self.connected:
            self._drain()

    def _drain(self) -> None:
        self._draining = False
        first = not self._gathering and not self._reading  # it is written at once, what follows in this turn leaves together
        while self.connected and self._pending and len(self._in_flight) < IN_FLIGHT and self._in_flight_bytes < IN_FLIGHT_BYTES:
            topic, payload = self._pending.take()
            try:
                number = self._client.publish(topic, payload, self._qos, self._retain).mid
            except ValueError as error:
                logger.warning("mqtt.unpublishable topic=%s: %s", topic[:256], error)
                continue
            self._in_flight[number] = len(payload)
            self._in_flight_bytes += len(payload)
        if first and self._client.want_write():
            self._flush()

    def redeliver(self) -> None:
        """Hang up and connect again: the broker then sends again what was not acknowledged."""
        if self.connected:
            self._fail("hung up")

    def subscribe(self, topics: Iterable[str]) -> None:
        """Subscribe now and after every connect. What is no filter is refused with a log line."""
        fresh = set(topics) - self.topics
        for topic in [each for each in fresh if not names.is_filter(each)]:
            logger.warning("mqtt.bad-subscription topic=%s: no filter MQTT knows", ascii(topic[:256]))
            fresh.discard(topic)
        self.topics |= fresh
        self._dropped_topics -= fresh
        if self.connected:
            self._subscribe(fresh)

    def unsubscribe(self, topic: str) -> None:
        """Unsubscribe now, or after the next connect: the broker remembers our subscriptions while we are away."""
        if topic not in self.topics:
            return
        self.topics.discard(topic)
        if self.connected:
            self._client.unsubscribe(topic)
        else:
            self._dropped_topics.add(topic)

    def _subscribe(self, topics: Iterable[str]) -> None:
        wanted = [(topic, 1) for topic in sorted(topics)]
        if wanted:
            self._client.subscribe(wanted)
