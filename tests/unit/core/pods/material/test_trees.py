"""Walking what others write in."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from pathlib import Path

import pytest
from rig.deep import deepen

from pinnace.core.base.folders import remove
from pinnace.core.pods.material.trees import Escape, give, opened

GROUP = os.getgid()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def read(root: Path, inside: str) -> bytes:
    with opened(root, inside) as place:
        return Path(f"/proc/self/fd/{place}").read_bytes()


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_bytes(b"the node's")
    root = tmp_path / "volume"
    (root / "a/b").mkdir(parents=True)
    (root / "a/b/file").write_bytes(b"ours")
    (root / "up").symlink_to("../secret")
    (root / "absolute").symlink_to(tmp_path / "secret")
    (root / "a/rooted").symlink_to("/etc")
    (root / "a/back").symlink_to("../a/b")
    (root / "a/far").symlink_to("../../volume/a/b")
    (root / "loop").symlink_to("loop")
    (root / "chain").symlink_to("a/back")
    (root / "dangling").symlink_to("nothing")
    return root


@pytest.mark.parametrize("inside", ["a/b/file", "./a//b/file", "a/back/file", "chain/file", "a/b/./file"])
def test_within(volume: Path, inside: str) -> None:
    assert read(volume, inside) == b"ours"


@pytest.mark.parametrize(
    "inside", ["up", "absolute", "a/rooted/passwd", "a/far/file", "../secret", "a/../../secret", "/etc/passwd", "a/b/.."]
)
def test_out(volume: Path, inside: str) -> None:
    with pytest.raises(Escape):
        read(volume, inside)


@pytest.mark.parametrize(
    ("inside", "error"), [("loop", OSError), ("dangling", FileNotFoundError), ("a/b/file/x", OSError), ("no", FileNotFoundError)]
)
def test_nowhere(volume: Path, inside: str, error: type[OSError]) -> None:
    with pytest.raises(error):
        read(volume, inside)


def test_what_is_missing_is_made_within(volume: Path) -> None:
    with opened(volume, "new/deep", create_mode=0o2777) as place:
        assert stat.S_IMODE(os.fstat(place).st_mode) == 0o2777
    assert stat.S_IMODE((volume / "new").stat().st_mode) == 0o2777
    with pytest.raises(Escape), opened(volume, "up/new", create_mode=0o750):
        pass
    with opened(volume, "dangling/x", create_mode=0o750):
        pass
    assert (volume / "nothing/x").is_dir()


def test_no_descriptor_stays_open(volume: Path) -> None:
    before = descriptors()
    for inside in ("a/back/file", "up", "loop", "no", "a/b/file/x"):
        with contextlib.suppress(OSError):
            read(volume, inside)
    assert descriptors() == before


def test_changing_a_folder_into_a_link_meanwhile_gains_nothing(volume: Path, tmp_path: Path) -> None:
    """A container that swaps a folder for a link while it is looked up gets its own file or an error, never the node's."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").write_bytes(b"the node's")
    (volume / "link").symlink_to(tmp_path / "outside")
    done = threading.Event()

    def swap() -> None:
        while not done.is_set():
            for one, two in ((volume / "a/b", volume / "a/kept"), (volume / "link", volume / "a/b")):
                one.rename(two)
            for one, two in ((volume / "a/b", volume / "link"), (volume / "a/kept", volume / "a/b")):
                one.rename(two)

    swapping = threading.Thread(target=swap)
    swapping.start()
    outcomes = set()
    try:
        for _ in range(3000):
            try:
                outcomes.add(read(volume, "a/b/file"))
            except OSError as error:
                outcomes.add(type(error).__name__.encode())
    finally:
        done.set()
        swapping.join()
    assert b"the node's" not in outcomes
    assert b"ours" in outcomes


def test_giving_to_a_group(volume: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").chmod(0o600)
    (volume / "a/b/file").chmod(0o600)
    (volume / "a/pipe").touch()
    give(volume, GROUP)
    assert stat.S_IMODE(volume.stat().st_mode) & 0o2770 == 0o2770
    assert stat.S_IMODE((volume / "a/b").stat().st_mode) & 0o2770 == 0o2770
    assert stat.S_IMODE((volume / "a/b/file").stat().st_mode) == 0o660
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


def test_a_volume_too_deep_to_give_is_told(tmp_path: Path) -> None:
    deepen(tmp_path / "deep")
    with pytest.raises(OSError, match=r"too deep in each other|Too many open files"):
        give(tmp_path / "deep", GROUP)
    remove(tmp_path / "deep")


def test_a_volume_that_is_only_read(volume: Path) -> None:
    (volume / "a/b/file").chmod(0o400)
    give(volume, GROUP, readonly=True)
    assert stat.S_IMODE((volume / "a/b/file").stat().st_mode) == 0o440


def test_a_tree_whose_top_is_so_already_is_left_alone(volume: Path) -> None:
    give(volume, GROUP)
    (volume / "a/b/file").chmod(0o600)
    give(volume, GROUP, only_if_root_differs=True)
    assert stat.S_IMODE((volume / "a/b/file").stat().st_mode) == 0o600
    give(volume, GROUP)
    assert stat.S_IMODE((volume / "a/b/file").stat().st_mode) == 0o660
