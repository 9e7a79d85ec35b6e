"""The clock is judged by what has certainly been."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from fakes.machine import machine

from pinnace.core.doctor import clock
from pinnace.core.doctor.finding import Finding, Level

NOW = 1_900_000_000.0


def only(facts: clock.ClockFacts) -> Finding:
    (found,) = clock.check(facts)
    return found


def test_a_clock_that_is_kept() -> None:
    assert only(clock.ClockFacts(NOW, NOW - 10, True, False, "systemd-timesyncd")).level is Level.OK
    assert only(clock.ClockFacts(NOW, NOW - 10, None, False, "")).level is Level.OK


def test_a_clock_before_what_was_written_is_wrong() -> None:
    found = only(clock.ClockFacts(0.0, NOW, True, False, ""))
    assert found.level is Level.ERROR
    assert "1970-01-01" in found.text
    assert "systemd-timesyncd" in found.remedy


def test_a_free_running_clock_is_to_be_watched() -> None:
    found = only(clock.ClockFacts(NOW, NOW - 10, False, False, "chronyd"))
    assert found.level is Level.WARNING
    assert "without power" in found.text
    assert found.remedy == "chronyc makestep"
    assert "without power" not in only(clock.ClockFacts(NOW, NOW - 10, False, True, "")).text


def test_the_store_tells_what_time_has_been(tmp_path: Path) -> None:
    subject = machine(
        tmp_path, {"/var/lib/kubeedge/edgecore.db-wal": "", "/run/systemd/timesync/": "", "/proc/7/comm": "systemd-timesyn\n"}
    )
    later = NOW + 1_000_000
    os.utime(tmp_path / "var/lib/kubeedge/edgecore.db-wal", (later, later))
    facts = clock.read(subject)
    assert facts.floor == later
    assert facts.is_synchronised is False
    assert facts.service == "systemd-timesyncd"
    (tmp_path / "run/systemd/timesync/synchronized").touch()
    assert clock.read(subject).is_synchronised is True


def test_a_frozen_program_tells_what_time_has_been(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "pinnace"
    program.touch()
    os.utime(program, (NOW, NOW))
    monkeypatch.setattr(clock, "__file__", str(tmp_path / "lib/pinnace/core/doctor/clock.pyc"))  # inside of the archive
    monkeypatch.setattr(sys, "executable", str(program))
    assert clock.read(machine(tmp_path, {})).floor == NOW


def test_this_machines_clock_can_be_asked() -> None:
    from pinnace.core.doctor.subject import Subject

    assert clock.read(Subject()).is_synchronised in (True, False)
