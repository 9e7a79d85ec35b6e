"""Files that are whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from pinnace.core.base.files import write_whole


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
