"""The edge's door to MQTT: what devices say goes to the twins, what applications say to the cloud, and back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import orjson

from pinnace.core.base.contract import envelopes
from pinnace.core.base.contract.envelopes import Envelope
from pinnace.core.base.contract.keys import NodeName, ResourceKey
from pinnace.core.base.contract.topics import DEFAULT_SUBSCRIPTIONS, DEVICE_PREFIX, NODE_PREFIX
from pinnace.core.base.errors import StoreError
from pinnace.core.base.observe.health import Health
from pinnace.core.base.ports import ObjectChange, ObjectStore, Outbox
from pinnace.core.eventbus import names
from pinnace.core.eventbus.broker import Broker
from pinnace.core.eventbus.link import Arrival, BrokerLink
from pinnace.core.eventbus.settings import MODE_EXTERNAL, MODE_INTERNAL, BrokerAddress, EventBusSettings
from pinnace.core.eventbus.tls import client_context
from pinnace.core.eventbus.uploads import Uploads

logger = logging.getLogger(__name__)

FOLDER: Final = Path("/var/lib/kubeedge/mosquitto")
SUBSCRIPTION: Final = "mqttsubscription"
"""The kind under which the store keeps the topics the cloud asked for; the name is the topic."""
_CONNECTION_TOPIC: Final = "node/connection"
_SERVICEBUS: Final = frozenset({"router_servicebus", "servicebus"})


class EventBus:
    """Speaks with the brokers of the settings; implements `Bus`. `run` for ever.

    Messages below `$hw/events/device/` and `$hw/events/node/` go to the listener of `deliver_to`; all others the edge is subscribed to
    become user messages in the outbox. `objects` keeps the subscriptions the cloud asked for across restarts (without it they last as
    long as the process). `committed` returns once the outbox is on disk (TwinStore.committed): an upload of QoS 1 is acknowledged to
    its broker then, without it at once. `folder` is where a broker of our own lives.
    """

    def __init__(
        self,
        settings: EventBusSettings,
        node: NodeName,
        *,
        outbox: Outbox,
        health: Health,
        objects: ObjectStore | None = None,
        committed: Callable[[], Awaitable[None]] | None = None,
        folder: Path = FOLDER,
    ) -> None:
        self._settings = settings
        self._node = node
        self._health = health
        self._objects = objects
        self._folder = folder
        self._device: Arrival | None = None
        self._connected_listeners: list[Callable[[], None]] = []
        self._uploads = Uploads(outbox, committed=committed, redeliver=self.redeliver)
        self.broker: Broker | None = None
        """The broker of our own, in mqttMode 0 and 1."""
        self.links: list[BrokerLink] = []
        """One link a broker: our own first. None when the settings do not enable the bus; then `publish` does nothing."""
        if not settings.enable:
            return
        if settings.mqtt_mode != MODE_EXTERNAL:
            self.broker = self._make_broker()
            self.links.append(self._make_link("internal", settings.internal, qos=settings.mqtt_qos, retain=settings.mqtt_retain))
        if settings.mqtt_mode != MODE_INTERNAL:
            self.links.append(self._make_link("external", settings.external, qos=1, retain=False))
        for link in self.links:
            link.subscribe(DEFAULT_SUBSCRIPTIONS)

    def _make_broker(self) -> Broker:
        settings = self._settings
        return Broker(
            settings.internal,
            folder=self._folder,
            report=lambda problem: self._health.set("eventbus.broker", problem and f"our own MQTT broker: {problem}"),
            username=settings.mqtt_username,
            password=settings.mqtt_password,
            queue_size=settings.mqtt_session_queue_size,
        )

    def _make_link(self, role: str, address: BrokerAddress, *, qos: int, retain: bool) -> BrokerLink:
        settings = self._settings
        where = f"{address.host}:{address.port}"

        def report(problem: str) -> None:
            self._health.set(f"eventbus.{role}", problem and f"the MQTT broker at {where} cannot be reached: {problem}; start or mend it")

        return BrokerLink(
            address,
            client_id=settings.mqtt_sub_client_id or f"pinnace-{self._node}",
            arrival=self._arrived,
            up=self._up,
            report=report,
            username=settings.mqtt_username,
            password=settings.mqtt_password,
            tls=(lambda: client_context(settings.event_bus_tls)) if address.secure else None,
            qos=qos,
            retain=retain,
        )

    # towards the other services

    @property
    def connected(self) -> bool:
        """Is any broker there?"""
        return any(link.connected for link in self.links)

    def deliver_to(self, listener: Arrival) -> None:
        """Who gets the messages of devices: (topic, payload, acknowledge); `acknowledge`, None for QoS 0, is called once durable."""
        self._device = listener

    def on_connected(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each connect to a broker, when the subscriptions are on their way; what it publishes goes first."""
        self._connected_listeners.append(listener)

    def publish(self, topic: str, payload: bytes) -> None:
        """Queue one publication for every broker; order is kept. Never waits."""
        for link in self.links:
            link.publish(topic, payload)

    def redeliver(self) -> None:
        """Have the brokers send again what was not acknowledged: for who could not keep it and now can."""
        for link in self.links:
            link.redeliver()

    async def cloud_connected(self) -> None:
        """The cloud is there: told to applications where the settings ask for it."""
        if self._settings.announce_connection:
            self.publish(_CONNECTION_TOPIC, b"cloud_connected")

    def cloud_lost(self) -> None:
        if self._settings.announce_connection:
            self.publish(_CONNECTION_TOPIC, b"cloud_disconnected")

    async def run(self) -> None:
        """Speak with every broker, for ever."""
        self._restore()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._uploads.run(), name="uploads")
            if self.broker is not None:
                group.create_task(self.broker.run(), name="broker")
            for link in self.links:
                group.create_task(self._run_link(link), name=f"mqtt {link.address.host}:{link.address.port}")

    async def _run_link(self, link: BrokerLink) -> None:
        if self.broker is not None and link is self.links[0]:
            await self.broker.ready.wait()
        await link.run()

    def _up(self) -> None:
        for listener in self._connected_listeners:
            listener()

    def _arrived(self, topic: str, payload: bytes, acknowledge: Callable[[], None] | None) -> None:
        if not topic.startswith((DEVICE_PREFIX, NODE_PREFIX)):
            self._uploads.put(topic, payload, acknowledge)
        elif self._device is not None:
            self._device(topic, payload, acknowledge)
        elif acknowledge is not None:
            acknowledge()

    # what the cloud asks for

    async def handle(self, envelope: Envelope) -> None:
        """A pushed message of group `user` (docs/protocol.md): subscribe, unsubscribe or publish. None of them is answered."""
        if envelope.source in _SERVICEBUS:
            return
        topic = envelope.resource
        match envelope.operation:
            case "subscribe":
                await self._subscribe(topic)
            case "unsubscribe":
                await self._unsubscribe(topic)
            case "publish":
                self._publish_for_cloud(topic, envelope)
            case "message":
                self._publish_message(envelope)
            case "get_result" if topic == "auth_info":
                self.publish(f"{NODE_PREFIX}{self._node}/authInfo/get/result", envelope.body)
            case operation:
                logger.warning("eventbus.unknown-operation operation=%s resource=%s", operation, topic[:256])

    def _publish_for_cloud(self, topic: str, envelope: Envelope) -> None:
        try:
            payload = envelopes.body_text(envelope)
        except ValueError as error:
            logger.warning("eventbus.bad-message id=%s: %s", envelope.msg_id, error)
            return
        self.publish(topic, payload)

    def _publish_message(self, envelope: Envelope) -> None:
        """KubeEdge's older form: `{"message": {..., "topic": T}}` publishes the inner object on T."""
        try:
            body: Any = envelopes.load_body(envelope)
        except ValueError:
            body = None
        inner = body.get("message") if isinstance(body, dict) else None
        topic = inner.get("topic") if isinstance(inner, dict) else None
        if not isinstance(topic, str):
            logger.warning("eventbus.bad-message id=%s: expected an object 'message' with a topic", envelope.msg_id)
            return
        self.publish(topic, orjson.dumps(inner))

    async def _subscribe(self, topic: str) -> None:
        if not names.is_filter(topic):
            logger.warning("eventbus.bad-subscription topic=%s: no filter MQTT knows", ascii(topic[:256]))
            return
        for link in self.links:
            link.subscribe([topic])
        await self._remember("insert", topic)

    async def _unsubscribe(self, topic: str) -> None:
        if topic in DEFAULT_SUBSCRIPTIONS:
            return
        for link in self.links:
            link.unsubscribe(topic)
        await self._remember("delete", topic)

    async def _remember(self, operation: str, topic: str) -> None:
        if self._objects is None or topic in DEFAULT_SUBSCRIPTIONS:
            return
        key = ResourceKey(SUBSCRIPTION, "", topic)
        if (self._objects.get(key) is not None) == (operation == "insert"):
            return
        try:
            await self._objects.apply([ObjectChange(operation, key, "", b"{}")])
        except StoreError as error:
            logger.warning("eventbus.subscription-not-kept topic=%s: %s; it lasts until the next start", topic[:256], error)

    def _restore(self) -> None:
        if self._objects is not None:
            topics = [stored.key.name for stored in self._objects.list(SUBSCRIPTION)]
            for link in self.links:
                link.subscribe(topics)
