"""What a folder takes."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import pytest

from pinnace.core.base.diskuse import file_system, footprint


def test_size_of_a_folder_counts_a_file_once(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/file").write_bytes(b"x" * 100_000)
    os.link(tmp_path / "sub/file", tmp_path / "again")
    size, inodes = footprint(tmp_path)
    assert inodes == 2
    assert 100_000 <= size < 200_000
    assert footprint(tmp_path / "none") == (0, 0)


def test_names_of_one_file_count_once_and_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a").write_bytes(b"x" * 8192)
    os.link(tmp_path / "in/a", tmp_path / "in/b")
    (tmp_path / "in/c").symlink_to("/")
    found = footprint(tmp_path / "in")
    assert found.inodes == 2
    assert 8192 <= found.bytes <= 20_000
    assert footprint(tmp_path / "none") == (0, 0)


def test_what_goes_while_it_is_looked_at_hides_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        (tmp_path / name).write_bytes(b"x" * 8192)
    scan = os.scandir

    def late(path: str) -> Any:
        entries = sorted(scan(path), key=lambda each: each.name)
        Path(entries[0].path).unlink()
        return contextlib.nullcontext(entries)

    monkeypatch.setattr(os, "scandir", late)
    found = footprint(tmp_path)
    assert found.inodes == 2
    assert found.bytes >= 2 * 8192


def test_a_folder_that_is_still_to_be_made_is_on_the_file_system_of_the_nearest_one_above(tmp_path: Path) -> None:
    assert file_system(tmp_path / "to/be/made").f_fsid == file_system(tmp_path).f_fsid
    assert file_system(Path("/proc/self/none")).f_blocks == 0
