"""Joining writes a configuration only when it worked, and never spoils the one that is there."""

from __future__ import annotations

from pathlib import Path

import pytest
from rig.processes import free_port

from pinnace.core.base import cli

TOKEN = f"{'0' * 64}.eyJh.eyJl.c2lnbmF0dXJl"


def join(root: Path, *more: str) -> int:
    nobody = free_port()
    return cli.main(["join", "-e", f"127.0.0.1:{nobody}", "-s", str(nobody), "-t", TOKEN, "-i", "edge-1", "--root", str(root), *more])


@pytest.mark.parametrize("was_there", [False, True])
def test_failing_to_join_changes_nothing(tmp_path: Path, was_there: bool, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "etc/kubeedge/config/edgecore.yaml"
    if was_there:
        config.parent.mkdir(parents=True)
        config.write_text("modules: {}\n")
    assert join(tmp_path, "--force") == 1
    assert [each.read_text() for each in config.parent.iterdir()] == ["modules: {}\n"] * was_there
    said = "".join(capsys.readouterr())
    assert "cannot be reached" in said
    assert "bootstrap port (--certport)?" in said
    assert TOKEN.rpartition(".")[2] not in said


def test_a_machine_that_has_joined_is_not_joined_by_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "etc/kubeedge/config/edgecore.yaml"
    config.parent.mkdir(parents=True)
    config.write_text("modules: {}\n")
    assert join(tmp_path) == 3
    assert "--force" in capsys.readouterr().err


def test_a_name_that_is_none_is_told_by_its_flag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert join(tmp_path, "-i", "Pi_2") == 2
    assert "--edgenode-name: expected lower-case letters" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_edge_without_configuration_is_told_to_join(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["edgecore", "--config", str(tmp_path / "none.yaml")]) == 2
    assert "`pinnace join` makes this machine a node" in capsys.readouterr().err
