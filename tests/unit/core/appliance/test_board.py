"""The board's clock, that the cloud sets where nobody else did, and its consoles."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from pinnace.core.appliance.board import Board

MADE, NOW = 1_900_000_000.0, 1_950_000_000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The machine's, with what it was set to; the last counts."""
    times = [NOW]
    monkeypatch.setattr(time, "time", lambda: times[-1])
    monkeypatch.setattr(time, "clock_settime", lambda which, wall: times.append(wall))
    return times


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "usr/lib/clock-epoch").touch()
    os.utime(tmp_path / "usr/lib/clock-epoch", (MADE, MADE))
    return tmp_path


@pytest.mark.parametrize(
    ("cloud", "is_set"),
    [(NOW + 86_400, True), (NOW + 0.5, False), (NOW - 3000, False), (NOW - 86_400, True), (MADE - 1, False), (0.0, False)],
)
def test_the_clouds_time_is_taken_where_ours_is_behind_or_far_ahead(clock: list[float], root: Path, cloud: float, is_set: bool) -> None:
    Board(root=root).set_clock(cloud)
    assert clock == ([NOW, cloud] if is_set else [NOW])
    assert (root / "var/lib/systemd/timesync/clock").exists() is is_set, "the floor of the next start"


def test_what_a_time_server_set_is_not_set_back(clock: list[float], root: Path) -> None:
    (root / "run/systemd/timesync").mkdir(parents=True)
    (root / "run/systemd/timesync/synchronized").touch()
    Board(root=root).set_clock(NOW - 86_400)
    assert clock == [NOW]


def test_nothing_is_set_back_where_nobody_knows_when_the_image_was_made(clock: list[float], tmp_path: Path) -> None:
    Board(root=tmp_path).set_clock(NOW - 86_400)
    assert clock == [NOW]
    Board(root=tmp_path).set_clock(NOW + 86_400)
    assert clock == [NOW, NOW + 86_400]


def test_what_is_said_is_on_the_screen_and_on_the_serial_console(tmp_path: Path) -> None:
    (tmp_path / "sys/class/tty/console").mkdir(parents=True)
    (tmp_path / "dev").mkdir()
    for each in ("ttyS1", "tty0"):
        (tmp_path / "dev" / each).touch()
    Board(root=tmp_path).say("told to nobody")
    (tmp_path / "sys/class/tty/console/active").write_text("tty9 ttyS1 tty0\n")
    Board(root=tmp_path).say("pinnace: joined")
    assert [(tmp_path / "dev" / each).read_text() for each in ("ttyS1", "tty0")] == ["pinnace: joined\n"] * 2
    assert not (tmp_path / "dev/tty9").exists()
