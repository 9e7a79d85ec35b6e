"""The one command: each sub-command loads, explains itself, and answers wrong usage with 2."""

from __future__ import annotations

import argparse

import pytest

from pinnace.core.base import cli


@pytest.mark.parametrize("name", cli.names())
def test_sub_command_is_whole(name: str) -> None:
    command = cli.load(name)
    assert command is not None
    assert command.SUMMARY
    assert command.__doc__
    parser = argparse.ArgumentParser(prog=name)
    command.add_arguments(parser)
    assert parser.format_help()


@pytest.mark.parametrize(
    "name", ["no-such-thing", "image_child", "control", "parts", "parts.control", "--init--", "__init__", "/bin/sh", ""]
)
def test_unknown_command_is_usage(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([name]) == 2
    assert f"'{name}'" in capsys.readouterr().err


def test_what_commands_share_is_none_itself() -> None:
    assert {"edgecore", "image-child", "cloudcore", "mapper"} <= set(cli.names())
    assert not {"parts", "control", "joining"} & set(cli.names())


def test_no_command_is_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert "edgecore" in capsys.readouterr().out


def test_a_command_of_another_package_is_not_in_this_build(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(cli, "PACKAGES", ("pinnace.elsewhere.commands", "pinnace.mappers.commands"))
    assert cli.names() == ["mapper"]
    assert cli.main(["edgecore"]) == 2
    assert "does not contain" in capsys.readouterr().err


def test_version_says_what_is_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["version", "--json"]) == 0
    assert '"pinnace"' in capsys.readouterr().out
