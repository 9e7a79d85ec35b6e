"""The one command: each sub-command loads, explains itself, and answers wrong usage with 2."""

from __future__ import annotations

import argparse

import pytest

from pinnace.core.base import cli


@pytest.mark.parametrize("name", sorted(cli.targets()))
def test_sub_command_is_whole(name: str) -> None:
    command = cli.load(cli.targets()[name])
    assert command is not None
    assert command.SUMMARY
    assert command.__doc__
    parser = argparse.ArgumentParser(prog=name)
    command.add_arguments(parser)
    assert parser.format_help()


def test_unknown_command_is_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["no-such-thing"]) == 2
    assert "no-such-thing" in capsys.readouterr().err


def test_no_command_is_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert "edgecore" in capsys.readouterr().out


def test_a_command_of_another_package_is_not_in_this_build(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(cli, "targets", lambda: {"elsewhere": "pinnace.elsewhere.commands.elsewhere"})
    assert cli.main(["elsewhere"]) == 2
    assert "does not contain" in capsys.readouterr().err


def test_version_says_what_is_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["version", "--json"]) == 0
    assert '"pinnace"' in capsys.readouterr().out
