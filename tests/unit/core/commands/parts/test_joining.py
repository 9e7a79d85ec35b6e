"""What a board says while it joins."""

from __future__ import annotations

from pathlib import Path

import pytest
from rig.processes import free_port

from pinnace.core.appliance.board import Board
from pinnace.core.appliance.wishes import Ports, Wishes
from pinnace.core.base.errors import ConfigError
from pinnace.core.commands.parts.joined import Joined
from pinnace.core.commands.parts.joining import Joining


def test_a_cloud_that_stays_away_is_told_once_so_that_the_card_is_not_worn(tmp_path: Path) -> None:
    wishes = Wishes("127.0.0.1", f"{'0' * 64}.eyJh.eyJl.c2lnbmF0dXJl", ports=Ports(bootstrap=free_port()))
    pauses: list[float] = []
    joining = Joining(wishes, "pi-1", root=tmp_path, machine="1" * 32, sleep=pauses.append)
    first, *said = joining.attempts(Board(data=tmp_path), limit=8)
    assert first == "127.0.0.1: joining"
    assert len(said) == 8
    assert len(set(said)) == 1
    assert "cannot be reached" in said[0]
    assert len({f"{each:.0f}" for each in pauses}) > 1
    assert not joining.is_done


def test_a_node_whose_new_labels_cannot_be_written_is_not_called_one_that_has_not_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unwritable(joined: Joined) -> bool:
        raise ConfigError("edgecore.yaml: cannot be written")

    monkeypatch.setattr(Joined, "flaw", lambda joined, token: "")
    monkeypatch.setattr(Joined, "follow", unwritable)
    joining = Joining(Wishes("127.0.0.1", ""), "pi-1", root=tmp_path, machine="1" * 32, sleep=lambda seconds: None)
    (said,) = joining.attempts(Board(data=tmp_path), limit=1)
    assert "joined before, but what is new does not count: edgecore.yaml: cannot be written" in said
    assert "not joined" not in said
