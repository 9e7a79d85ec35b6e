"""A port that somebody takes between the moment it is chosen and the moment it is bound."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from pinnace.cloud.local import stack as stacks
from pinnace.cloud.local.ports import LOOPBACK, Chooser
from pinnace.cloud.local.stack import Options, Stack

pytestmark = pytest.mark.mosquitto


async def test_everything_starts_again_on_other_ports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    thieves: list[socket.socket] = []
    said: list[str] = []

    class Robbed(Chooser):
        def choose(self, what: str, usual: int, address: str = LOOPBACK) -> int:
            port = super().choose(what, usual, address)
            if what == "the Kubernetes API" and not thieves:
                thieves.append(socket.create_server((LOOPBACK, port)))
            return port

    monkeypatch.setattr(stacks, "Chooser", Robbed)
    stack = Stack(Options(tmp_path, usual_ports=False, pins="simulated"), said.append)
    async with stack.running():
        (thief,) = thieves
        assert stack.ports.api != thief.getsockname()[1]
        assert [each.name for each in stack.processes] == ["mosquitto", "apiserver", "cloudcore", "edgecore", "mapper"]
        processes = stack.processes
    assert not [each for each in processes if each.is_alive]
    assert len([line for line in said if line.startswith("somebody took a port meanwhile (apiserver ended with code")]) == 1, said
    thief.close()
