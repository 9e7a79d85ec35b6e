"""Lamps from models and flags, and what ON and OFF do to pins."""

from __future__ import annotations

from pathlib import Path

import pytest

from pinnace.core.base.errors import ConfigError
from pinnace.mappers.gpio.lamps import Lamp, LampRow, from_model, parse_pins
from pinnace.mappers.gpio.numbering import Numbering
from pinnace.mappers.gpio.ports import SimulatedPort, WatchedPort
from pinnace.mappers.sdk import BadValue, Device
from pinnace.mappers.sdk.profile import Model, ModelProperty, load

SAMPLE = Path(__file__).resolve().parents[4] / "build/samples/traffic-light/model.yaml"


def model(*properties: ModelProperty) -> Model:
    return Model("light", properties)


def lamp(name: str, **settings: object) -> ModelProperty:
    return ModelProperty(name, "string", True, settings=settings)


def number(name: str, value: object) -> ModelProperty:
    return ModelProperty(name, "int", False, value)  # type: ignore[arg-type]


def test_the_sample_has_wiringpi_numbers() -> None:
    (sample,) = load(SAMPLE)
    assert from_model(sample) == (Lamp("red", 26), Lamp("yellow", 19), Lamp("green", 13))


def test_the_flag_wins_over_the_models_word() -> None:
    made = model(lamp("red"), number("red-pin-number", 12), number("pin-numbering", "bcm"))
    assert from_model(made) == (Lamp("red", 12),)
    assert from_model(made, Numbering.BOARD) == (Lamp("red", 18),)


def test_a_v1beta1_model_has_the_pin_with_its_visitor() -> None:
    assert from_model(model(lamp("red", pin=33, numbering="board"))) == (Lamp("red", 13),)


@pytest.mark.parametrize(
    ("made", "complaint"),
    [
        (model(lamp("red")), "red|NAME-pin-number"),
        (model(lamp("red"), number("red-pin-number", "25")), "red-pin-number: defaultValue: expected a whole number, not '25'"),
        (model(lamp("red"), number("red-pin-number", True)), "expected a whole number, not True"),
        (
            model(lamp("red"), number("red-pin-number", 1), lamp("green"), number("green-pin-number", 1)),
            "red and green are on the same pin",
        ),
        (model(lamp("red", pin=1, numbering="physical")), "expected one of bcm, board, wiringpi, not physical"),
    ],
)
def test_a_model_that_cannot_be_wired_is_refused(made: Model, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        from_model(made)


def test_pins_from_the_flag() -> None:
    assert parse_pins("red=25, green=23", Numbering.WIRINGPI) == (Lamp("red", 26), Lamp("green", 13))
    for text in ("red", "=3", "red=x", "red=-1", ""):
        with pytest.raises(ConfigError, match="--pins: expected NAME=NUMBER"):
            parse_pins(text, Numbering.BCM)


@pytest.mark.parametrize(("active_low", "on"), [(False, 1), (True, 0)])
def test_on_and_off(active_low: bool, on: int) -> None:
    port = SimulatedPort()
    row = LampRow((Lamp("red", 26),), port, active_low=active_low)
    red = row.declare(Device("light")).properties["red"]
    assert red.read is not None
    assert red.write is not None
    for word, level in (("ON", on), ("off", 1 - on), ("On", on)):
        red.write(word)
        assert (port.read(26), red.read()) == (level, word.upper())
    with pytest.raises(BadValue, match="expected ON or OFF, not 'purple'"):
        red.write("purple")
    row.switch_off()
    assert red.read() == "OFF"


def test_watchers_hear_each_change_once_also_one_by_hand() -> None:
    inner = SimulatedPort()
    port = WatchedPort(inner, clock=lambda: 7.5)
    port.set_up(26)
    heard: list[bytes] = []
    port.on_change.append(heard.append)
    port.write(26, 1)
    port.write(26, 1)
    inner.write(26, 0)
    assert port.read(26) == 0
    assert heard == [b'{"ts":7.5,"bcm":26,"level":1,"levels":{"26":1}}\n', b'{"ts":7.5,"bcm":26,"level":0,"levels":{"26":0}}\n']
