"""Paths of the node, and what they must be."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from pathlib import Path

import pytest

from pinnace.core.pods.material.hostpath import host_path


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("folder")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("folder", ""),
        ("file", ""),
        ("folder", "Directory"),
        ("link", "Directory"),
        ("folder", "DirectoryOrCreate"),
        ("file", "File"),
        ("file", "FileOrCreate"),
    ],
)
def test_what_is_there(place: Path, name: str, kind: str) -> None:
    assert host_path(str(place / name), kind) == place / name


@pytest.mark.parametrize(
    ("name", "kind", "what"),
    [
        ("file", "Directory", "a directory"),
        ("file", "DirectoryOrCreate", "a directory"),
        ("folder", "File", "a file"),
        ("folder", "FileOrCreate", "a file"),
        ("file", "Socket", "a socket"),
        ("file", "CharDevice", "a character device"),
        ("file", "BlockDevice", "a block device"),
        ("none", "Directory", "a directory"),
        ("none", "File", "a file"),
        ("none", "Socket", "a socket"),
    ],
)
def test_what_is_something_else(place: Path, name: str, kind: str, what: str) -> None:
    with pytest.raises(ValueError, match=f"is not {what}"):
        host_path(str(place / name), kind)
    assert not (place / "none").exists()


def test_making(place: Path) -> None:
    mask = os.umask(0o077)
    try:
        assert stat.S_IMODE(host_path(str(place / "a/b"), "DirectoryOrCreate").stat().st_mode) == 0o755
        assert stat.S_IMODE(host_path(str(place / "c"), "FileOrCreate").stat().st_mode) == 0o644
        assert host_path(str(place / "d"), "").is_dir()
    finally:
        os.umask(mask)
    with pytest.raises(OSError):
        host_path(str(place / "no/c"), "FileOrCreate")


def test_a_socket_and_a_device() -> None:
    assert host_path("/dev/null", "CharDevice") == Path("/dev/null")
    with tempfile.TemporaryDirectory(prefix="pn") as folder, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{folder}/s")
        assert host_path(f"{folder}/s", "Socket").is_socket()


@pytest.mark.parametrize(("path", "kind"), [("relative", ""), ("/a/../etc", ""), ("", ""), ("/tmp", "Directories")])
def test_nonsense(path: str, kind: str) -> None:
    with pytest.raises(ValueError):
        host_path(path, kind)
