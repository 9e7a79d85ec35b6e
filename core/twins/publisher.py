"""What clients on MQTT are told of devices, in every dialect a device has (docs/protocol.md, MQTT)."""

from __future__ import annotations

from pinnace.core.base.contract.envelopes import new_id
from pinnace.core.base.contract.keys import NodeName
from pinnace.core.base.contract.topics import DeviceTopic, NodeVerb, Verb, device_topic, nameless_topic, node_topic
from pinnace.core.base.contract.twin import error_answer
from pinnace.core.base.ports import Bus
from pinnace.core.twins.device import Device
from pinnace.core.twins.roster import Roster
from pinnace.ext.errors import TwinError
from pinnace.ext.twindiff import message


class Publisher:
    """Answers go to the dialect of the request; documents and deltas to every dialect. Times are Unix milliseconds."""

    def __init__(self, node: NodeName, bus: Bus, roster: Roster) -> None:
        self._node = node
        self._bus = bus
        self._roster = roster

    def answer(self, request: DeviceTopic, verb: Verb, payload: bytes) -> None:
        self._bus.publish(device_topic(request.device, verb, request.levels), payload)

    def refuse(self, request: DeviceTopic, verb: Verb, error: TwinError, now: int) -> None:
        """Answer with an error; an update's malformed payload also where KubeEdge answers it."""
        payload = error_answer(error.event_id, now, error.code, str(error))
        self.answer(request, verb, payload)
        if error.code == 400 and verb is Verb.UPDATE_RESULT:
            self._bus.publish(nameless_topic(verb), payload)

    def document(self, device: Device, event_id: str, now: int, members: bytes) -> None:
        self._tell(device, Verb.UPDATE_DOCUMENT, message(event_id, now, members))

    def delta(self, device: Device, now: int, members: bytes) -> None:
        if members:
            self._tell(device, Verb.UPDATE_DELTA, message(new_id(), now, members))

    def membership(self, now: int, *, added: Device | None = None, removed: Device | None = None) -> None:
        arrived = b"null" if added is None else b"[" + added.entry(with_twins=True) + b"]"
        left = b"null" if removed is None else b"[" + removed.entry(with_twins=True) + b"]"
        members = b'"added_devices":' + arrived + b',"removed_devices":' + left
        self._bus.publish(node_topic(self._node, NodeVerb.MEMBERSHIP_UPDATED), message(new_id(), now, members))

    def members(self, event_id: str, now: int) -> None:
        """The answer to `membership/get`."""
        entries = b",".join([device.entry(with_twins=False) for device in self._roster])
        payload = message(event_id, now, b'"devices":[' + entries + b"]")
        self._bus.publish(node_topic(self._node, NodeVerb.MEMBERSHIP_RESULT), payload)

    def refuse_members(self, error: TwinError, now: int) -> None:
        payload = error_answer(error.event_id, now, error.code, str(error))
        self._bus.publish(node_topic(self._node, NodeVerb.MEMBERSHIP_RESULT), payload)

    def _tell(self, device: Device, verb: Verb, payload: bytes) -> None:
        for levels in self._roster.levels(device):
            self._bus.publish(device_topic(device.id, verb, levels), payload)
