"""The memory report reads the kernel's figures and knows whose process it sees."""

from __future__ import annotations

import os
import subprocess
import sys

import orjson
import pytest

from pinnace.core.base import cli
from pinnace.core.commands import footprint


def test_reports_a_process_by_pid(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["footprint", "--json", "--pid", str(os.getpid())]) == 0
    (entry,) = orjson.loads(capsys.readouterr().out)["processes"]
    assert 0 < entry["uss_bytes"] <= entry["pss_bytes"] <= entry["rss_bytes"]


def test_a_process_that_is_gone_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert cli.main(["footprint", "--pid", str(child.pid)]) == 1
    assert str(child.pid) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("pinnace", "edgecore", "--config", "x"), "pinnace edgecore"),
        (("pinnace", "mapper", "gpio"), "pinnace mapper gpio"),
        (("somebody", "else"), ""),
    ],
)
def test_knows_our_own_processes(words: tuple[str, ...], name: str) -> None:
    # A line from the child says that it is no longer a copy of ours.
    child = subprocess.Popen([sys.executable, "-c", "print(flush=True); input()", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        assert footprint.name_of(child.pid) == name
    finally:
        child.communicate(b"\n")
