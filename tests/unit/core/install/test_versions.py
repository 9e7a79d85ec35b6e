"""Versions side by side: laid down whole or not at all, switched in one step, repaired, gone back from, cleared away."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pinnace.core.base.errors import ConfigError, PinnaceError, RefusedError
from pinnace.core.install import versions as module
from pinnace.core.install.build import Build
from pinnace.core.install.manifest import NAME, Manifest
from pinnace.core.install.versions import Versions

Make = Callable[..., Build]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes builds: `make("1.0", content="x")`."""

    def made(version: str, *, content: str = "", schema: int = 1) -> Build:
        tree = tmp_path / f"build-{version}-{content}"
        (tree / "lib").mkdir(parents=True)
        (tree / "pinnace").write_text(f"program {version} {content}")
        (tree / "pinnace").chmod(0o755)
        (tree / "lib/some").write_text(f"{version} {content}")
        (tree / "lib/link").symlink_to("some")
        (tree / "lib/release.json").write_text(json.dumps({"version": version, "arch": "arm64", "schema": schema, "commit": "c"}))
        (tree / NAME).write_text(Manifest.of(tree).text())
        return Build.of(tree)

    return made


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    found = Versions(tmp_path / "root")
    with found.locked():
        pass
    return found


def install(versions: Versions, build: Build) -> str:
    with versions.locked():
        name = versions.lay(build)
        versions.switch(name)
    return name


def test_a_tree_is_laid_down_and_used(versions: Versions, make: Make) -> None:
    assert install(versions, make("1.0")) == "1.0"
    tree = versions.folder / "current"
    assert (tree / "pinnace").read_text() == "program 1.0 "
    assert (tree / "pinnace").stat().st_mode & 0o777 == 0o755
    assert (tree / "lib/link").readlink() == Path("some")
    assert (versions.folder / "current").readlink() == Path("1.0"), "relative, so that it holds in an image"
    assert versions.release("1.0").arch == "arm64"


def test_the_one_before_is_kept_and_no_other(versions: Versions, make: Make) -> None:
    for version in ("1.0", "1.1", "1.2"):
        install(versions, make(version))
    assert (versions.current, versions.previous, versions.names()) == ("1.2", "1.1", ["1.1", "1.2"])
    versions.switch(versions.back())
    assert (versions.current, versions.previous, versions.names()) == ("1.1", "1.2", ["1.1", "1.2"])


def test_there_is_no_way_back_from_the_first(versions: Versions, make: Make) -> None:
    install(versions, make("1.0"))
    with pytest.raises(RefusedError, match="no version to go back to"):
        versions.back()


def test_nobody_goes_back_to_what_did_not_come_up_without_knowing(versions: Versions, make: Make) -> None:
    install(versions, make("1.0"))
    install(versions, make("1.1"))
    versions.give_way("1.0")
    assert (versions.current, versions.failed) == ("1.0", "1.1")
    with pytest.raises(RefusedError, match=r"1\.1, the version before, did not come up .*: pinnace install --rollback 1\.1"):
        versions.back()
    with pytest.raises(RefusedError, match=r"no version 0\.9;"):
        versions.back("0.9")
    assert versions.back("1.1") == "1.1"
    versions.switch("1.1")
    assert (versions.failed, versions.back()) == ("", "1.0"), "it is in use again, so it may have been mended"
    versions.give_way("1.0")
    install(versions, make("1.2"))
    assert (versions.failed, versions.names()) == ("", ["1.0", "1.2"])
    with versions.locked():
        versions.remove()
    assert not versions.folder.exists()


