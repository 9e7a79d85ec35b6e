"""What of a folder belongs to a container's log."""

from __future__ import annotations

from pathlib import Path

import pytest

from pinnace.core.base.containerlogs import pieces, remove, rotated

NEW, OLD, UNFINISHED = "1.log.20260131-120000", "1.log.20260131-110000.gz", "1.log.20260131-113000.tmp"
OTHERS = ["10.log", "11.log.20260131-120000", "1.logbook"]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    for name in ("1.log", NEW, OLD, UNFINISHED, *OTHERS):
        (tmp_path / name).touch()
    return tmp_path / "1.log"


def test_pieces_are_the_log_s_own_the_oldest_first(log: Path) -> None:
    assert [each.name for each in pieces(log)] == [OLD, UNFINISHED, NEW]
    assert [each.name for each in rotated(log)] == [OLD, NEW]
    assert pieces(log.parent / "none" / "1.log") == []


def test_removing_one_leaves_the_others(log: Path) -> None:
    remove(log)
    assert {each.name for each in log.parent.iterdir()} == set(OTHERS)
    remove(log)


def test_of_a_container_without_a_log_nothing_is_removed(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(log.parent.iterdir())
    monkeypatch.chdir(log.parent)
    remove(Path())
    assert set(log.parent.iterdir()) == before


def test_one_that_cannot_be_removed_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "1.log").mkdir()
    remove(tmp_path / "1.log")
    assert "pods.log.not-removed" in caplog.text
