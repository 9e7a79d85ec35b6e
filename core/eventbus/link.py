"""One connection to one broker: paho's client driven by the event loop, no thread, reconnecting for ever."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Iterable
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from pinnace.core.base.aio.backoff import Backoff
from pinnace.core.base.errors import LinkError
from pinnace.core.eventbus.pending import Publications
from pinnace.core.eventbus.settings import BrokerAddress
from pinnace.core.eventbus.sockets import BufferedSocket, open_socket

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT = 10.0
KEEPALIVE = 30
IN_FLIGHT = 1000
"""Publications given to the broker and not yet acknowledged; what comes meanwhile waits in `Publications`."""

Arrival = Callable[[str, bytes, Callable[[], None] | None], None]
"""(topic, payload, acknowledge): called for each message; `acknowledge` is None for QoS 0, else it is called once it is on disk."""


class _Client(paho.Client):  # type: ignore[misc]
    """paho with a socket that is already open: opening one inside paho would block the loop."""

    opened: BufferedSocket

    def _create_socket(self) -> BufferedSocket:
        return self.opened


class BrokerLink:
    """Speaks with a broker; `run` for ever. The session is persistent: what is published while we are away waits in the broker."""

    def __init__(
        self,
        address: BrokerAddress,
        *,
        client_id: str,
        arrival: Arrival,
        up: Callable[[], None],
        username: str = "",
        password: str = "",
        tls: ssl.SSLContext | None = None,
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
        self._arrival = arrival
        self._up = up
        self._tls = tls
        self._qos = qos
        self._retain = retain
        self._backoff = backoff or Backoff(0.2, 5.0)
        self._pending = Publications(f"{address.host}:{address.port}")
        self._in_flight = 0
        self._generation = 0
        self._flushing = False
        self._lost = asyncio.Event()
        self._accepted: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client = self._make_client(client_id, username, password)

    def _make_client(self, client_id: str, username: str, password: str) -> _Client:
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
        client.on_socket_unregister_write = self._stop_writing
        client.on_socket_close = self._stop_watching
        client.host = self.address.host
        client.port = self.address.port
        client.keepalive = KEEPALIVE
        return client

    # the connection

    async def run(self) -> None:
        """Connect, serve, and connect again, for ever."""
        self._loop = asyncio.get_running_loop()
        complained = False
        try:
            while True:
                try:
                    async with asyncio.timeout(CONNECT_TIMEOUT):
                        await self._connect()
                except (OSError, LinkError, TimeoutError) as error:
                    if not complained:
                        reason = str(error) or "no answer in time"
                        logger.warning("mqtt.unreachable server=%s:%d: %s; trying on", self.address.host, self.address.port, reason)
                        complained = True
                else:
                    complained = False
                    self._backoff.reset()
                    logger.info("mqtt.connected server=%s:%d", self.address.host, self.address.port)
                    await self._serve()
                    logger.warning("mqtt.lost server=%s:%d", self.address.host, self.address.port)
                self._close()
                await asyncio.sleep(self._backoff.next())
        finally:
            self._client.disconnect()
            self._client.loop_write()
            self._close()

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        self._lost.clear()
        self._client.opened = await open_socket(self.address, self._tls)
        self._generation += 1
        self._accepted = loop.create_future()
        self._client.reconnect()
        loop.add_reader(self._client.opened.fileno(), self._readable)
        self._flush()
        await self._accepted

    async def _serve(self) -> None:
        self._subscribe(self.topics)
        self._up()
        self._drain()
        while not self._lost.is_set():
            try:
                async with asyncio.timeout(KEEPALIVE / 3):
                    await self._lost.wait()
            except TimeoutError:
                self._client.loop_misc()

    def _close(self) -> None:
        self.connected = False
        self.subscribed.clear()
        opened = getattr(self._client, "opened", None)
        if opened is not None and opened.fileno() >= 0:
            self._stop_watching(None, None, opened)
            opened.close()

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
        self.connected = False
        if self._accepted is not None and not self._accepted.done():
            self._accepted.set_exception(LinkError(f"closed while connecting: {reason}"))
        self._lost.set()

    def _on_subscribe(self, _client: Any, _userdata: Any, _mid: int, reasons: Iterable[Any], _properties: Any) -> None:
        for reason in reasons:
            if reason.is_failure:
                logger.error("mqtt.subscription-refused server=%s:%d: %s", self.address.host, self.address.port, reason)
        self.subscribed.set()

    def _on_publish(self, _client: Any, _userdata: Any, _mid: int, _reason: Any, _properties: Any) -> None:
        self._in_flight = max(0, self._in_flight - 1)
        if self._pending and self._loop is not None:
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
        except Exception:  # noqa: BLE001 - one bad message must not end the connection
            logger.exception("mqtt.message-failed topic=%s", topic[:256])
            acknowledge()

    # reading and writing

    def _readable(self) -> None:
        client = self._client
        while client.loop_read() == MQTTErrorCode.MQTT_ERR_SUCCESS and client.opened.buffered:
            pass
        if client.socket() is not None and client.want_write():
            self._flush()

    def _flush_soon(self) -> None:
        if not self._flushing and self._loop is not None:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        client = self._client
        if client.socket() is None:
            return
        client.loop_write()
        if client.socket() is not None and client.want_write() and self._loop is not None:
            self._loop.add_writer(client.opened.fileno(), self._flush)

    def _stop_writing(self, _client: Any, _userdata: Any, sock: Any) -> None:
        if self._loop is not None and sock.fileno() >= 0:
            self._loop.remove_writer(sock.fileno())

    def _stop_watching(self, _client: Any, _userdata: Any, sock: Any) -> None:
        if self._loop is not None and sock.fileno() >= 0:
            self._loop.remove_reader(sock.fileno())
            self._loop.remove_writer(sock.fileno())

    # what the service asks for

    def publish(self, topic: str, payload: bytes) -> None:
        """Queue one publication, in order, whether or not the broker is there. Never waits."""
        self._pending.put(topic, payload)
        if self.connected:
            self._drain()

    def _drain(self) -> None:
        while self.connected and self._in_flight < IN_FLIGHT and self._pending:
            topic, payload = self._pending.take()
            try:
                self._client.publish(topic, payload, self._qos, self._retain)
            except ValueError as error:
                logger.warning("mqtt.unpublishable topic=%s: %s", topic[:256], error)
                continue
            if self._qos:
                self._in_flight += 1

    def subscribe(self, topics: Iterable[str]) -> None:
        """Subscribe now and after every connect."""
        fresh = set(topics) - self.topics
        self.topics |= fresh
        if self.connected:
            self._subscribe(fresh)

    def unsubscribe(self, topic: str) -> None:
        self.topics.discard(topic)
        if self.connected:
            self._client.unsubscribe(topic)

    def _subscribe(self, topics: Iterable[str]) -> None:
        wanted = [(topic, 1) for topic in sorted(topics)]
        if not wanted:
            return
        try:
            self._client.subscribe(wanted)
        except ValueError as error:
            logger.error("mqtt.bad-subscription topics=%s: %s", ",".join(topic for topic, _ in wanted)[:256], error)
