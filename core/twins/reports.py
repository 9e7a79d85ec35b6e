"""What the cloud is told of devices: through the outbox, the newest of each property."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from typing import Final

from pinnace.core.base.contract.classes import DEVICE_STATE, TWIN_REPORT
from pinnace.core.base.contract.envelopes import Envelope, Group, Operation, Source, new, new_id, now_ms
from pinnace.core.base.contract.twin import LIVE_STATES, state_report
from pinnace.core.base.errors import StoreFull
from pinnace.core.base.ports import Outbox, Uplink
from pinnace.core.twins.device import Device
from pinnace.ext.twindiff import message, twin_members

logger = logging.getLogger(__name__)

_STATE: Final = "state"
_UPSTREAM: Final = 0
"""The wire version of a cloud that is not ours."""


class Reports:
    """Puts reports into the outbox. `current` gives (device path, property) → what the cloud is to be told now, b"" for nothing.

    An upstream cloud (wire 0) shows the first report of a property as empty and the second as it is, so towards one the first is sent
    twice.
    """

    def __init__(self, outbox: Outbox, uplink: Uplink, current: Callable[[str, str], bytes]) -> None:
        self._outbox = outbox
        self._uplink = uplink
        self._current = current
        self._refused: set[tuple[str, str]] = set()
        self._repeated: dict[str, set[str]] = {}

    def start(self) -> None:
        self._outbox.compose_with(TWIN_REPORT, _compose_twins)
        self._outbox.compose_with(DEVICE_STATE, _compose_state)
        self._outbox.on_confirmed(TWIN_REPORT, self._confirmed)

    def twins(self, path: str, reports: Mapping[str, bytes]) -> None:
        """Report properties of the device under `path`. What the outbox has no room for is reported when it has."""
        for name, body in reports.items():
            refusal = self._put(path, name, body)
            if refusal and not self._refused:
                logger.warning("twins.report-waits device=%s property=%s: %s", path, name, refusal)
            if refusal:
                self._refused.add((path, name))

    def state(self, device: Device, now: int) -> bool:
        """Report a device's state (`now` in Unix milliseconds); False when the outbox has no room."""
        is_live = device.state.lower() in LIVE_STATES
        body = state_report(new_id(), now, device.id.name, device.state, device.last_online if is_live else None)
        try:
            self._outbox.put(DEVICE_STATE, device.path, _STATE, body)
        except StoreFull as error:
            logger.warning("twins.state-lost device=%s state=%s: %s", device.path, device.state, error)
            return False
        return True

    def forget(self, path: str) -> None:
        """The device is gone, and with it what was to be told of it: a cloud that does not know it would never confirm that."""
        self._outbox.discard(TWIN_REPORT, path)
        self._outbox.discard(DEVICE_STATE, path)
        self._repeated.pop(path, None)
        self._refused = {each for each in self._refused if each[0] != path}
        self._retry()

    def _confirmed(self, path: str, names: Collection[str]) -> None:
        if self._uplink.peer_wire == _UPSTREAM:
            told = self._repeated.setdefault(path, set())
            self._again(path, [name for name in names if name not in told])
            told.update(names)
        self._retry()

    def _retry(self) -> None:
        """There may be room again for what was refused."""
        for path, name in sorted(self._refused):
            body = self._current(path, name)
            if body and self._put(path, name, body):
                return
            self._refused.discard((path, name))

    def _put(self, path: str, name: str, body: bytes) -> str:
        """Why the outbox does not take it, "" when it does."""
        try:
            self._outbox.put(TWIN_REPORT, path, name, body)
        except StoreFull as error:
            return str(error)
        return ""

    def _again(self, path: str, names: Collection[str]) -> None:
        self.twins(path, {name: body for name in names if (body := self._current(path, name))})


def _compose_twins(path: str, items: Mapping[str, bytes]) -> Envelope:
    content = message(new_id(), now_ms(), twin_members(items))
    return new(Source.TWIN, Group.RESOURCE, Operation.UPDATE, f"device/{path}/twin/edge_updated", content)


def _compose_state(path: str, items: Mapping[str, bytes]) -> Envelope:
    return new(Source.TWIN, Group.RESOURCE, Operation.UPDATE, f"device/{path}/state/update", items[_STATE])
