"""Files that are whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from pinnace.core.base.files import set_mode, write_whole


def test_write_replaces_and_leaves_no_rubbish(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for content in (b"one", b"two"):
        write_whole(path, content, is_durable=True)
        assert path.read_bytes() == content
    assert [each.name for each in tmp_path.iterdir()] == ["x"]
    with pytest.raises(OSError):
        write_whole(tmp_path / "no/such", b"")
    path.unlink()
    path.mkdir()
    with pytest.raises(OSError):
        write_whole(path, b"")
    assert [each.name for each in tmp_path.iterdir()] == ["x"]


def test_a_mode_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    set_mode(tmp_path, 0o750)
    before = tmp_path.stat()
    assert before.st_mode & 0o7777 == 0o750
    set_mode(tmp_path, 0o750)
    assert tmp_path.stat().st_ctime_ns == before.st_ctime_ns
