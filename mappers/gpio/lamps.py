"""Lamps as a device: which pin each is on, and what ON and OFF mean there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pinnace.core.base.errors import ConfigError
from pinnace.mappers.gpio.numbering import Numbering, find
from pinnace.mappers.gpio.ports import Port
from pinnace.mappers.sdk import BadValue, Device, Property
from pinnace.mappers.sdk.profile import Model

SUFFIX = "-pin-number"
NUMBERING = "pin-numbering"
"""A model's property whose defaultValue says whose numbers its pins have."""
ON, OFF = "ON", "OFF"


@dataclass(frozen=True, slots=True)
class Lamp:
    """A property and the pin, by BCM number, that shows it."""

    name: str
    bcm: int


def parse_pins(text: str, numbering: Numbering) -> tuple[Lamp, ...]:
    """`red=25,green=23` as lamps. Raises ConfigError."""
    pins: dict[str, int] = {}
    for each in text.split(","):
        name, _, number = each.strip().partition("=")
        if not name or not number.strip().isdecimal():
            raise ConfigError(f"--pins: expected NAME=NUMBER,..., not '{each.strip()}'")
        pins[name] = int(number)
    return _lamps(pins, numbering)


def from_model(model: Model, numbering: Numbering | None = None) -> tuple[Lamp, ...]:
    """The lamps of a model: each writable property NAME that has a property NAME-pin-number with the number as its default value
    (v1alpha1), or a `pin` among its visitor's settings (v1beta1). Without `numbering` the model's own word counts, wiringpi when it
    says none. Raises ConfigError."""
    numbers = {each.name: each for each in model.properties if each.name.endswith(SUFFIX)}
    pins: dict[str, int] = {}
    for each in model.properties:
        if not each.is_writable:
            continue
        if "pin" in each.settings:
            pins[each.name] = _whole(model, f"{each.name}: visitors.configData.pin", each.settings["pin"])
        elif each.name + SUFFIX in numbers:
            number = numbers[each.name + SUFFIX]
            pins[each.name] = _whole(model, f"{number.name}: defaultValue", number.default)
    if not pins:
        raise ConfigError(f"model {model.name}: expected properties NAME and NAME{SUFFIX} with the pin's number as defaultValue")
    return _lamps(pins, numbering or numbering_of(model))


def numbering_of(model: Model) -> Numbering:
    """Whose numbers a model's pins have, by its own word: the property pin-numbering, or `numbering` among a visitor's settings."""
    said = {str(each.default) for each in model.properties if each.name == NUMBERING and each.default is not None}
    said |= {str(each.settings["numbering"]) for each in model.properties if "numbering" in each.settings}
    if not said:
        return Numbering.WIRINGPI
    try:
        (word,) = said
        return Numbering(word)
    except ValueError:
        known = ", ".join(each.value for each in Numbering)
        raise ConfigError(f"model {model.name}: {NUMBERING}: expected one of {known}, not {', '.join(sorted(said))}") from None


def _whole(model: Model, place: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"model {model.name}: {place}: expected a whole number, not {value!r}")
    return value


def _lamps(pins: Mapping[str, int], numbering: Numbering) -> tuple[Lamp, ...]:
    lamps = tuple(Lamp(name, find(numbering, number).bcm) for name, number in pins.items())
    taken: dict[int, str] = {}
    for each in lamps:
        if each.bcm in taken:
            raise ConfigError(f"{taken[each.bcm]} and {each.name} are on the same pin (BCM {each.bcm})")
        taken[each.bcm] = each.name
    return lamps


class LampRow:
    """Drives lamps on a port. `active_low` is for lamps that shine while their pin is low."""

    def __init__(self, lamps: tuple[Lamp, ...], port: Port, *, active_low: bool = False) -> None:
        self._lamps = lamps
        self._port = port
        self._active_low = active_low
        for each in lamps:
            port.set_up(each.bcm)

    def declare(self, device: Device, *, every_seconds: float = 1.0) -> Device:
        """Add one ON/OFF property a lamp. The pin is read back in a cycle, so that a hand at the wiring is noticed."""
        return device.add_all(self._property(each, every_seconds) for each in self._lamps)

    def switch_off(self) -> None:
        for each in self._lamps:
            self._port.write(each.bcm, self._level(is_on=False))

    def _level(self, *, is_on: bool) -> int:
        return int(is_on != self._active_low)

    def _property(self, lamp: Lamp, every_seconds: float) -> Property:
        def read() -> str:
            return ON if self._port.read(lamp.bcm) == self._level(is_on=True) else OFF

        def write(value: str) -> None:
            word = value.upper()
            if word not in {ON, OFF}:
                raise BadValue(f"expected ON or OFF, not {value!r}")
            self._port.write(lamp.bcm, self._level(is_on=word == ON))

        return Property(lamp.name, str, read, write, every_seconds, quick=True)
