"""Packages that offer no wheel for 32-bit ARM, cross-compiled from their source archives: uvloop, PyYAML, zstandard, PyInstaller."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from freezing.native import compiler
from freezing.roots import python_version
from freezing.targets import Target, call


@dataclass(frozen=True, slots=True)
class Bench:
    """For whom things are compiled, against which root, into which folder of packages, and where what is said goes."""

    target: Target
    root: Path
    site: Path
    log: Path

    @property
    def tool(self) -> list[str]:
        return compiler(self.target, self.root)

    def extension(self, source: Path, library: str, *arguments: str) -> None:
        """A module of Python's; `library` is its path without what its kind adds, arguments are relative to `source`."""
        python = python_version(self.root)
        headers = [f"-I{self.root}/usr/include/python{python}", f"-I{self.root}/usr/include"]
        made = self.site / f"{library}.cpython-{python.replace('.', '')}-{self.target.triplet}.so"
        call([*self.tool, "-shared", "-fPIC", "-O2", "-g0", "-DNDEBUG", *headers, *arguments, "-o", made], cwd=source, log=self.log)


def _uvloop(source: Path, bench: Bench) -> None:
    libuv = source / "vendor/libuv"
    settings = ["--disable-shared", "--with-pic", f"CC={' '.join(bench.tool)}", "CFLAGS=-O2"]
    call(["./configure", f"--host={bench.target.triplet}", *settings], cwd=libuv, log=bench.log)
    call(["make", f"-j{os.cpu_count()}", "libuv.la"], cwd=libuv, log=bench.log)
    _copy(source / "uvloop", bench.site / "uvloop")
    bench.extension(source, "uvloop/loop", "-Ivendor/libuv/include", "uvloop/loop.c", "vendor/libuv/.libs/libuv.a", "-lpthread")


def _zstandard(source: Path, bench: Bench) -> None:
    _copy(source / "zstandard", bench.site / "zstandard")
    bench.extension(source, "zstandard/backend_c", "-Ic-ext", "-Izstd", "c-ext/backend_c.c", "zstd/zstd.c", "-lpthread")


def _pyyaml(source: Path, bench: Bench) -> None:
    """Without libyaml, which only makes it faster."""
    _copy(source / "lib/yaml", bench.site / "yaml")


def _pyinstaller(source: Path, bench: Bench) -> None:
    call([sys.executable, "waf", "distclean", "all"], cwd=source / "bootloader", env={"CC": " ".join(bench.tool)}, log=bench.log)
    shutil.copytree(source / "PyInstaller", bench.site / "PyInstaller")


RECIPES: Final[dict[str, Callable[[Path, Bench], None]]] = {
    "uvloop": _uvloop,
    "zstandard": _zstandard,
    "pyyaml": _pyyaml,
    "pyinstaller": _pyinstaller,
}


def build(requirement: str, constraints: Path, name: str, bench: Bench) -> None:
    """One of RECIPES into the bench's folder, with metadata as a wheel would have brought it."""
    site = bench.site
    work = site.with_name(f"{site.name}.{name}")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--no-deps", "--no-binary", name, "-d", work]
    call([*pip, "-c", constraints, requirement], log=bench.log)
    archive = next(work.glob("*.tar.gz"))
    with tarfile.open(archive) as packed:
        packed.extractall(work, filter="data")
    source = work / archive.name.removesuffix(".tar.gz")
    before = set(site.rglob("*"))
    RECIPES[name](source, bench)
    files = sorted(each for each in set(site.rglob("*")) - before if each.is_file())
    facts = (source / "PKG-INFO").read_text()
    version = next(iter(re.findall(r"^Version: (.*)$", facts, re.MULTILINE)))
    folder = site / f"{name}-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(facts)
    for each in sorted(source.iterdir()):
        if each.name.upper().startswith(("LICEN", "COPYING")) and each.is_file():
            shutil.copyfile(each, folder / each.name)
    listed = [*files, *sorted(folder.iterdir())]
    (folder / "RECORD").write_text("".join(f"{each.relative_to(site)},,\n" for each in listed))
    shutil.rmtree(work)


def _copy(package: Path, into: Path) -> None:
    shutil.copytree(package, into, ignore=shutil.ignore_patterns("*.pyx", "*.pxd", "*.c", "*.h", "*.rs"))
