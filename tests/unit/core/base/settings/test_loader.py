"""Configuration files: KubeEdge's keys, defaults, and complaints that name the place."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pinnace.core.base.errors import ConfigError
from pinnace.core.base.settings import load


@dataclass(frozen=True, slots=True)
class Link:
    server: str = "127.0.0.1:10000"
    keepalive_interval: float = 15.0
    tls_ca_file: Path = field(default=Path("/etc/ca.crt"), metadata={"key": "tlsCAFile"})

    def __post_init__(self) -> None:
        if self.keepalive_interval <= 0:
            raise ValueError("keepaliveInterval: expected seconds > 0")


@dataclass(frozen=True, slots=True)
class Settings:
    link: Link = Link()
    names: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    token: str | None = None
    enable: bool = True


def write(folder: Path, text: str) -> Path:
    path = folder / "edgecore.yaml"
    path.write_text(text)
    return path


def test_defaults_without_a_file() -> None:
    assert load(None, Settings) == Settings()


def test_reads_sections_lists_maps_and_paths(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "apiVersion: v1\nkind: EdgeCore\nlink:\n  server: a:1\n  keepaliveInterval: 3\n  tlsCAFile: /x\n"
        "names: [a, b]\nlabels: {k: v}\ntoken: t\nenable: false\n",
    )
    assert load(path, Settings) == Settings(Link("a:1", 3.0, Path("/x")), ("a", "b"), {"k": "v"}, "t", enable=False)


def test_overrides_come_last(tmp_path: Path) -> None:
    path = write(tmp_path, "link:\n  server: a:1\n")
    assert load(path, Settings, overrides={"link.server": "b:2", "token": "t"}) == Settings(Link("b:2"), token="t")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("link:\n  keepaliveInterval: soon\n", ":2: link.keepaliveInterval: expected a number"),
        ("link:\n  keepaliveInterval: -1\n", ":2: link.keepaliveInterval: expected seconds > 0"),
        ("enable: 1\n", ":1: enable: expected true or false"),
        ("\nnames: a\n", ":2: names: expected a list"),
        ("names: [1]\n", "names[0]: expected a text"),
        ("link: x\n", ":1: link: expected a section"),
        ("labels: [x]\n", ":1: labels: expected a section"),
        ("a: b: c\n", ":1: is no valid YAML"),
        ("- a\n", "expected a mapping"),
    ],
)
def test_says_where_and_what_is_wrong(tmp_path: Path, text: str, complaint: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(path, Settings)
    assert str(caught.value).startswith(str(path))
    assert complaint in str(caught.value)


def test_an_unknown_key_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        load(write(tmp_path, "link:\n  sever: a:1\n"), Settings)
    assert "line=2 key=link.sever" in caplog.text


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: cannot be read"):
        load(tmp_path / "absent.yaml", Settings)
