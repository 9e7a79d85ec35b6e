"""How a mapper declares a device: its properties, their types, and the plain functions that read and write them."""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from pinnace.core.base.errors import PinnaceError

PROPERTY_NAME = re.compile(r"[a-zA-Z0-9\-_.,:/@#]{1,128}")
"""What the edge accepts as a property's name (docs/protocol.md, device twins); use `fullmatch`."""

PROPERTY_VALUE = re.compile(r"[a-zA-Z0-9\-_.,:/@#]{1,512}")
"""What the edge accepts as a value's text; use `fullmatch`."""

_TRUE = frozenset({"true", "on", "1", "yes"})
_FALSE = frozenset({"false", "off", "0", "no"})


class DeviceFault(PinnaceError):
    """The device did not do it this time (no answer, a bus error); it is tried again with back-off."""

    retryable = True


class BadValue(PinnaceError, ValueError):
    """The device has no such value; it is not applied and not tried again until another one is wanted."""


class Access(Enum):
    """The words of a DeviceModel's accessMode."""

    READ_ONLY = "ReadOnly"
    READ_WRITE = "ReadWrite"


Value = str | int | float | bool
ReadFunction = Callable[[], Value | Awaitable[Value]]
WriteFunction = Callable[[Any], Awaitable[None] | None]


@dataclass(frozen=True, slots=True)
class Property:
    """One named value of a device.

    `kind` is the Python type the functions use: str, int, float or bool. `read` and `write` may be coroutine functions; plain ones run
    in the device's own thread, one at a time, so that a slow bus never holds up the mapper, unless `quick` says that they never wait.
    `every_seconds` is the read cycle; None reads on connect and after a write only.
    """

    name: str
    kind: type[Value] = str
    read: ReadFunction | None = None
    write: WriteFunction | None = None
    every_seconds: float | None = None
    quick: bool = False

    def __post_init__(self) -> None:
        if not PROPERTY_NAME.fullmatch(self.name):
            raise ValueError(f"property name {self.name!r}: expected 1-128 of letters, digits and -_.,:/@#")
        if self.read is None and self.write is None:
            raise ValueError(f"property {self.name}: expected a read or a write function")
        if self.every_seconds is not None and self.every_seconds <= 0:
            raise ValueError(f"property {self.name}: expected a read cycle above 0 seconds")

    @property
    def access(self) -> Access:
        return Access.READ_ONLY if self.write is None else Access.READ_WRITE

    @property
    def type_word(self) -> str:
        """The twin's type on MQTT: string, int, float or boolean."""
        return {str: "string", int: "int", float: "float", bool: "boolean"}[self.kind]


def decode(kind: type[Value], text: str) -> Value:
    """A desired value's text as the property's Python type. Raises BadValue."""
    try:
        if kind is bool:
            word = text.lower()
            if word in _TRUE or word in _FALSE:
                return word in _TRUE
            raise ValueError(text)
        if kind is float:
            number = float(text)
            if not math.isfinite(number):
                raise ValueError(text)
            return number
        return kind(text)
    except ValueError:
        expected = {bool: "true or false", int: "a whole number", float: "a number"}.get(kind, "a text")
        raise BadValue(f"expected {expected}, not {text!r}") from None


def encode(value: Value) -> str:
    """A value as the twins carry it: booleans as true/false, numbers in decimal without an exponent. Raises BadValue for a text that
    the edge would refuse."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if not math.isfinite(value):
            raise BadValue(f"{value} is no number a twin can carry")
        text = repr(value)
        if "e" in text:
            text = format(value, ".17f").rstrip("0").rstrip(".") if abs(value) < 1 else format(value, ".0f")
        return text
    text = str(value)
    if not PROPERTY_VALUE.fullmatch(text):
        raise BadValue(f"{text[:40]!r}: twins carry 1-512 of letters, digits and -_.,:/@#")
    return text


@dataclass(slots=True)
class Device:
    """A device and its properties. `namespace` "" stands for KubeEdge before 1.17, where devices had a bare name."""

    name: str
    namespace: str = "default"
    properties: dict[str, Property] = field(default_factory=dict)

    def add(self, item: Property) -> Property:
        if item.name in self.properties:
            raise ValueError(f"device {self.name}: property {item.name} is declared twice")
        self.properties[item.name] = item
        return item

    def add_all(self, items: Iterable[Property]) -> Device:
        for each in items:
            self.add(each)
        return self

    def reads(
        self, name: str, kind: type[Value] = str, *, every_seconds: float | None = None, quick: bool = False
    ) -> Callable[[ReadFunction], ReadFunction]:
        """Declare the decorated function as what reads the property."""

        def declare(function: ReadFunction) -> ReadFunction:
            known = self.properties.pop(name, None)
            self.add(Property(name, kind, function, known.write if known else None, every_seconds, quick))
            return function

        return declare

    def writes(self, name: str, kind: type[Value] = str, *, quick: bool = False) -> Callable[[WriteFunction], WriteFunction]:
        """Declare the decorated function as what writes the property; without a `reads`, the written value is what is reported."""

        def declare(function: WriteFunction) -> WriteFunction:
            known = self.properties.pop(name, None)
            self.add(Property(name, kind, known.read if known else None, function, known.every_seconds if known else None, quick))
            return function

        return declare

    def __iter__(self) -> Iterator[Property]:
        return iter(self.properties.values())
