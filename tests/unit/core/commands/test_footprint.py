"""The memory report reads the kernel's figures and knows whose process it sees."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from pinnace.core.base import cli
from pinnace.core.footprint import processes


def test_reports_a_process_by_pid(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["footprint", "--json", "--pid", str(os.getpid())]) == 0
    (entry,) = orjson.loads(capsys.readouterr().out)["processes"]
    assert 0 < entry["uss_bytes"] <= entry["pss_bytes"] <= entry["rss_bytes"]


def test_a_process_that_is_gone_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert cli.main(["footprint", "--pid", str(child.pid)]) == 1
    assert str(child.pid) in capsys.readouterr().err


def test_a_child_is_found_by_its_command_line() -> None:
    # A line from the child says that it is no longer a copy of ours.
    words = ["pinnace", "mapper", "gpio"]
    child = subprocess.Popen([sys.executable, "-c", "print(flush=True); input()", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        found = {each.pid: each for each in processes.running()}[child.pid]
        assert (found.name, found.group, found.parent) == ("pinnace mapper gpio", processes.Group.MAPPERS, os.getpid())
        assert processes.describe(child.pid) == found
    finally:
        child.communicate(b"\n")


def test_a_file_that_cannot_be_written_is_said_before_the_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["footprint", "--record", str(tmp_path / "none" / "r.json")]) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert cli.main(["footprint", "--record", str(tmp_path / "r.svg")]) == 2
    assert "where the picture goes" in capsys.readouterr().err
    assert not (tmp_path / "r.svg").exists()
    with pytest.raises(SystemExit):
        cli.main(["footprint", "--record", "r.json", "--seconds", "-1"])
