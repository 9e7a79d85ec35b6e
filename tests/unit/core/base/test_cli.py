"""How this program is typed, for the lines it prints."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pinnace.core.base import cli


def place(folder: Path, monkeypatch: pytest.MonkeyPatch, *, path: str = "") -> Path:
    """A Python in a folder, and what PATH says."""
    folder.mkdir()
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    monkeypatch.setenv("PATH", path)
    return folder / "pinnace"


def make(program: Path) -> Path:
    program.touch(mode=0o755)
    return program


def test_the_name_alone_where_path_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(place(tmp_path / "bin", monkeypatch, path=str(tmp_path / "bin")))
    assert cli.program() == "pinnace"


def test_its_place_for_a_shell_where_path_finds_none_or_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = make(place(tmp_path / "a bin", monkeypatch))
    assert cli.program() == f"'{own}'"
    (tmp_path / "other").mkdir()
    make(tmp_path / "other" / "pinnace")
    monkeypatch.setenv("PATH", str(tmp_path / "other"))
    assert cli.program() == f"'{own}'"


def test_the_module_where_there_is_no_such_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place(tmp_path / "bin", monkeypatch)
    assert cli.program() == f"{tmp_path}/bin/python -P -m pinnace.core.base.cli"


def test_a_frozen_program_is_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    own = make(tmp_path / "pinnace")
    monkeypatch.setattr(sys, "executable", str(own))
    monkeypatch.setenv("PATH", "")
    assert cli.program() == str(own)


def test_files_of_the_working_folder_are_not_run(tmp_path: Path) -> None:
    (tmp_path / "argparse.py").write_text("raise SystemExit('not this one')")
    done = subprocess.run(cli.command_line("version"), cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
