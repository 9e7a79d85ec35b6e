"""The MQTT topics of one device in both dialects, and the JSON bodies on them (docs/protocol.md, device twins over MQTT)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import orjson

from pinnace.mappers.sdk.properties import Device

MEMBERSHIP_UPDATED = "$hw/events/node/+/membership/updated"


class Dialect(Enum):
    """How a device is named in topics: by its bare name (KubeEdge before 1.17) or by namespace and name; AUTO takes what is answered."""

    ONE_LEVEL = "one-level"
    TWO_LEVEL = "two-level"
    AUTO = "auto"


@dataclass(frozen=True, slots=True)
class DeviceTopics:
    """All topics of one device in one dialect."""

    identity: str

    def _of(self, suffix: str) -> str:
        return f"$hw/events/device/{self.identity}/{suffix}"

    @property
    def update(self) -> str:
        return self._of("twin/update")

    @property
    def update_result(self) -> str:
        return self._of("twin/update/result")

    @property
    def delta(self) -> str:
        return self._of("twin/update/delta")

    @property
    def document(self) -> str:
        return self._of("twin/update/document")

    @property
    def get(self) -> str:
        return self._of("twin/get")

    @property
    def get_result(self) -> str:
        return self._of("twin/get/result")

    @property
    def state(self) -> str:
        return self._of("state/update")

    @property
    def subscriptions(self) -> tuple[str, ...]:
        return (self.delta, self.document, self.get_result, self.update_result)


def topics_of(device: Device, dialect: Dialect) -> tuple[DeviceTopics, ...]:
    """The topics to listen on, the preferred form first."""
    one_level = DeviceTopics(device.name)
    two_level = DeviceTopics(f"{device.namespace or 'default'}/{device.name}")
    if dialect is Dialect.ONE_LEVEL or not device.namespace:
        return (one_level,)
    return (two_level,) if dialect is Dialect.TWO_LEVEL else (two_level, one_level)


@dataclass(frozen=True, slots=True)
class TwinText:
    """What the edge holds of one property: the texts, "" where nothing is set."""

    desired: str
    reported: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A message of the edge about the device. `code` is 0 for a success, otherwise the error's (400, 404, 500). A document's twins are
    what it calls current."""

    event_id: str
    code: int = 0
    reason: str = ""
    twins: Mapping[str, TwinText] = field(default_factory=dict)
    delta: Mapping[str, str] = field(default_factory=dict)


def parse(payload: bytes) -> Answer:
    """Decode a result or a delta; members of a wrong shape count as absent. Raises ValueError when it is no JSON object."""
    body = orjson.loads(payload)
    if not isinstance(body, dict):
        raise ValueError("expected a JSON object")  # noqa: TRY004 - the same complaint as for what is no JSON
    code = body.get("code")
    return Answer(
        _text(body.get("event_id")),
        code if isinstance(code, int) else 0,
        _text(body.get("reason")),
        {str(name): _twin(each) for name, each in _mapping(body.get("twin")).items() if isinstance(each, dict)},
        {str(name): each for name, each in _mapping(body.get("delta")).items() if isinstance(each, str) and each},
    )


def _mapping(value: Any) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _twin(value: dict[Any, Any]) -> TwinText:
    if "current" in value:
        value = _mapping(value["current"])
    return TwinText(_text(_mapping(value.get("expected")).get("value")), _text(_mapping(value.get("actual")).get("value")))


def report(event_id: str, values: Mapping[str, str], types: Mapping[str, str]) -> bytes:
    """The body of a twin update that reports `values`."""
    twins = {name: {"actual": {"value": value}, "metadata": {"type": types[name]}} for name, value in values.items()}
    return orjson.dumps({"event_id": event_id, "timestamp": now_ms(), "twin": twins})


def state(word: str) -> bytes:
    return orjson.dumps({"event_id": "", "timestamp": now_ms(), "state": word})


def get(event_id: str) -> bytes:
    return orjson.dumps({"event_id": event_id, "timestamp": now_ms()})


def now_ms() -> int:
    """Unix milliseconds."""
    return time.time_ns() // 1_000_000
