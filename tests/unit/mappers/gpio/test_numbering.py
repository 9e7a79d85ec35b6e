"""Pins under three names."""

from __future__ import annotations

import pytest

from pinnace.core.base.errors import ConfigError
from pinnace.mappers.gpio.numbering import PINS, Numbering, find


@pytest.mark.parametrize(("wiringpi", "bcm", "board"), [(25, 26, 37), (23, 13, 33), (24, 19, 35), (0, 17, 11), (30, 0, 27)])
def test_one_pin_under_its_three_numbers(wiringpi: int, bcm: int, board: int) -> None:
    found = {find(Numbering.WIRINGPI, wiringpi), find(Numbering.BCM, bcm), find(Numbering.BOARD, board)}
    assert found == {(wiringpi, bcm, board)}


def test_each_number_is_used_once() -> None:
    assert sorted(pin.bcm for pin in PINS) == list(range(28))
    for column in zip(*PINS, strict=True):
        assert len(set(column)) == 28


@pytest.mark.parametrize(
    ("numbering", "number"), [(Numbering.BOARD, 1), (Numbering.BCM, 28), (Numbering.WIRINGPI, 17), (Numbering.BCM, -1)]
)
def test_a_number_that_is_no_gpio_is_refused(numbering: Numbering, number: int) -> None:
    with pytest.raises(ConfigError, match=f"pin {number}: {numbering.value} numbering knows "):
        find(numbering, number)
