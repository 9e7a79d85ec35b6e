"""The MQTT topics of devices and nodes, built and parsed by position from one table, in both dialects (docs/protocol.md, MQTT).

A device is named by one level (`$hw/events/device/<name>/...`, KubeEdge before 1.17) or by two (`.../<namespace>/<name>/...`). What
follows the name is a `Verb`; as no verb begins where another one ends, the number of levels tells the dialects apart, whatever words
names and namespaces are made of.
"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache
from typing import Final, NamedTuple

from pinnace.core.base.contract.keys import DeviceId

DEVICE_PREFIX: Final = "$hw/events/device/"
NODE_PREFIX: Final = "$hw/events/node/"
UPLOAD_RECORDS: Final = "SYS/dis/upload_records"


class Verb(Enum):
    """What stands behind a device's name. Clients publish the first four, the edge answers with the others."""

    TWIN_UPDATE = "twin/update"
    TWIN_GET = "twin/get"
    CLOUD_UPDATED = "twin/cloud_updated"
    STATE_UPDATE = "state/update"
    UPDATE_RESULT = "twin/update/result"
    UPDATE_DELTA = "twin/update/delta"
    UPDATE_DOCUMENT = "twin/update/document"
    GET_RESULT = "twin/get/result"
    STATE_RESULT = "state/update/result"


class NodeVerb(Enum):
    """What stands behind a node's name; clients publish MEMBERSHIP_GET."""

    MEMBERSHIP_GET = "membership/get"
    MEMBERSHIP_RESULT = "membership/get/result"
    MEMBERSHIP_UPDATED = "membership/updated"


_VERBS: Final = {tuple(verb.value.split("/")): verb for verb in Verb}
_NODE_VERBS: Final = {tuple(verb.value.split("/")): verb for verb in NodeVerb}

DEFAULT_SUBSCRIPTIONS: Final = (
    "$hw/events/upload/#",
    "$hw/events/device/+/state/update",
    "$hw/events/device/+/+/state/update",
    "$hw/events/device/+/twin/+",
    "$hw/events/device/+/+/twin/+",
    "$hw/events/node/+/membership/get",
    UPLOAD_RECORDS,
    "+/user/#",
)
"""What the edge subscribes to: KubeEdge's list in both dialects. None of it fits an answer of the edge, so answers never come back."""


class DeviceTopic(NamedTuple):
    """A parsed device topic. `levels` is the dialect, 1 or 2; a one-level name has namespace ""."""

    device: DeviceId
    verb: Verb
    levels: int


class NodeTopic(NamedTuple):
    node: str
    verb: NodeVerb


CACHED_CHARACTERS: Final = 512
"""Longer topics are not remembered: what clients publish must not fill the memory."""


def parse_device(topic: str) -> DeviceTopic | None:
    """The device, verb and dialect of a topic; None when it is no device topic of either dialect, or a name is empty."""
    return _remembered(topic) if len(topic) <= CACHED_CHARACTERS else _parse(topic)


def _parse(topic: str) -> DeviceTopic | None:
    parts = topic.split("/")
    if len(parts) < 6 or parts[0] != "$hw" or parts[1] != "events" or parts[2] != "device" or not parts[3]:
        return None
    verb = _VERBS.get(tuple(parts[4:]))
    if verb is not None:
        return DeviceTopic(DeviceId("", parts[3]), verb, 1)
    verb = _VERBS.get(tuple(parts[5:]))
    if verb is not None and parts[4]:
        return DeviceTopic(DeviceId(parts[3], parts[4]), verb, 2)
    return None


_remembered = lru_cache(maxsize=1024)(_parse)


def parse_node(topic: str) -> NodeTopic | None:
    """The node and verb of a topic; None when it is no node topic."""
    parts = topic.split("/")
    if len(parts) < 6 or parts[0] != "$hw" or parts[1] != "events" or parts[2] != "node" or not parts[3]:
        return None
    verb = _NODE_VERBS.get(tuple(parts[4:]))
    return None if verb is None else NodeTopic(parts[3], verb)


def device_path(device: DeviceId) -> str:
    """`<namespace>/<name>`, or the bare name of a device without namespace: the id on the wire and in a two-level topic."""
    return f"{device.namespace}/{device.name}" if device.namespace else device.name


def parse_device_path(path: str) -> DeviceId:
    """The inverse of `device_path`. Raises ValueError for more than two levels or an empty one."""
    levels = path.split("/")
    if len(levels) > 2 or not all(levels):
        raise ValueError(f"'{path}' is no device id: expected <namespace>/<name> or <name>")
    return DeviceId(levels[0] if len(levels) == 2 else "", levels[-1])


def device_topic(device: DeviceId, verb: Verb, levels: int = 2) -> str:
    """A device's topic in the dialect of `levels`; a device without namespace has only the one-level form."""
    name = device_path(device) if levels == 2 else device.name
    return f"{DEVICE_PREFIX}{name}/{verb.value}"


def nameless_topic(verb: Verb) -> str:
    """Where KubeEdge answers what it could not parse: the topic of a device with an empty name."""
    return f"{DEVICE_PREFIX}/{verb.value}"


def node_topic(node: str, verb: NodeVerb) -> str:
    return f"{NODE_PREFIX}{node}/{verb.value}"
