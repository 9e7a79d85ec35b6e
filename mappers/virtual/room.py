"""A heated room that exists only here: how a device is declared to the sdk.

A property that is read has a function that returns its value now; one that can be set has a function that takes the wanted value.
They may be plain functions or coroutines. Raise `BadValue` for what the device cannot do, `DeviceFault` when it should be tried again.
"""

from __future__ import annotations

import time

from pinnace.mappers.sdk import BadValue, Device

COLDEST, WARMEST = 5.0, 30.0
HALF_WAY_SECONDS = 10.0


class Room:
    """Moves towards its target: half of the difference every ten seconds."""

    def __init__(self, temperature: float = 18.0, target: float = 18.0) -> None:
        self._temperature = temperature
        self._target = target
        self._since = time.monotonic()

    def temperature(self) -> float:
        share: float = 0.5 ** ((time.monotonic() - self._since) / HALF_WAY_SECONDS)
        return self._target + (self._temperature - self._target) * share

    def heat_to(self, target: float) -> None:
        self._temperature, self._since = self.temperature(), time.monotonic()
        self._target = target

    @property
    def target(self) -> float:
        return self._target


def declare(device: Device, room: Room) -> Device:
    """Make the room's properties the device's."""

    @device.reads("temperature", float, every_seconds=1.0, quick=True)
    def temperature() -> float:
        return round(room.temperature(), 1)

    @device.writes("target", float, quick=True)
    def heat_to(wanted: float) -> None:
        if not COLDEST <= wanted <= WARMEST:
            raise BadValue(f"expected {COLDEST:g} to {WARMEST:g} degrees, not {wanted:g}")
        room.heat_to(wanted)

    @device.reads("target", float, quick=True)
    def target() -> float:
        return room.target

    @device.reads("heating", bool, every_seconds=1.0, quick=True)
    def heating() -> bool:
        return room.target > room.temperature() + 0.05

    return device
