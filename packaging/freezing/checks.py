"""What a frozen tree must pass before anybody gets it. PyInstaller ends well on a tree that cannot run."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from freezing.targets import Target, call

SYSTEM: Final = frozenset({"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1", "libresolv.so.2"})
"""Libraries of glibc, which every system has and no tree may bring along."""
ONE_FILE_LIMIT: Final = 30_000_000
_VERSION: Final = re.compile(r"Name: GLIBC_(\d+)\.(\d+)")
_NEEDED: Final = re.compile(r"\(NEEDED\).*\[(.*)\]")


@dataclass(frozen=True, slots=True)
class Linkage:
    """What an ELF file asks of the system: the newest glibc, and libraries by name."""

    glibc: tuple[int, int]
    needed: frozenset[str]


def linkage(path: Path) -> Linkage:
    def read(what: str) -> str:
        return subprocess.run(["readelf", "--wide", what, path], capture_output=True, text=True, check=True).stdout

    versions = [(int(major), int(minor)) for major, minor in _VERSION.findall(read("--version-info"))]
    return Linkage(max(versions, default=(0, 0)), frozenset(_NEEDED.findall(read("--dynamic"))))


def programs(tree: Path) -> list[Path]:
    """Every ELF file of a tree."""
    files = (each for each in sorted(tree.rglob("*")) if each.is_file() and not each.is_symlink())
    return [each for each in files if each.open("rb").read(4) == b"\x7fELF"]


def check_linkage(tree: Path, target: Target) -> tuple[int, int]:
    """The newest glibc that anything needs. SystemExit when that is newer than the target's, or when a library is nowhere."""
    newest = (0, 0)
    for each in programs(tree):
        found = linkage(each)
        newest = max(newest, found.glibc)
        if found.glibc > target.glibc:
            raise SystemExit(
                f"{each.relative_to(tree)} needs glibc {found.glibc[0]}.{found.glibc[1]}, and the oldest system has {target.glibc}"
            )
        there = {path.name for path in (tree / "lib").iterdir()}
        lost = {name for name in found.needed - SYSTEM - there if not name.startswith("ld-linux")}
        if lost:
            raise SystemExit(f"{each.relative_to(tree)} needs {', '.join(sorted(lost))}, which is neither in the tree nor part of glibc")
    return newest


def check_selftest(bare: Path, work: Path, program: str, log: Path) -> None:
    """The program, a path below `work`, must find itself whole in a system that has nothing: no Python, no openssl, no broker."""
    inside = Path(__file__).with_name("inside.sh")
    enter = ["unshare", "--mount", "--pid", "--fork", "--propagation", "private", "sh", inside, bare, work]
    call([*enter, "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/nowhere", f"/build/{program}", "selftest"], log=log)


def check_size(one_file: Path) -> None:
    size = one_file.stat().st_size
    if size > ONE_FILE_LIMIT:
        raise SystemExit(f"{one_file.name} is {size / 1e6:.1f} MB, more than {ONE_FILE_LIMIT / 1e6:.1f} MB: what has come in?")
