"""Joining writes a configuration only when it worked, and never spoils the one that is there."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
from rig.processes import free_port

from pinnace.core.base import cli
from pinnace.core.commands import join as command

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


def test_what_a_join_leaves_survives_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "etc/kubeedge/config/edgecore.yaml"
    on_disk: list[int] = []
    fsync = os.fsync

    def noted(fd: int) -> None:
        fsync(fd)
        on_disk.append(os.fstat(fd).st_ino)

    async def joined(*args: Any, **more: Any) -> None:
        on_disk.append(0)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(command, "_join", joined)
    assert join(tmp_path) == 0
    content, name = on_disk.index(config.stat().st_ino), len(on_disk) - 1 - on_disk[::-1].index(config.parent.stat().st_ino)
    assert content < on_disk.index(0) < name, "the content before the joining, the name after it"


def test_a_hub_or_tunnel_that_does_not_answer_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def joined(*args: Any, **more: Any) -> None:
        pass

    monkeypatch.setattr(command, "_join", joined)
    with socket.create_server(("127.0.0.1", 0)) as tunnel:
        port = tunnel.getsockname()[1]
        assert join(tmp_path, "--tunnelport", str(port)) == 0
    said = capsys.readouterr().out
    assert "note: hub at 127.0.0.1:" in said
    assert "cannot be reached (Connection refused)" in said
    assert "tunnel at" not in said
    assert "joined as edge-1" in said
