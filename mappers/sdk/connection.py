"""One MQTT connection on the asyncio loop, for ever: paho does the protocol, asyncio the sockets and the timers, no thread runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.reasoncodes import ReasonCode

from pinnace.core.base.aio.backoff import Backoff
from pinnace.core.base.errors import ConfigError, LinkError

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0
KEEPALIVE_SECONDS = 30
HOUSEKEEPING_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Broker:
    """Where the broker is. The password is never shown."""

    host: str = "127.0.0.1"
    port: int = 1883
    username: str = ""
    password: str = field(default="", repr=False)

    @classmethod
    def parse(cls, url: str, *, password_file: Path | None = None) -> Broker:
        """`tcp://host:port`, `mqtt://user@host`, or `host:port` alone. Raises ConfigError."""
        parts = urlsplit(url if "://" in url else f"tcp://{url}")
        try:
            port = parts.port or 1883
        except ValueError:
            port = 0
        if parts.scheme not in {"tcp", "mqtt"} or not parts.hostname or not port:
            raise ConfigError(f"--mqtturl: expected tcp://HOST:PORT, not '{url}'")
        password = unquote(parts.password or "")
        if password_file is not None:
            try:
                password = password_file.read_text().strip()
            except OSError as error:
                raise ConfigError(f"--password-file: {password_file} cannot be read: {error.strerror}") from error
        return cls(parts.hostname, port, unquote(parts.username or ""), password)


@dataclass(frozen=True, slots=True)
class Publication:
    topic: str
    payload: bytes
    qos: int = 1


class _Client(mqtt.Client):
    """paho's client over a socket that asyncio has connected already, so that no connect ever blocks the loop."""

    prepared: socket.socket

    def _create_socket_connection(self) -> socket.socket:
        return self.prepared


