"""One device as the edge keeps it: who it is, its state, its twins, and the rows it is stored in."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import orjson

from pinnace.core.base.contract.keys import DeviceId
from pinnace.core.base.contract.moments import moment
from pinnace.core.base.contract.topics import device_path
from pinnace.core.base.contract.twin import LIVE_STATES, ordered_json
from pinnace.ext.twindiff import DeviceTwins

DEVICE_ROW: Final = ""
"""The property under which the device itself is stored."""


class Device:
    """A member of the node. `lock` is held while something about the device is on its way to disk and not yet told; `unsaved` are the
    rows that could not be written."""

    __slots__ = ("description", "id", "last_online", "lock", "reported_at", "state", "twins", "uid", "unsaved")

    def __init__(self, identity: DeviceId, *, description: str = "", uid: str = "") -> None:
        self.id = identity
        self.description = description
        self.uid = uid
        """The Device object's uid; "" when the cloud sends no objects."""
        self.state = ""
        self.last_online: int | None = None
        """Unix seconds."""
        self.reported_at = 0
        """When the state was last sent to the cloud, Unix milliseconds."""
        self.twins = DeviceTwins()
        self.lock = asyncio.Lock()
        self.unsaved: dict[str, bytes] = {}

    @property
    def path(self) -> str:
        return device_path(self.id)

    @classmethod
    def load(cls, identity: DeviceId, rows: Mapping[str, bytes]) -> tuple[Device, dict[str, str]]:
        """The device of stored rows, and property → reason for each row that cannot be read."""
        device = cls(identity)
        failed = device.twins.load({name: row for name, row in rows.items() if name != DEVICE_ROW})
        try:
            values = orjson.loads(rows.get(DEVICE_ROW, b"{}"))
        except orjson.JSONDecodeError as error:
            return device, failed | {DEVICE_ROW: str(error)}
        if isinstance(values, dict):
            device.description = str(values.get("description", ""))
            device.uid = str(values.get("uid", ""))
            device.state = str(values.get("state", ""))
            online = values.get("last_online")
            device.last_online = online if isinstance(online, int) else None
        return device, failed

    def row(self) -> bytes:
        values = {"description": self.description, "uid": self.uid, "state": self.state, "last_online": self.last_online}
        return orjson.dumps({key: value for key, value in values.items() if value})

    def take_state(self, state: str, seconds: int) -> None:
        self.state = state
        if state.lower() in LIVE_STATES:
            self.last_online = seconds

    def entry(self, *, with_twins: bool) -> bytes:
        """The device as membership names it."""
        values: dict[str, Any] = {"id": self.path, "name": self.id.name}
        if self.description:
            values["description"] = self.description
        if self.state:
            values["state"] = self.state
        if self.last_online is not None:
            values["last_online"] = moment(self.last_online)
        text = ordered_json(values)
        return text[:-1] + b"," + self.twins.members() + b"}" if with_twins and len(self.twins) else text
