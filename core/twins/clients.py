"""Requests of clients on MQTT: each is answered, and what is wrong with one is said on its result topic (docs/protocol.md, MQTT)."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from pinnace.core.base.contract.envelopes import new_id, now_ms
from pinnace.core.base.contract.topics import DeviceTopic, NodeVerb, Verb, parse_device, parse_node
from pinnace.core.base.contract.twin import LIVE_STATES, PAYLOAD_LIMIT, STATES, parse_get, parse_state, state_answer
from pinnace.core.twins.device import DEVICE_ROW, Device
from pinnace.core.twins.publisher import Publisher
from pinnace.core.twins.reports import Reports
from pinnace.core.twins.roster import Roster
from pinnace.ext.errors import TwinError
from pinnace.ext.twindiff import DeviceTwins, message

logger = logging.getLogger(__name__)

STATE_REFRESH_MS: Final = 60_000
"""A state that did not change is stored and sent again when the last time was that long ago, for the time it was last online."""

Save = Callable[[Device, Mapping[str, bytes]], Awaitable[None]]

_RESULTS: Final = {
    Verb.TWIN_UPDATE: Verb.UPDATE_RESULT,
    Verb.CLOUD_UPDATED: Verb.UPDATE_RESULT,
    Verb.TWIN_GET: Verb.GET_RESULT,
    Verb.STATE_UPDATE: Verb.STATE_RESULT,
}


class Clients:
    """Deals with one message after another. `save` gets rows for the next group commit."""

    def __init__(self, roster: Roster, publisher: Publisher, reports: Reports, save: Save) -> None:
        self._roster = roster
        self._publisher = publisher
        self._reports = reports
        self._save = save

    async def take(self, topic: str, payload: bytes | None) -> None:
        """Deal with a message; None stands for one that was too long to keep."""
        request = parse_device(topic)
        if request is not None and request.verb in _RESULTS:
            await self._device(request, payload)
            return
        node = parse_node(topic)
        if node is not None and node.verb is NodeVerb.MEMBERSHIP_GET:
            self._members(payload)
            return
        logger.warning("twins.unknown-topic topic=%s: it is no request of a device or node", topic)

    def _members(self, payload: bytes | None) -> None:
        now = now_ms()
        try:
            self._publisher.members(parse_get(_checked(payload)), now)
        except TwinError as error:
            logger.warning("twins.refused topic=membership/get code=%d: %s", error.code, error)
            self._publisher.refuse_members(error, now)

    async def _device(self, request: DeviceTopic, payload: bytes | None) -> None:
        device = self._roster.find(request.device)
        try:
            checked = _checked(payload)
            if device is None:
                raise self._unknown(request, checked)
            async with device.lock:
                if self._roster.get(device.id) is not device:
                    raise self._unknown(request, checked)
                match request.verb:
                    case Verb.TWIN_UPDATE:
                        await self._update(request, device, checked)
                    case Verb.TWIN_GET:
                        answer = message(parse_get(checked), now_ms(), device.twins.members())
                        self._publisher.answer(request, Verb.GET_RESULT, answer)
                    case Verb.CLOUD_UPDATED:
                        await self._cloud_updated(device, checked)
                    case Verb.STATE_UPDATE:
                        await self._state(request, device, checked)
                    case _:
                        raise AssertionError(f"{request.verb} is no request")
        except TwinError as error:
            name = "/".join(request.device).lstrip("/")
            logger.warning("twins.refused device=%s request=%s code=%d: %s", name, request.verb.value, error.code, error)
            self._publisher.refuse(request, _RESULTS[request.verb], error, now_ms())

    async def _update(self, request: DeviceTopic, device: Device, payload: bytes) -> None:
        now = now_ms()
        outcome = device.twins.apply_update(payload, now)
        self._publisher.answer(request, Verb.UPDATE_RESULT, message(outcome.event_id, now, outcome.result))
        if outcome.document:
            self._publisher.document(device, outcome.event_id, now, outcome.document)
        self._publisher.delta(device, now, outcome.delta)
        if outcome.reports:
            self._reports.twins(device.path, outcome.reports)
        if outcome.rows:
            await self._save(device, outcome.rows)

    async def _cloud_updated(self, device: Device, payload: bytes) -> None:
        """Upstream takes this from any client as if the cloud had said it. Here it is a client's own word, which never outranks the
        cloud's; as there, the cloud is told of every property again."""
        now = now_ms()
        outcome = device.twins.apply_update(payload, now)
        if outcome.document:
            self._publisher.document(device, outcome.event_id, now, outcome.document)
        self._publisher.delta(device, now, outcome.delta)
        reports = {name: device.twins.report(name) for name in device.twins.names()}
        self._reports.twins(device.path, {name: body for name, body in reports.items() if body})
        if outcome.rows:
            await self._save(device, outcome.rows)

    async def _state(self, request: DeviceTopic, device: Device, payload: bytes) -> None:
        now = now_ms()
        event_id, state = parse_state(payload)
        if state.lower() not in STATES:
            raise TwinError(f"state: expected one of {', '.join(sorted(STATES))}", event_id=event_id)
        is_news = state != device.state or now - device.reported_at >= STATE_REFRESH_MS
        device.take_state(state, now // 1000)
        online = device.last_online if state.lower() in LIVE_STATES else None
        answer = state_answer(event_id or new_id(), now, device.id.name, state, online)
        self._publisher.answer(request, Verb.STATE_RESULT, answer)
        if is_news:
            device.reported_at = now if self._reports.state(device, now) else 0
            await self._save(device, {DEVICE_ROW: device.row()})

    def _unknown(self, request: DeviceTopic, payload: bytes) -> TwinError:
        """Why a request for a device we do not have is refused: what is wrong with it goes first. Raises TwinError for that."""
        if request.verb is Verb.TWIN_GET:
            event_id = parse_get(payload)
        elif request.verb is Verb.STATE_UPDATE:
            event_id = parse_state(payload).event_id
        else:
            event_id = DeviceTwins().apply_update(payload, 0).event_id
        name = "/".join(request.device).lstrip("/")
        return TwinError(f"the node has no device {name}", 404, event_id=event_id)


def _checked(payload: bytes | None) -> bytes:
    if payload is None:
        raise TwinError(f"the message is too long; at most {PAYLOAD_LIMIT} bytes are accepted")
    return payload
