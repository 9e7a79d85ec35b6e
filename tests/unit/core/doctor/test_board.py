"""Power and temperature from a Raspberry Pi's own words."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes.machine import machine

from pinnace.core.doctor import board
from pinnace.core.doctor.finding import Level

MODEL = {"/proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.5\0"}
THROTTLED = "/sys/devices/platform/soc/soc:firmware/get_throttled"


@pytest.mark.parametrize(
    ("word", "degrees", "power", "temperature"),
    [
        ("0", "48000", Level.OK, Level.OK),
        ("50005", "60000", Level.ERROR, Level.OK),  # slowed down, by the voltage
        ("50000", "60000", Level.WARNING, Level.OK),
        ("40004", "60000", Level.OK, Level.ERROR),
        ("60000", "60000", Level.OK, Level.WARNING),
        ("0x10000", "48000", Level.WARNING, Level.OK),
        ("80008", "82000", Level.OK, Level.ERROR),
        ("0", "76500", Level.OK, Level.WARNING),
        ("0", "91000", Level.OK, Level.ERROR),
    ],
)
def test_the_firmwares_word_is_read(tmp_path: Path, word: str, degrees: str, power: Level, temperature: Level) -> None:
    zone = "/sys/class/thermal/thermal_zone0"
    subject = machine(tmp_path, {**MODEL, THROTTLED: word + "\n", f"{zone}/temp": degrees + "\n", f"{zone}/type": "cpu-thermal\n"})
    found = {each.matter: each for each in board.check(board.read(subject))}
    assert (found["power"].level, found["temperature"].level) == (power, temperature)
    assert all(each.remedy for each in found.values() if each.level is not Level.OK)
    assert "cpu-thermal" in found["temperature"].text


def test_a_raspberry_pi_whose_firmware_says_nothing_is_no_healthy_one(tmp_path: Path) -> None:
    facts = board.read(machine(tmp_path, MODEL))
    assert [each.level for each in board.check(facts)] == [Level.UNKNOWN, Level.OK]
    assert facts.model.startswith("Raspberry Pi 4")


@pytest.mark.parametrize(("alarm", "level"), [("0", Level.OK), ("1", Level.ERROR), ("", Level.UNKNOWN)])
def test_the_kernel_is_asked_where_there_is_no_vcgencmd(tmp_path: Path, alarm: str, level: Level) -> None:
    sensors = {"/sys/class/hwmon/hwmon0/name": "cpu_thermal\n", "/sys/class/hwmon/hwmon1/name": "rpi_volt\n"}
    facts = board.read(machine(tmp_path, {**MODEL, **sensors, "/sys/class/hwmon/hwmon1/in0_lcrit_alarm": alarm + "\n"}))
    power = next(each for each in board.check(facts) if each.matter == "power")
    assert power.level is level
    assert (power.remedy == "dmesg | grep -i voltage") == (level is Level.ERROR)


def test_another_machine_needs_none_of_it(tmp_path: Path) -> None:
    assert {each.level for each in board.check(board.read(machine(tmp_path, {})))} == {Level.OK}
