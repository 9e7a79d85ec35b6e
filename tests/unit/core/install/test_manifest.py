"""The list of a tree's files: what is written is read, and what is not as it says is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from pinnace.core.base.errors import ConfigError
from pinnace.core.install.manifest import NAME, Entry, Manifest


def tree(folder: Path) -> Path:
    (folder / "lib" / "bin").mkdir(parents=True)
    (folder / "pinnace").write_bytes(b"program")
    (folder / "pinnace").chmod(0o755)
    (folder / "lib/bin/two words").write_text("")
    (folder / "lib/link").symlink_to("bin")
    (folder / NAME).write_text("not of itself")
    return folder


def test_what_is_written_is_read(tmp_path: Path) -> None:
    found = Manifest.of(tree(tmp_path))
    assert [each.path for each in found] == ["lib/bin/two words", "lib/link", "pinnace"]
    again = Manifest.parse(found.text(), "x")
    assert again == found
    assert again.digest == found.digest
    assert all(each.is_intact(tmp_path) for each in again)
    assert found.size == 4096, "an empty file takes no block, a small one takes one"


@pytest.mark.parametrize("what", ["content", "mode", "gone", "link", "folder"])
def test_what_is_not_as_it_should_be_is_found(tmp_path: Path, what: str) -> None:
    found = Manifest.of(tree(tmp_path))
    program = tmp_path / "pinnace"
    match what:
        case "content":
            program.write_bytes(b"progran")
        case "mode":
            program.chmod(0o644)
        case "gone":
            program.unlink()
        case "link":
            (tmp_path / "lib/link").unlink()
            (tmp_path / "lib/link").symlink_to("elsewhere")
        case _:
            program.unlink()
            program.mkdir()
    broken = [each.path for each in found if not each.is_intact(tmp_path)]
    assert broken == ["lib/link" if what == "link" else "pinnace"]


@pytest.mark.parametrize("line", ["", "755 1 abc", "x 1 abc path", "755 y abc path", "755 1 abc /etc/passwd", "link x ../../etc/passwd"])
def test_what_is_no_manifest_is_refused(line: str) -> None:
    with pytest.raises(ConfigError, match="file:1"):
        Manifest.parse(f"{line}\n", "file")


def test_an_entry_reads_as_it_is_written() -> None:
    for entry in (Entry("a b", 0o755, 3, "f" * 64), Entry("x", target="../y")):
        assert Manifest.parse(f"{entry}\n", "x").entries == (entry if not entry.target else Entry("x", target="../y"),)