def test_the_same_again_writes_nothing(versions: Versions, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    install(versions, make("1.0"))
    monkeypatch.setattr(module, "_place", None)
    assert install(versions, Build.of(versions.folder / "1.0")) == "1.0"
    assert versions.previous == ""


def test_another_build_of_one_version_gets_a_name_of_its_own(versions: Versions, make: Make) -> None:
    install(versions, make("1.0"))
    other = make("1.0", content="mended")
    name = install(versions, other)
    assert name == f"1.0+{other.manifest.digest[:8]}"
    assert (versions.folder / "current/lib/some").read_text() == "1.0 mended"
    assert install(versions, other) == name, "and keeps it"


def test_what_is_damaged_is_repaired_file_by_file(versions: Versions, make: Make) -> None:
    build = make("1.0")
    install(versions, build)
    tree = versions.folder / "1.0"
    untouched = (tree / "lib/some").stat().st_ino
    (tree / "pinnace").write_text("half")
    (tree / "lib/link").unlink()
    (tree / "lib/link/deep").mkdir(parents=True)
    install(versions, build)
    assert all(each.is_intact(tree) for each in build.manifest)
    assert (tree / "lib/some").stat().st_ino == untouched
    assert versions.names() == ["1.0"]


def test_a_download_that_is_not_whole_changes_nothing(versions: Versions, make: Make) -> None:
    install(versions, make("1.0"))
    broken = make("1.1")
    broken.file("lib/some").write_text("cut")
    with versions.locked(), pytest.raises(ConfigError, match="not whole"):
        versions.lay(broken)
    assert (versions.current, versions.names()) == ("1.0", ["1.0"])


def test_without_room_nothing_is_written(versions: Versions, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        f_bavail, f_frsize = 1000, 4096

    monkeypatch.setattr(os, "statvfs", lambda _: Full)
    with pytest.raises(PinnaceError, match="4 MB free, 17 MB are needed"):
        versions.lay(make("1.0"))
    assert versions.names() == []


class Cut(BaseException):
    """The power goes."""


STEPS = ("mkdir", "open", "chmod", "symlink_to", "rename", "replace", "unlink")


def test_cut_anywhere_it_is_the_old_or_the_new_one(versions: Versions, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step that changes the disk is the last one once. Afterwards `current` is whole, and the next run ends well."""
    old, new = make("1.0"), make("1.1")
    install(versions, old)
    seen = set()
    for cut in range(1, 200):
        left = [cut]
        with monkeypatch.context() as patch:
            for step in STEPS:
                real = getattr(Path, step)

                def counted(
                    self: Path, *args: object, _real: Callable[..., object] = real, _left: list[int] = left, **kwargs: object
                ) -> object:
                    if self.is_relative_to(versions.root):
                        _left[0] -= 1
                        if _left[0] == 0:
                            raise Cut
                    return _real(self, *args, **kwargs)

                patch.setattr(Path, step, counted)
            try:
                install(versions, new)
            except Cut:
                is_cut = True
            else:
                is_cut = False
        used = versions.current
        seen.add(used)
        build = {"1.0": old, "1.1": new}[used]
        assert all(each.is_intact(versions.folder / used) for each in build.manifest), f"after step {cut}"
        install(versions, new)
        assert versions.current == "1.1"
        if not is_cut:
            break
        install(versions, old)
    else:
        raise AssertionError("it never ended")
    assert seen == {"1.0", "1.1"}
    assert cut > 10


def test_one_at_a_time(versions: Versions) -> None:
    with versions.locked(), pytest.raises(RefusedError, match="at work already"), Versions(versions.root).locked():
        pass


def test_what_a_repair_was_cut_in_is_swept_up(versions: Versions, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    build = make("1.0")
    install(versions, build)
    (versions.folder / "1.0/pinnace").write_text("half")

    def cut(*_: object) -> None:
        raise Cut

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", cut)
        patch.setattr(os, "getpid", lambda: 1)
        with pytest.raises(Cut):
            install(versions, build)
    install(versions, build)
    assert Manifest.of(versions.folder / "1.0") == build.manifest, "and nothing beside it"
    assert sorted(each.name for each in versions.folder.iterdir()) == [".lock", "1.0", "current"]


def test_what_current_was_pointed_at_elsewhere_is_not_removed(versions: Versions, make: Make, tmp_path: Path) -> None:
    install(versions, make("1.0"))
    theirs = tmp_path / "checkout"
    theirs.mkdir()
    (versions.folder / "current").unlink()
    (versions.folder / "current").symlink_to(theirs)
    assert versions.current == ""
    with versions.locked():
        versions.remove()
    assert theirs.is_dir()
    assert not versions.folder.exists()


def test_removing_takes_all_of_it(versions: Versions, make: Make) -> None:
    install(versions, make("1.0"))
    install(versions, make("1.1"))
    with versions.locked():
        versions.remove()
    assert not versions.folder.exists()
