"""Asks the edge over MQTT what it knows of its devices."""

from __future__ import annotations

from typing import Any

import orjson

from rig.mqtt import MqttClient
from rig.system import System


class Asker:
    """What the edge answers when it is asked for twins."""

    def __init__(self, system: System) -> None:
        self.answers: dict[str, Any] = {}
        self._client = MqttClient(system.mqtt_port, "asker", "$hw/events/device/+/+/twin/get/result", listener=self._heard)

    def _heard(self, topic: str, payload: bytes, _when: float) -> None:
        self.answers[topic.split("/")[4]] = orjson.loads(payload)

    async def __aenter__(self) -> Asker:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.__aexit__()

    async def ask(self, device: str) -> Any:
        """The newest answer about a device; asks anew each time."""
        self._client.publish(f"$hw/events/device/default/{device}/twin/get", b'{"event_id":"","timestamp":1}')
        return self.answers.get(device, {})


def wanted(answer: Any) -> str:
    """What an answer says is desired of the red lamp."""
    twin = (answer.get("twin") or {}).get("red") or {}
    return str((twin.get("expected") or {}).get("value", ""))
