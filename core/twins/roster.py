"""Which devices the node has, and which of them a topic means. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from pinnace.core.base.contract.keys import DeviceId
from pinnace.core.twins.device import Device


class Roster:
    """Devices by id. A one-level name means the device without namespace of that name, else the one in `default`, else the only one."""

    def __init__(self) -> None:
        self._devices: dict[DeviceId, Device] = {}
        self._named: dict[str, list[Device]] = {}

    def __iter__(self) -> Iterator[Device]:
        """All devices in the order of their ids."""
        return iter([self._devices[each] for each in sorted(self._devices)])

    def __len__(self) -> int:
        return len(self._devices)

    def get(self, identity: DeviceId) -> Device | None:
        return self._devices.get(identity)

    def find(self, identity: DeviceId) -> Device | None:
        """The device a topic means; None when there is none, or several have a one-level name."""
        found = self._devices.get(identity)
        if found is not None or identity.namespace:
            return found
        same = self._named.get(identity.name, ())
        for device in same:
            if device.id.namespace == "default":
                return device
        return same[0] if len(same) == 1 else None

    def add(self, device: Device) -> None:
        self.remove(device.id)
        self._devices[device.id] = device
        self._named.setdefault(device.id.name, []).append(device)

    def remove(self, identity: DeviceId) -> Device | None:
        device = self._devices.pop(identity, None)
        if device is not None:
            same = self._named[identity.name]
            same.remove(device)
            if not same:
                del self._named[identity.name]
        return device

    def levels(self, device: Device) -> tuple[int, ...]:
        """The dialects in which a device has topics."""
        if not device.id.namespace:
            return (1,)
        return (2, 1) if self.find(DeviceId("", device.id.name)) is device else (2,)
