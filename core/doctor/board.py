"""The board: power and temperature, as a Raspberry Pi's firmware and the kernel's thermal zones tell them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pinnace.core.doctor.finding import Finding, Level
from pinnace.core.doctor.subject import Subject

_THROTTLED: Final = ("/sys/devices/platform/soc/soc:firmware/get_throttled", "/sys/devices/platform/soc@0/soc@0:firmware/get_throttled")
UNDER_VOLTAGE, CAPPED, THROTTLED, TOO_WARM = 1 << 0, 1 << 1, 1 << 2, 1 << 3
"""Bits of the firmware's word (Raspberry Pi documentation, vcgencmd get_throttled); each stands 16 bits higher for `since the start`."""
SINCE_START: Final = 16
WARM_DEGREES, HOT_DEGREES = 75.0, 85.0
"""A Raspberry Pi slows down from 80 on, and other boards soon after."""
_SUPPLY: Final = "a supply of 5.1 V and 2.5 A (Pi 3), 3 A (Pi 4), 5 A (Pi 5) and a short, thick cable"


@dataclass(frozen=True, slots=True)
class BoardFacts:
    """`throttled` is the firmware's word, None where there is none to ask; `is_low` what the kernel says of the voltage now, None where it
    does not watch; `temperatures` are degrees Celsius by zone."""

    model: str
    throttled: int | None
    temperatures: dict[str, float]
    is_low: bool | None = None


def read(subject: Subject) -> BoardFacts:
    said = next(filter(None, map(subject.text, _THROTTLED)), "") or subject.said("vcgencmd", "get_throttled") or ""
    match = re.search(r"(?:0x)?([0-9a-fA-F]+)\s*$", said)
    temperatures = {}
    for zone in sorted(subject.path("/sys/class/thermal").glob("thermal_zone*")):
        folder = f"/sys/class/thermal/{zone.name}"
        value = subject.text(f"{folder}/temp")
        if value.lstrip("-").isdigit():
            temperatures[subject.text(f"{folder}/type") or zone.name] = int(value) / 1000
    return BoardFacts(subject.model, int(match[1], 16) if match else None, temperatures, _is_low(subject))


def _is_low(subject: Subject) -> bool | None:
    """Asks the kernel's own watch over a Raspberry Pi's supply (Linux, raspberrypi-hwmon), for systems without vcgencmd."""
    for sensor in subject.path("/sys/class/hwmon").glob("hwmon*"):
        folder = f"/sys/class/hwmon/{sensor.name}"
        if subject.text(f"{folder}/name") == "rpi_volt":
            return {"0": False, "1": True}.get(subject.text(f"{folder}/in0_lcrit_alarm"))
    return None


def check(facts: BoardFacts) -> Iterator[Finding]:
    yield _power(facts)
    yield _temperature(facts)


def _power(facts: BoardFacts) -> Finding:
    word = facts.throttled
    if facts.is_low or (word or 0) & UNDER_VOLTAGE:
        text = f"the voltage is too low right now: the board may stop, and the card may be damaged; it needs {_SUPPLY}"
        shown_by = "vcgencmd get_throttled  # 0x0 is what it should say" if word else "dmesg | grep -i voltage"
        return Finding("power", Level.ERROR, text, shown_by)
    if word is None and facts.is_low is None:
        return Finding("power", Level.OK if "Raspberry" not in facts.model else Level.UNKNOWN, "this machine does not tell of its supply")
    if word is None:
        return Finding("power", Level.OK, "the voltage is high enough right now; `dmesg | grep -i voltage` tells of earlier")
    if word & UNDER_VOLTAGE << SINCE_START:
        text = f"the voltage was too low since the machine started: the board needs {_SUPPLY}"
        return Finding("power", Level.WARNING, text, "dmesg | grep -i voltage")
    return Finding("power", Level.OK, "the voltage was never too low since the machine started")


def _temperature(facts: BoardFacts) -> Finding:
    word = facts.throttled or 0
    is_slowed, was_slowed = _by_heat(word), _by_heat(word >> SINCE_START)
    zone, degrees = max(facts.temperatures.items(), key=lambda pair: pair[1], default=("", float("nan")))
    shown = f"{degrees:.0f} °C ({zone})" if zone else "there is no sensor"
    cooler = "watch -n 2 cat /sys/class/thermal/thermal_zone*/temp  # while a heat sink or fan is tried"
    if degrees >= HOT_DEGREES or is_slowed:
        return Finding("temperature", Level.ERROR, f"{shown}: the processor is slowed down, it needs cooling", cooler)
    if degrees >= WARM_DEGREES or was_slowed:
        past = "" if degrees >= WARM_DEGREES else ", and it was slowed down since it started"
        return Finding("temperature", Level.WARNING, f"{shown}{past}: it works better with cooling", cooler)
    return Finding("temperature", Level.OK, shown)


def _by_heat(word: int) -> bool:
    """Too low a voltage slows the processor down, too: then no cooling helps."""
    return bool(word & TOO_WARM or (word & (CAPPED | THROTTLED) and not word & UNDER_VOLTAGE))
