"""The three ways of numbering the Raspberry Pi's header, and their translation.

Sources: the Raspberry Pi documentation (40-pin header, BCM names) and wiringPi's published table of its own numbers.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from pinnace.core.base.errors import ConfigError


class Numbering(Enum):
    """`bcm` is the chip's own number, `board` the position on the header, `wiringpi` the numbers of the `gpio` command."""

    BCM = "bcm"
    BOARD = "board"
    WIRINGPI = "wiringpi"


class Pin(NamedTuple):
    wiringpi: int
    bcm: int
    board: int


PINS = tuple(
    Pin(*each)
    for each in (
        (0, 17, 11),
        (1, 18, 12),
        (2, 27, 13),
        (3, 22, 15),
        (4, 23, 16),
        (5, 24, 18),
        (6, 25, 22),
        (7, 4, 7),
        (8, 2, 3),
        (9, 3, 5),
        (10, 8, 24),
        (11, 7, 26),
        (12, 10, 19),
        (13, 9, 21),
        (14, 11, 23),
        (15, 14, 8),
        (16, 15, 10),
        (21, 5, 29),
        (22, 6, 31),
        (23, 13, 33),
        (24, 19, 35),
        (25, 26, 37),
        (26, 12, 32),
        (27, 16, 36),
        (28, 20, 38),
        (29, 21, 40),
        (30, 0, 27),
        (31, 1, 28),
    )
)
"""Every pin of the 40-pin header that is a GPIO. wiringPi's 17 to 20 were on another connector of one early board and are left out."""

_FIELDS = {Numbering.BCM: 1, Numbering.BOARD: 2, Numbering.WIRINGPI: 0}
_BY = {numbering: {pin[position]: pin for pin in PINS} for numbering, position in _FIELDS.items()}


def find(numbering: Numbering, number: int) -> Pin:
    """The pin that has this number. Raises ConfigError naming the numbers there are."""
    pin = _BY[numbering].get(number)
    if pin is None:
        known = ", ".join(map(str, sorted(_BY[numbering])))
        raise ConfigError(f"pin {number}: {numbering.value} numbering knows {known}")
    return pin
