"""What a frozen edge has no docstrings of, and that nothing else about its code is changed by it."""

from __future__ import annotations

import argparse
import sys
import textwrap
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
from freezing.docstrings import undocumented, without

SOURCE = '''
"""Of the module."""

from __future__ import annotations

import dataclasses


class Plain:
    """Of a class."""

    def method(self) -> str:
        """Of a method."""
        return "Of a method."


class Bare:
    """All of it."""


@dataclasses.dataclass(slots=True)
class Record:
    """Of a dataclass."""


def kept(found: type) -> type:
    return found


@kept
class Decorated:
    """Of another class."""


async def twice() -> str:
    """The first."""
    """No docstring."""
    return [f"{each}" for each in "x"][0] + (lambda: "text")()


def checked(value: int) -> str:
    "Short."
    assert value, "asserts stay"
    return "Short."
'''


def run(code: CodeType) -> dict[str, Any]:
    found: dict[str, Any] = {"__name__": "found"}
    exec(code, found)
    return found


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "found.py"
    path.write_text(textwrap.dedent(SOURCE))
    return path


def test_docstrings_go_and_strings_stay(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "found", argparse)  # where a dataclass looks for what its annotations mean
    found = run(without(source, of_module=True))
    assert found.get("__doc__") is None
    documented = {name: getattr(found[name], "__doc__", None) for name in ("Plain", "Bare", "Record", "Decorated", "twice", "checked")}
    assert documented == {"Plain": None, "Bare": None, "Record": "Of a dataclass.", "Decorated": None, "twice": None, "checked": None}
    assert (found["Plain"].method.__doc__, found["Plain"]().method()) == (None, "Of a method.")
    assert found["checked"](1) == "Short."
    with pytest.raises(AssertionError, match="asserts stay"):
        found["checked"](0)


def test_a_module_of_ours_keeps_its_own(source: Path) -> None:
    code = compile(source.read_bytes(), str(source), "exec", dont_inherit=True)
    ours, theirs = (undocumented({name: code})[name] for name in ("pinnace.found", "other.found"))
    assert "Of the module." in ours.co_consts
    assert "Of the module." not in theirs.co_consts
    assert undocumented({"gone": code.replace(co_filename="/none.py")})["gone"].co_consts == code.co_consts


def test_lines_are_where_they_were_and_two_runs_are_equal() -> None:
    path = Path(argparse.__file__)
    before = compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    after, again = without(path, of_module=True), without(path, of_module=True)
    assert after == again
    assert lines(after) <= lines(before)
    assert {name for name, _ in lines(after)} == {name for name, _ in lines(before)}


def lines(code: CodeType) -> set[tuple[str, int | None]]:
    """Every line that has code, by the function it is of."""
    found = {(code.co_qualname, line) for *_, line in code.co_lines()}
    return found.union(*(lines(each) for each in code.co_consts if isinstance(each, CodeType)))