class Connection:
    """Connects and reconnects with back-off for ever.

    A fresh session and client id every time: nothing stale is sent again after a reconnect, and no two mappers push each other out.
    `on_connected` subscribes and publishes what must be said; `on_message(topic, payload)` must not wait. Both run on the loop.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        name: str,
        on_connected: Callable[[], None],
        on_message: Callable[[str, bytes], None],
        on_lost: Callable[[], None] = lambda: None,
        will: Callable[[], Publication | None] = lambda: None,
        backoff: Backoff | None = None,
    ) -> None:
        self._broker = broker
        self._name = name
        self._on_connected = on_connected
        self._on_message = on_message
        self._on_lost = on_lost
        self._will = will
        self._backoff = backoff or Backoff(0.1, 10.0)
        self._client: _Client | None = None

    @property
    def is_connected(self) -> bool:
        return self._client is not None

    def publish(self, message: Publication) -> bool:
        """Hand over to the broker; False when there is no connection (the caller says everything again in `on_connected`)."""
        if self._client is None:
            return False
        return self._client.publish(message.topic, message.payload, message.qos).rc == MQTTErrorCode.MQTT_ERR_SUCCESS

    def subscribe(self, topics: Sequence[str]) -> None:
        if self._client is not None and topics:
            self._client.subscribe([(each, 1) for each in topics])

    def unsubscribe(self, topics: Sequence[str]) -> None:
        if self._client is not None and topics:
            self._client.unsubscribe(list(topics))

    def break_off(self) -> None:
        """Drop the connection without a word, as a power cut would; `run` connects again."""
        if self._client is not None:
            sock = self._client.prepared
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    async def run(self, farewell: Callable[[], Publication | None] = lambda: None) -> None:
        """Stay connected until cancelled; then publish `farewell` and leave properly."""
        is_reported = False
        while True:
            try:
                await self._session(farewell)
                logger.warning("mqtt.lost broker=%s:%d name=%s: connecting again", self._broker.host, self._broker.port, self._name)
                is_reported = False
            except (OSError, LinkError) as error:
                if not is_reported:
                    logger.warning(
                        "mqtt.unreachable broker=%s:%d name=%s error=%s: trying again until it answers",
                        self._broker.host,
                        self._broker.port,
                        self._name,
                        error,
                    )
                is_reported = True
            await asyncio.sleep(self._backoff.next())

    async def _session(self, farewell: Callable[[], Publication | None]) -> None:
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        greeted: asyncio.Future[ReasonCode] = loop.create_future()
        client = self._make_client(loop, greeted, ended)
        async with asyncio.timeout(CONNECT_SECONDS):
            client.prepared = await _connect(self._broker.host, self._broker.port)
        housekeeping: asyncio.TimerHandle | None = None

        def keep_house() -> None:
            nonlocal housekeeping
            client.loop_misc()
            housekeeping = loop.call_later(HOUSEKEEPING_SECONDS, keep_house)

        try:
            client.connect(self._broker.host, self._broker.port, KEEPALIVE_SECONDS)
            keep_house()
            async with asyncio.timeout(CONNECT_SECONDS):
                await asyncio.wait({greeted, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not greeted.done():
                raise LinkError("the broker closed the connection before greeting")
            if greeted.result().is_failure:
                raise LinkError(f"the broker refused: {greeted.result()}")
            self._client = client
            self._backoff.reset()
            logger.info("mqtt.connected broker=%s:%d name=%s", self._broker.host, self._broker.port, self._name)
            self._on_connected()
            await ended
        except asyncio.CancelledError:
            last = farewell()
            if self._client is not None:
                if last is not None:
                    self._client.publish(last.topic, last.payload, last.qos)
                self._client.disconnect()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1.0):
                        await asyncio.wait({ended})
            raise
        finally:
            if housekeeping is not None:
                housekeeping.cancel()
            was_connected = self._client is not None
            self._client = None
            _forget(client, loop)
            if was_connected:
                self._on_lost()

    def _make_client(self, loop: asyncio.AbstractEventLoop, greeted: asyncio.Future[ReasonCode], ended: asyncio.Future[None]) -> _Client:
        client = _Client(CallbackAPIVersion.VERSION2, client_id=f"pinnace-{self._name}-{secrets.token_hex(4)}", clean_session=True)
        client.suppress_exceptions = True
        client.enable_logger(logging.getLogger(f"{__name__}.paho"))
        logging.getLogger(f"{__name__}.paho").setLevel(logging.CRITICAL)
        if self._broker.username:
            client.username_pw_set(self._broker.username, self._broker.password)
        will = self._will()
        if will is not None:
            client.will_set(will.topic, will.payload, will.qos)

        def connected(_client: mqtt.Client, _data: Any, _flags: Any, code: ReasonCode, _properties: Any) -> None:
            if not greeted.done():
                greeted.set_result(code)

        def disconnected(_client: mqtt.Client, _data: Any, _flags: Any, _code: Any, _properties: Any) -> None:
            if not ended.done():
                ended.set_result(None)

        def received(_client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
            try:
                self._on_message(message.topic, bytes(message.payload))
            except Exception:
                logger.exception("mqtt.message-failed topic=%s bytes=%d: ignored", message.topic, len(message.payload))

        client.on_connect = connected
        client.on_disconnect = disconnected
        client.on_message = received

        def readable() -> None:
            try:
                client.loop_read()
            except Exception:
                logger.exception("mqtt.not-mqtt broker=%s:%d: what it sent cannot be read", self._broker.host, self._broker.port)
                loop.remove_reader(client.prepared.fileno())
                if not ended.done():
                    ended.set_result(None)

        def opened(_client: mqtt.Client, _data: Any, sock: Any) -> None:
            loop.add_reader(sock.fileno(), readable)

        def closing(_client: mqtt.Client, _data: Any, sock: Any) -> None:
            loop.remove_reader(sock.fileno())
            loop.remove_writer(sock.fileno())

        def wants_to_write(_client: mqtt.Client, _data: Any, sock: Any) -> None:
            loop.add_writer(sock.fileno(), client.loop_write)

        def has_written(_client: mqtt.Client, _data: Any, sock: Any) -> None:
            loop.remove_writer(sock.fileno())

        client.on_socket_open = opened
        client.on_socket_close = closing
        client.on_socket_register_write = wants_to_write
        client.on_socket_unregister_write = has_written
        return client


async def _connect(host: str, port: int) -> socket.socket:
    """A connected TCP socket, not yet read from; tries each address of the name."""
    loop = asyncio.get_running_loop()
    failure: OSError = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind, protocol)
        sock.setblocking(False)
        try:
            await loop.sock_connect(sock, address)
        except OSError as error:
            sock.close()
            failure = error
            continue
        except asyncio.CancelledError:
            sock.close()
            raise
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock
    raise failure


def _forget(client: _Client, loop: asyncio.AbstractEventLoop) -> None:
    """Close the socket; paho itself has done so already when it noticed the end."""
    sock = getattr(client, "prepared", None)
    if sock is not None and sock.fileno() >= 0:
        loop.remove_reader(sock.fileno())
        loop.remove_writer(sock.fileno())
        sock.close()
