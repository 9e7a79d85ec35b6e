"""What stops a freeze: a library that is nowhere, a glibc that is too new, a file without a licence; and what is kept between runs."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

import pytest
from freezing import checks, targets
from freezing.licences import Licences
from freezing.targets import TARGETS, kept

HOST = next(each for each in TARGETS.values() if not each.is_emulated)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A program in lib/bin that needs libother.so, which is in lib/."""
    lib = tmp_path / "tree/lib"
    (lib / "bin").mkdir(parents=True)
    (tmp_path / "other.c").write_text("int other(void) { return 1; }\n")
    (tmp_path / "main.c").write_text("#include <stdlib.h>\nint other(void);\nint main(void) { exit(other()); }\n")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", lib / "libother.so", tmp_path / "other.c"], check=True)
    subprocess.run(["gcc", "-o", lib / "bin/main", tmp_path / "main.c", f"-L{lib}", "-lother"], check=True)
    return lib.parent


def test_what_a_program_needs_is_read(tree: Path) -> None:
    found = checks.linkage(tree / "lib/bin/main")
    assert found.needed == {"libother.so", "libc.so.6"}
    assert found.glibc >= (2, 2)
    assert checks.programs(tree) == [tree / "lib/bin/main", tree / "lib/libother.so"]
    assert checks.check_linkage(tree, dataclasses.replace(HOST, glibc=(9, 0))) == found.glibc


def test_a_library_that_is_nowhere_stops_it(tree: Path) -> None:
    (tree / "lib/libother.so").unlink()
    with pytest.raises(SystemExit, match=r"lib/bin/main needs libother\.so"):
        checks.check_linkage(tree, dataclasses.replace(HOST, glibc=(9, 0)))


def test_a_glibc_that_is_too_new_stops_it(tree: Path) -> None:
    with pytest.raises(SystemExit, match="needs glibc"):
        checks.check_linkage(tree, dataclasses.replace(HOST, glibc=(2, 1)))


def test_a_file_of_nobody_stops_it(tmp_path: Path) -> None:
    (tmp_path / "usr/share/doc/libone").mkdir(parents=True)
    (tmp_path / "usr/share/doc/libone/copyright").write_text("Format: x\nLicense: MIT\n see /usr/share/common-licenses/GPL-2.\n")
    (tmp_path / "usr/share/common-licenses").mkdir()
    (tmp_path / "usr/share/common-licenses/GPL-2").write_text("the text")
    owners = {"/usr/lib/x/libone.so": ["libone", "1.0", "one", "1.0-1"]}
    found = Licences(tmp_path, owners, tmp_path / "site")
    found.add("libone.so", Path("/lib/x/libone.so"))
    with pytest.raises(SystemExit, match="of which package is it"):
        found.add("libtwo.so", Path("/lib/x/libtwo.so"))
    written = [each.relative_to(tmp_path / "out").as_posix() for each in found.write(tmp_path / "out")]
    assert written == ["INDEX", "common/GPL-2", "index.json", "libone/copyright"]
    assert "libone 1.0: MIT\n    Debian source package one 1.0-1" in (tmp_path / "out/INDEX").read_text()


def test_what_is_kept_is_made_once_and_never_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "STORE", tmp_path)
    made = []

    def make(folder: Path) -> None:
        made.append(folder)
        (folder / "first").touch()
        if len(made) == 1:
            raise KeyboardInterrupt
        (folder / "second").touch()

    with pytest.raises(KeyboardInterrupt):
        kept("thing", ["a"], make)
    folder = kept("thing", ["a"], make)
    assert sorted(each.name for each in folder.iterdir()) == ["first", "second"]
    assert kept("thing", ["a"], make) == folder
    assert len(made) == 2
    assert kept("thing", ["b"], make) != folder


def test_a_step_that_fails_says_what_it_said(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"no such thing(.|\n)*sh failed with 3"):
        targets.call(["sh", "-c", "echo no such thing >&2; exit 3"], log=tmp_path / "log")
