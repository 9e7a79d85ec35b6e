"""Files that change all at once, also when the machine stops in the middle."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.core.pods.material.atomic import File, checked, write


def files(**texts: str) -> dict[str, File]:
    return {name.replace("__", "/"): File(text.encode(), 0o644) for name, text in texts.items()}


def target(link: Path) -> str:
    return str(link.readlink())


def seen(volume: Path) -> dict[str, str]:
    """What a container sees: every file by the path a program would use."""
    found = {}
    for link in volume.iterdir():
        if link.name.startswith(".."):
            continue
        for above, _, names in os.walk(link) if link.is_dir() else [(str(volume), [], [link.name])]:
            for name in names:
                path = Path(above, name)
                found[str(path.relative_to(volume))] = path.read_text()
    return found


def test_the_layout(tmp_path: Path) -> None:
    assert write(tmp_path, files(color="red", deep__er="x"), wall=1_700_000_000.5)
    assert target(tmp_path / "..data") == "..2023_11_14_22_13_20.500000000"
    assert target(tmp_path / "color") == "..data/color"
    assert target(tmp_path / "deep") == "..data/deep"
    assert seen(tmp_path) == {"color": "red", "deep/er": "x"}


def test_the_same_content_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path, files(color="red"))
    before = target(tmp_path / "..data")
    assert not write(tmp_path, files(color="red"))
    assert target(tmp_path / "..data") == before


@pytest.mark.parametrize("after", [files(color="blue"), files(size="1"), files(), files(color__deep="x"), {"color": File(b"red", 0o600)}])
def test_new_content_replaces_all_of_the_old(tmp_path: Path, after: dict[str, File]) -> None:
    write(tmp_path, files(color="red", other="y"))
    assert write(tmp_path, after)
    assert seen(tmp_path) == {path: file.data.decode() for path, file in after.items()}
    assert len([each for each in tmp_path.iterdir() if each.name.startswith("..")]) == 2


def test_modes(tmp_path: Path) -> None:
    write(tmp_path, {"key": File(b"k", 0o400), "sub/run": File(b"r", 0o755)})
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o400
    assert stat.S_IMODE((tmp_path / "sub/run").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "sub").stat().st_mode) == 0o755


def test_what_is_finished_before_it_is_seen_is_no_change_later(tmp_path: Path) -> None:
    def give(folder: Path) -> None:
        assert not os.path.lexists(tmp_path / "..data")
        (folder / "key").chmod(0o440)

    assert write(tmp_path, {"key": File(b"k", 0o400)}, give)
    assert not write(tmp_path, {"key": File(b"k", 0o400)}, give)


def test_somebody_elses_things_stay(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").write_text("x")
    write(tmp_path, files(color="red"))
    assert (tmp_path / "kept/file").exists()


def test_a_data_link_that_leads_elsewhere_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "color").write_text("red")
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "..data").symlink_to(elsewhere)
    write(volume, files(color="red"))
    assert (elsewhere / "color").exists()
    assert target(volume / "..data").startswith("..2")


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../up", "a/../../up", "..data", "..2024/x", ".", "a\0b", "a" * 5000])
def test_paths_that_lead_out_are_refused(path: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        checked(path)
    with pytest.raises(ValueError):
        write(tmp_path, {path: File(b"", 0o644)})
    assert not list(tmp_path.iterdir())


@given(st.text(max_size=40))
def test_a_checked_path_stays_within(path: str) -> None:
    try:
        plain = checked(path)
    except ValueError:
        return
    assert Path(os.path.normpath(f"/volume/{plain}")).is_relative_to("/volume")
    assert not plain.startswith("..")


def test_a_file_that_is_to_be_a_folder_too(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="folder"):
        write(tmp_path, files(a="x", a__b="y"))


class Stop(BaseException):
    """The power goes."""


STEPS = ("open", "mkdir", "rename", "symlink", "unlink", "chmod", "fchmod", "rmdir")


def stopping(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Let the `at`th step that changes something be the last one."""
    count = iter(range(at))

    def guarded(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            if next(count, None) is None:
                raise Stop
            return real(*args, **more)

        return call

    for name in STEPS:
        monkeypatch.setattr(os, name, guarded(getattr(os, name)))


@pytest.mark.parametrize("old", [None, files(color="red", gone="x", deep__a="1")])
def test_a_stop_at_any_step_shows_old_or_new_and_is_put_right(tmp_path: Path, old: dict[str, File] | None) -> None:
    new = files(color="blue", fresh="y", deep__b="2")
    texts = {path: file.data.decode() for path, file in new.items()}
    for at in range(200):
        volume = tmp_path / str(at)
        volume.mkdir()
        if old is not None:
            write(volume, old)
        before = seen(volume)
        with pytest.MonkeyPatch.context() as patched:
            stopping(patched, at)
            try:
                write(volume, new)
            except Stop:
                stopped = True
            else:
                stopped = False
        data = volume / "..data"
        if data.exists():
            now = {str(each.relative_to(data)): each.read_text() for each in data.rglob("*") if each.is_file()}
            assert now in (before, texts)
        write(volume, new)
        assert seen(volume) == texts
        assert sorted(each.name for each in volume.iterdir() if each.name.startswith("..")) == sorted(["..data", target(data)])
        if not stopped:
            assert at > 5
            return
    pytest.fail("it never ended")
