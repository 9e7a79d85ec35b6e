"""Folders that others write in: walked and removed at any depth."""

from __future__ import annotations

from pathlib import Path

import pytest
from rig.deep import deepen

from pinnace.core.base.folders import deepest_first, remove


def test_removing_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"the node's")
    volume = tmp_path / "volume"
    (volume / "a/b").mkdir(parents=True)
    (volume / "a/b/file").touch()
    (volume / "a/out").symlink_to("../../secret")
    (volume / "a/up").symlink_to(tmp_path)
    remove(volume)
    assert not volume.exists()
    assert (tmp_path / "secret").read_bytes() == b"the node's"
    remove(volume)


def test_removing_a_link_to_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "link").symlink_to("kept")
    with pytest.raises(OSError):
        remove(tmp_path / "link")
    assert (tmp_path / "kept").exists()


def test_removing_a_tree_of_any_depth(tmp_path: Path) -> None:
    deepen(tmp_path / "deep")
    before = len(list(Path("/proc/self/fd").iterdir()))
    remove(tmp_path / "deep")
    assert not (tmp_path / "deep").exists()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_walking_from_below(tmp_path: Path) -> None:
    for each in ("top/a/b", "top/a/c", "top/d"):
        (tmp_path / each).mkdir(parents=True)
    (tmp_path / "top/a/file").touch()
    (tmp_path / "top/a/link").symlink_to(tmp_path)
    found = [str(each.relative_to(tmp_path)) for each in deepest_first(tmp_path / "top")]
    assert sorted(found) == ["top", "top/a", "top/a/b", "top/a/c", "top/d"]
    assert all(found.index(each) < found.index(each.rpartition("/")[0]) for each in found if "/" in each)
    assert list(deepest_first(tmp_path / "none")) == [tmp_path / "none"]


def test_walking_at_any_depth(tmp_path: Path) -> None:
    deepen(tmp_path / "deep")
    assert len(list(deepest_first(tmp_path / "deep"))) == 1501
    remove(tmp_path / "deep")
