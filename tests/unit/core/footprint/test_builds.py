"""Frozen programs are read as PyInstaller writes them, and compared."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from PyInstaller.archive.writers import CArchiveWriter, ZlibArchiveWriter

from pinnace.core.base import cli
from pinnace.core.base.errors import ConfigError
from pinnace.core.footprint import builds, difference


def program(path: Path, modules: dict[str, str], files: dict[str, bytes]) -> None:
    """A program with modules, and files in it as a one-file program has them."""
    with tempfile.TemporaryDirectory() as folder:
        sources, code = [], {}
        for name, text in modules.items():
            source = Path(folder, name + ".py")
            source.write_text(text)
            sources.append((name, str(source), "PYMODULE"))
            code[name] = compile(text, name, "exec")
        archive = Path(folder, "PYZ.pyz")
        ZlibArchiveWriter(str(archive), sources, code_dict=code)
        entries = [("PYZ.pyz", str(archive), False, "z")]
        for name, content in files.items():
            file = Path(folder, "f" + name.replace("/", "_"))
            file.write_bytes(content)
            entries.append((name, str(file), True, "b"))
        package = Path(folder, "package")
        CArchiveWriter(str(package), entries, "libpython3.11.so.1.0")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\x7fELF" + b"boot" * 500 + package.read_bytes())


def tree(folder: Path, *, grown: bool = False) -> Path:
    modules = {"pinnace.core.pods.host": "A = 1\n", "yaml.loader": "B = 2\n", "asyncio": "C = 3\n"}
    program(folder / "pinnace", modules, {})
    for name, size in {
        "libssl.so.3": 70_000,
        "uvloop/loop.cpython-311-x86_64-linux-gnu.so": 160_000 if grown else 100_000,
        "python3.11/lib-dynload/_json.cpython-311-x86_64-linux-gnu.so": 30_000,
        "pinnace/core/pods/oci/shim/pinnace-shim": 50_000,
        "pinnace/core/meta/schema.sql": 900,
        "bin/crun": 40_000,
    }.items():
        path = folder / "lib" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(size))
    return folder


def test_a_tree_is_told_apart_by_package_and_kind(tmp_path: Path) -> None:
    found = builds.read(tree(tmp_path / "t"))
    assert found.files == 7
    assert found.by_kind()["brought along"] == found.by_package()["(crun)"] == 40_000
    assert (
        found.size == sum(each.size for each in found.pieces) == sum(each.stat().st_size for each in tmp_path.rglob("*") if each.is_file())
    )
    packages = found.by_package()
    assert packages["uvloop"] == 100_000
    assert packages["_json"] == 30_000
    assert packages["pinnace.core.pods"] > 50_000
    assert packages["pinnace.core.meta"] == 900
    assert {"yaml", "asyncio", "(libssl)", "(program)"} <= set(packages)
    assert found.extensions() == {"libssl.so.3": 70_000, "uvloop.loop": 100_000, "_json": 30_000}


def test_a_one_file_program_is_read_by_its_archive(tmp_path: Path) -> None:
    content = bytes(range(256)) * 400
    program(tmp_path / "pinnace-1", {"pinnace.core.agent": "x = 1\n"}, {"uvloop/loop.abi3.so": content})
    found = builds.read(tmp_path / "pinnace-1")
    assert found.size == (tmp_path / "pinnace-1").stat().st_size == sum(each.size for each in found.pieces)
    assert 0 < found.by_package()["uvloop"] < len(content)  # compressed
    assert {each.name for each in found.pieces if each.kind == "module"} == {"pinnace.core.agent"}


@pytest.mark.parametrize("content", [b"", b"\x7fELF no archive", b"MEI\014\013\012\013\016" + b"\xff" * 80, b"MEI\014\013\012\013\016"])
def test_what_is_no_build_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ConfigError, match="is no build"):
        builds.read(tmp_path / "x")


def test_archives_cut_anywhere_are_refused_or_read(tmp_path: Path) -> None:
    """Never another exception than the one that tells a person."""
    program(tmp_path / "whole", {"a": "x = 1\n"}, {"b.so": bytes(500)})
    content = (tmp_path / "whole").read_bytes()
    for start in range(0, len(content), 97):
        (tmp_path / "cut").write_bytes(content[start:])
        try:
            builds.read(tmp_path / "cut")
        except ConfigError:
            continue


def test_two_builds_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = tree(tmp_path / "a"), tree(tmp_path / "b", grown=True)
    rows = {row.name: row for row in difference.compare(before, after)}
    assert rows["all"].change == 60_000
    assert rows["package uvloop"].percent == 60.0
    assert rows["binary uvloop.loop"].after == 160_000
    assert cli.main(["footprint", "--diff", str(before), str(after)]) == 0
    shown = capsys.readouterr().out
    assert "package uvloop" in shown
    assert "yaml" not in shown  # nothing changed there
    assert cli.main(["footprint", "--diff", str(before), str(after), "--tolerance", "50"]) == 0
    assert cli.main(["footprint", "--diff", str(before), str(after), "--tolerance", "5", "--json"]) == 1
    assert "more than 5 % over: all" in capsys.readouterr().err
    assert cli.main(["footprint", "--diff", str(after), str(before), "--tolerance", "0"]) == 0  # less is no fault


def test_a_recording_and_a_build_are_two_things(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "r.json").write_text('{"kind": "footprint", "summary": {}}')
    assert cli.main(["footprint", "--diff", str(tmp_path / "r.json"), str(tree(tmp_path / "t"))]) == 2
    assert "two of a kind" in capsys.readouterr().err
    (tmp_path / "r.json").write_text("[]")
    assert cli.main(["footprint", "--diff", str(tmp_path / "r.json"), str(tmp_path / "r.json")]) == 2
    assert "no recording" in capsys.readouterr().err
