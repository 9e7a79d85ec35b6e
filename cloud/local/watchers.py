"""The eyes of `pinnace up`: the pins' socket, the broker, the Kubernetes API. Each looks for ever and notes what it sees."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import Any

import orjson
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from pinnace.cloud.kube.resources import DEVICES
from pinnace.cloud.local.journal import Journal, NotSeen, Place, Sighting
from pinnace.cloud.local.ports import LOOPBACK
from pinnace.cloud.ports import KubeApi, Object
from pinnace.core.base.aio.backoff import Backoff
from pinnace.core.base.errors import LinkError, RemoteError

logger = logging.getLogger(__name__)

ON, OFF = "ON", "OFF"
_BUFFERED = 1024
"""MQTT messages that may wait for the loop; the oldest go."""


async def watch_pins(socket: str, lamps: Mapping[str, int], journal: Journal) -> None:
    """Note the pins of the lamps (name → BCM number) from the mapper's pin socket: a path, or `@NAME` for an abstract one."""
    address = "\0" + socket[1:] if socket.startswith("@") else socket
    backoff = Backoff(0.05, 1.0)
    while True:
        with contextlib.suppress(OSError, ValueError):
            reader, writer = await asyncio.open_unix_connection(address)
            with contextlib.closing(writer):
                while line := await reader.readline():
                    said = orjson.loads(line)
                    for lamp, bcm in lamps.items():
                        if str(bcm) in said["levels"]:
                            level = said["levels"][str(bcm)]
                            await journal.note(Sighting(Place.PIN, lamp, ON if level else OFF, said["ts"]))
                    backoff.reset()
        await asyncio.sleep(backoff.next())


async def watch_devices(api: KubeApi, namespace: str, name: str, journal: Journal) -> None:
    """Note what the API shows of a device: desired and reported, of v1beta1."""
    backoff = Backoff(0.1, 2.0)
    while True:
        try:
            items, version = await api.list(DEVICES, namespace)
            found = [each for each in items if each["metadata"]["name"] == name]
            await _note_device(found[0] if found else {}, journal)
            async for event in api.watch(DEVICES, namespace, resource_version=version):
                if event.type in {"ADDED", "MODIFIED", "DELETED"} and event.object["metadata"]["name"] == name:
                    await _note_device({} if event.type == "DELETED" else event.object, journal)
                backoff.reset()
        except (LinkError, RemoteError) as error:
            logger.debug("up.watch-ended error=%s", error)
        await asyncio.sleep(backoff.next())


async def _note_device(device: Object, journal: Journal) -> None:
    """Note a Device; {} is one that is gone."""
    now, version = time.time(), str((device.get("metadata") or {}).get("resourceVersion", ""))
    await journal.forget(Place.WANTED, but=desired_of(device))
    await journal.forget(Place.SHOWN, but=reported_of(device))
    for lamp, value in desired_of(device).items():
        await journal.note(Sighting(Place.WANTED, lamp, value, now, version))
    for lamp, reported in _reported(device):
        edge_version = str((reported.get("metadata") or {}).get("edgeVersion", ""))
        await journal.note(Sighting(Place.SHOWN, lamp, str(reported["value"]), now, edge_version))


def desired_of(device: Object) -> dict[str, str]:
    """Property → desired value of a v1beta1 Device."""
    properties = (device.get("spec") or {}).get("properties") or ()
    return {str(each["name"]): str(each["desired"]["value"]) for each in properties if (each.get("desired") or {}).get("value") is not None}


def reported_of(device: Object) -> dict[str, str]:
    """Property → reported value of a v1beta1 Device."""
    return {name: str(reported["value"]) for name, reported in _reported(device)}


def _reported(device: Object) -> Iterator[tuple[str, Object]]:
    for twin in (device.get("status") or {}).get("twins") or ():
        reported = twin.get("reported") or {}
        if reported.get("value") is not None:
            yield str(twin.get("propertyName")), reported


class MqttWatch:
    """Listens to a device's topics in both dialects, and can ask the edge for its twins."""

    def __init__(self, port: int, namespace: str, device: str, journal: Journal) -> None:
        self._port = port
        self._journal = journal
        self._forms = tuple(f"$hw/events/device/{each}/" for each in (f"{namespace}/{device}", device))
        self._messages: asyncio.Queue[tuple[float, str, bytes]] = asyncio.Queue(_BUFFERED)
        self._answers: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._client: mqtt.Client | None = None
        self._subscribed = asyncio.Event()

    async def connected(self) -> None:
        """Return once the broker has taken the subscriptions."""
        await self._subscribed.wait()

    async def run(self) -> None:
        async with self._connected():
            while True:
                at, topic, payload = await self._messages.get()
                try:
                    await self._look(at, topic, orjson.loads(payload))
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    logger.debug("up.odd-message topic=%s error=%s", topic, error)

    async def ask(self, *, seconds: float = 5.0) -> dict[str, str]:
        """Property → desired value as the edge itself has it now. Raises NotSeen when it does not answer."""
        event = f"up-{secrets.token_hex(6)}"
        self._answers[event] = answer = asyncio.get_running_loop().create_future()
        try:
            if self._client is not None:
                self._client.publish(self._forms[0] + "twin/get", orjson.dumps({"event_id": event, "timestamp": 0}), 1)
            async with asyncio.timeout(seconds):
                twins = await answer
        except TimeoutError:
            raise NotSeen(f"the edge did not answer on MQTT within {seconds:g} s") from None
        finally:
            del self._answers[event]
        return dict(_texts(twins, "expected"))

    async def _look(self, at: float, topic: str, body: dict[str, Any]) -> None:
        suffix = next((topic.removeprefix(form) for form in self._forms if topic.startswith(form)), "")
        if suffix == "twin/update/delta":
            for lamp, value in (body.get("delta") or {}).items():
                if isinstance(value, str):
                    await self._journal.note(Sighting(Place.DELTA, lamp, value, at))
        elif suffix == "twin/update":
            for lamp, value in _texts(body.get("twin") or {}, "actual"):
                await self._journal.note(Sighting(Place.REPORT, lamp, value, at))
        elif suffix == "twin/get/result":
            waiting = self._answers.get(str(body.get("event_id", "")))
            if waiting is not None and not waiting.done():
                waiting.set_result(body.get("twin") or {})

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[None]:
        """paho on a thread of its own; it connects again by itself."""
        loop = asyncio.get_running_loop()
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"pinnace-up-{secrets.token_hex(4)}")
        client.reconnect_delay_set(1, 2)

        def connected(*_: Any) -> None:
            client.subscribe(
                [(form + suffix, 1) for form in self._forms for suffix in ("twin/update", "twin/update/delta", "twin/get/result")]
            )

        def arrived(_client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._put, (time.time(), message.topic, bytes(message.payload)))

        def subscribed(*_: Any) -> None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._subscribed.set)

        client.on_connect = connected
        client.on_subscribe = subscribed
        client.on_message = arrived
        client.connect_async(LOOPBACK, self._port, 30)
        client.loop_start()
        self._client = client
        try:
            yield
        finally:
            self._client = None
            client.disconnect()
            await asyncio.to_thread(client.loop_stop)

    def _put(self, message: tuple[float, str, bytes]) -> None:
        if self._messages.full():
            self._messages.get_nowait()
        self._messages.put_nowait(message)


def _texts(twins: Mapping[str, Any], side: str) -> Iterable[tuple[str, str]]:
    for name, twin in twins.items():
        value = ((twin or {}).get(side) or {}).get("value")
        if isinstance(value, str):
            yield name, value
