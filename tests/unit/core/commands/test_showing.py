"""What `get` and `describe` put on a root's terminal: others wrote it, and some of it is secret."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from pinnace.core.commands import describe, get
from pinnace.core.commands.parts import control

CLEAR = "\x1b[2J\x1b]0;owned\x07"


def test_what_would_command_a_terminal_is_spelled_out() -> None:
    assert control.plain(f"a{CLEAR}\nb é ↑\n") == r"a\x1b[2J\x1b]0;owned\x07\nb é ↑"
    said = get.table([("NAME",), (CLEAR,)])
    assert "\x1b" not in said


def test_a_container_and_its_probe_cannot_write_on_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = {"name": "main", "state": {"terminated": {"exitCode": 1, "message": f"one\ntwo{CLEAR}"}}}
    secret = {"name": "KEY", "value": "swordfish"}
    pod = {
        "metadata": {"name": "web", "uid": "u"},
        "spec": {"containers": [{"name": "main", "image": "app:1", "env": [secret]}]},
        "status": {"message": CLEAR, "containerStatuses": [ended]},
    }
    event = {"type": "Warning", "reason": "Unhealthy", "message": CLEAR}
    monkeypatch.setattr(control, "find_pod", lambda *_: pod)
    monkeypatch.setattr(control, "objects", lambda *_: {"items": [event]})
    parser = argparse.ArgumentParser()
    describe.add_arguments(parser)
    assert describe.run(parser.parse_args(["pod", "web", "--socket", "/none"])) == 0
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert r"exit code 1, one\ntwo" in said
    assert "swordfish" not in said


def test_what_is_called_a_password_is_not_shown() -> None:
    device: Any = {
        "spec": {"protocol": {"opcua": {"userName": "joe", "password": "swordfish"}, "configData": {"apiToken": "swordfish"}}},
        "twins": {"secretLamp": {"actual": "ON"}, "password": ""},
    }
    said = "\n".join(describe.tree(device))
    assert "swordfish" not in said
    assert "password: (not shown)" in said
    assert "userName: joe" in said
    assert "actual: ON" in said
