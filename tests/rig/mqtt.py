"""An MQTT client for tests: paho's own threaded loop, messages handed to the test's event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

Listener = Callable[[str, bytes, float], None]
"""(topic, payload, `time.perf_counter()` of arrival), called on the event loop."""


class MqttClient:
    """Connected for the length of an `async with`; reconnects by itself."""

    def __init__(self, port: int, name: str, *topics: str, listener: Listener | None = None) -> None:
        self._port = port
        self._topics = topics
        self._listener = listener
        self._ready = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=name)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = self._connected
        self._client.on_subscribe = lambda *_: self._loop.call_soon_threadsafe(self._ready.set)
        self._client.on_disconnect = lambda *_: self._loop.call_soon_threadsafe(self._ready.clear)
        self._client.on_message = self._message

    def _connected(self, client: paho.Client, *_: object) -> None:
        if self._topics:
            client.subscribe([(topic, 1) for topic in self._topics])
        else:
            self._loop.call_soon_threadsafe(self._ready.set)

    def _message(self, _client: object, _userdata: object, message: paho.MQTTMessage) -> None:
        if self._listener is not None:
            self._loop.call_soon_threadsafe(self._listener, message.topic, bytes(message.payload), time.perf_counter())

    async def __aenter__(self) -> MqttClient:
        self._loop = asyncio.get_running_loop()
        self._client.connect_async("127.0.0.1", self._port, keepalive=30)
        self._client.loop_start()
        await self.until_ready()
        return self

    async def until_ready(self) -> None:
        """Return when connected and subscribed, which a killed broker may have ended."""
        await asyncio.wait_for(self._ready.wait(), 30)

    async def __aexit__(self, *_: object) -> None:
        self._client.disconnect()
        await asyncio.to_thread(self._client.loop_stop)

    def publish(self, topic: str, payload: bytes, *, qos: int = 0) -> paho.MQTTMessageInfo:
        return self._client.publish(topic, payload, qos)
