"""What a frozen build brings along is found before the system's, and configuration before either."""

from __future__ import annotations

import ssl
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from pinnace.core.base import bundle
from pinnace.core.base.settings.edged import BuiltinRuntimeSettings


@pytest.fixture
def frozen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder lib/ of a tree; the process seems to run from it."""
    lib = tmp_path / "opt/pinnace/1.0/lib"
    (lib / "bin").mkdir(parents=True)
    (lib / "bin/crun").touch()
    (lib / "cacert.pem").touch()
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "_MEIPASS", str(lib), raising=False)
    monkeypatch.setattr(sys, "executable", str(lib.parent / "pinnace"))
    monkeypatch.setattr(bundle, "PREFIX", tmp_path / "opt/pinnace")
    return lib


def test_from_a_checkout_everything_is_the_systems() -> None:
    assert bundle.folder() is None
    assert bundle.program("crun") == "crun"
    assert bundle.plugin_folders(Path("/a"), Path("/b")) == (Path("/a"), Path("/b"))
    assert bundle.authorities() == ""
    assert not bundle.is_unpacked_for_now()


def test_what_was_brought_along_comes_first(frozen: Path) -> None:
    assert bundle.program("crun") == str(frozen / "bin/crun")
    assert bundle.program("mosquitto") == "mosquitto", "not in this one"
    assert bundle.plugin_folders(Path("/usr/lib/cni")) == (frozen / "cni", Path("/usr/lib/cni"))
    assert BuiltinRuntimeSettings().crun == str(frozen / "bin/crun")
    assert BuiltinRuntimeSettings(crun="/mine").crun == "/mine"
    assert not bundle.is_unpacked_for_now()


def test_an_installed_one_is_named_by_the_link_that_stays(frozen: Path) -> None:
    current = frozen.parents[1] / "current"
    current.symlink_to("1.0")
    assert bundle.program("crun") == str(current / "lib/bin/crun")
    current.unlink()
    (frozen.parents[1] / "2.0/lib").mkdir(parents=True)
    current.symlink_to("2.0")
    assert bundle.program("crun") == str(frozen / "bin/crun"), "another version is in use"


def test_the_one_file_knows_that_it_goes_away(frozen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/home/pi/pinnace-1.0-arm64")
    assert bundle.is_unpacked_for_now()


@pytest.mark.parametrize("has_own", [True, False])
def test_authorities_are_the_systems_where_it_has_any(frozen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_own: bool) -> None:
    certs = tmp_path / "certs"
    certs.mkdir()
    if has_own:
        (certs / "a.0").touch()
    paths = SimpleNamespace(cafile=None, capath=str(certs))
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: paths)
    assert bundle.authorities() == ("" if has_own else str(frozen / "cacert.pem"))


def test_the_childs_libraries_are_the_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen program points LD_LIBRARY_PATH at its own libraries."""
    monkeypatch.setenv("LD_LIBRARY_PATH", "/frozen")
    monkeypatch.setenv("LD_LIBRARY_PATH_ORIG", "/users")
    assert bundle.environment()["LD_LIBRARY_PATH"] == "/users"
    monkeypatch.delenv("LD_LIBRARY_PATH_ORIG")
    assert bundle.environment()["LD_LIBRARY_PATH"] == "/frozen"
    monkeypatch.setattr("sys.frozen", True, raising=False)
    assert "LD_LIBRARY_PATH" not in bundle.environment()
