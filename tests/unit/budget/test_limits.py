"""The budget file is whole, and what is beyond it is told so that a person knows where to look."""

from __future__ import annotations

from pathlib import Path

import pytest
from budget import limits

ROOT = Path(__file__).resolve().parents[3]
LIMIT = limits.Limit("tree", 75.0, "MB", "the unpacked tree", "pinnace footprint --diff OLD NEW")


def test_the_file_in_the_repository_is_whole() -> None:
    names = {each.name for each in limits.load(ROOT / "packaging/budget.toml")}
    assert {"one-file", "tree", "agent-pss", "node-pss", "connected", "ready", "imports", "flash-day", "wire-day"} <= names


def test_beyond_names_limit_figure_and_command() -> None:
    within, beyond, missing = (
        next(limits.judge([LIMIT], figures, why))
        for figures, why in (({"tree": 74.9}, {}), ({"tree": 80.0}, {}), ({}, {"tree": "no tree"}))
    )
    assert within.is_within
    assert not beyond.is_within
    line = beyond.line()
    assert all(
        each in line for each in ("OVER", "tree", "80.00", "75", "MB", "`pinnace footprint --diff OLD NEW`", "packaging/budget.toml")
    )
    assert "no tree" in missing.line()
    assert limits.as_json([beyond])[0] == {"name": "tree", "figure": 80.0, "most": 75.0, "unit": "MB", "within": False, "why": ""}


def test_every_figure_has_a_limit_and_every_limit_a_figure() -> None:
    with pytest.raises(ValueError, match="has no limit for weight"):
        list(limits.judge([LIMIT], {"tree": 1.0, "weight": 1.0}, {}))
    with pytest.raises(ValueError, match=r"\[tree\] is measured by nobody"):
        list(limits.judge([LIMIT], {}, {}))


@pytest.mark.parametrize("text", ["[a]\nmost = 1\n", "a = 1\n", '[a]\nmost = 0\nunit = "s"\nwhat = ""\nshown_by = ""\n'])
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "b.toml").write_text(text)
    with pytest.raises(ValueError, match=r"b\.toml: \[a\]"):
        limits.load(tmp_path / "b.toml")
