"""A device in memory that can be broken on purpose: for trying a mapper out and for tests."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

from pinnace.mappers.sdk.properties import BadValue, Device, DeviceFault, Property, Value


class Write(NamedTuple):
    property: str
    value: Value


class SimulatedDevice:
    """Holds values, remembers every write, and fails when told to.

    `fail_next(n)` makes the next n writes raise DeviceFault; `hold()` keeps writes waiting until `release()`; `turn(name, value)` is
    somebody at the device itself. `allowed` limits a property to some values, as a real device would.
    """

    def __init__(self, values: Mapping[str, Value], *, allowed: Mapping[str, frozenset[Value]] | None = None) -> None:
        self.values: dict[str, Value] = dict(values)
        self.writes: list[Write] = []
        self._allowed = dict(allowed or {})
        self._failures = 0
        self._open = asyncio.Event()
        self._open.set()
        self._changed = asyncio.Condition()

    def device(self, name: str, namespace: str = "default", *, every_seconds: float | None = None) -> Device:
        """The declaration that a mapper serves: each value readable and writable."""
        return Device(name, namespace).add_all(self._property(each, every_seconds) for each in self.values)

    def fail_next(self, times: int = 1) -> None:
        self._failures = times

    def hold(self) -> None:
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    async def turn(self, name: str, value: Value) -> None:
        """Change a value at the device itself, past the mapper."""
        async with self._changed:
            self.values[name] = value
            self._changed.notify_all()

    async def reaches(self, name: str, value: Value) -> None:
        """Wait until the device has this value."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.values[name] == value)

    def _property(self, name: str, every_seconds: float | None) -> Property:
        async def read() -> Value:
            return self.values[name]

        async def write(value: Value) -> None:
            await self._open.wait()
            if self._failures:
                self._failures -= 1
                raise DeviceFault("simulated fault")
            if name in self._allowed and value not in self._allowed[name]:
                raise BadValue(f"expected one of {', '.join(sorted(map(str, self._allowed[name])))}, not {value!r}")
            self.writes.append(Write(name, value))
            await self.turn(name, value)

        return Property(name, type(self.values[name]), read, write, every_seconds)
