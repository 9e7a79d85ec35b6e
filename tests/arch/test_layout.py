"""The layout's traps: what must never be there, and what must stay small."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("core", "ext", "cloud", "mappers")


def sources() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


@pytest.mark.parametrize("folder", ["build", "packaging", "packaging/ns", "packaging/ns/pinnace"])
def test_folder_is_no_package(folder: str) -> None:
    assert not (ROOT / folder / "__init__.py").exists(), f"{folder}/__init__.py would shadow a tool of that name"


@pytest.mark.parametrize("package", PACKAGES)
def test_import_name_is_a_relative_link(package: str) -> None:
    link = ROOT / "packaging/ns/pinnace" / package
    assert link.is_symlink()
    assert not link.readlink().is_absolute()
    assert link.resolve() == ROOT / package


LARGE = {
    "ext/envelope_py.py": 550,  # hot paths: one source is one compilation unit, whose C functions inline into each other
    "ext/twindiff_py.py": 1150,
}


def test_modules_stay_small() -> None:
    sizes = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in sources()}
    assert not {name: size for name, size in sizes.items() if size > LARGE.get(name, 500)}


def test_every_module_says_what_it_is() -> None:
    silent = [str(path.relative_to(ROOT)) for path in sources() if not path.read_text().lstrip().startswith(('"""', 'r"""', "# cython: "))]
    assert not silent


def test_modules_import_alone() -> None:
    """Each module imports in one fresh interpreter started from nothing, and none is loaded under its bare folder name."""
    names = []
    for path in sources():
        parts = path.relative_to(ROOT).with_suffix("").parts
        names.append("pinnace." + ".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    names = [name for name in names if not name.endswith("__main__")]
    script = (
        "import importlib, sys\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(name)\n"
        f"bare = [name for name in sys.modules if name.split('.')[0] in {PACKAGES!r}]\n"
        "assert not bare, bare\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error::SyntaxWarning", "-c", script], capture_output=True, text=True, cwd="/", check=False
    )
    assert done.returncode == 0, done.stderr
