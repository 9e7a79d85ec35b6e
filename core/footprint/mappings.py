"""The memory of one process by what it is for, from the kernel's list of its mappings (proc(5), smaps)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Final


class Part(StrEnum):
    """What a mapping is for; in the order of a table."""

    HEAP = "heap"
    ANONYMOUS = "anonymous"
    STACK = "stack"
    INTERPRETER = "interpreter"
    HOT_PATHS = "hot paths"
    EXTENSIONS = "extensions"
    TLS = "tls"
    LIBRARIES = "libraries"
    PROGRAM = "program"
    SHARED = "shared memory"
    FILES = "files"
    KERNEL = "kernel"


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes. `pss` counts a page that n processes share as 1/n; `uss` is what would be free without the process; `file` is the part of
    pss that is page cache, which the kernel can drop and read again."""

    pss: int = 0
    rss: int = 0
    uss: int = 0
    file: int = 0

    def __add__(self, other: Sizes) -> Sizes:
        return Sizes(self.pss + other.pss, self.rss + other.rss, self.uss + other.uss, self.file + other.file)


@dataclass(frozen=True, slots=True)
class Mapped:
    """All mappings of one file, or of one kind without a file."""

    name: str
    part: Part
    sizes: Sizes


_HEAD: Final = re.compile(r"[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \d+ *(.*)")
_EXTENSION: Final = re.compile(r"(.+?)\.(?:cpython-[^/]*|abi3)\.so|(.+)\.so")
_ROOTS: Final = ("site-packages", "dist-packages", "lib-dynload", "_internal", "lib")
_TLS: Final = ("libssl", "libcrypto", "_ssl.", "_hashlib.")
_DATABASES: Final = (".db", ".db-shm", ".db-wal")


def part_of(path: str, program: str = "") -> Part:
    """`path` as smaps tells it, `program` is what the process executes."""
    name = PurePosixPath(path).name
    if not path or path.startswith("[anon"):
        return Part.ANONYMOUS
    if path == "[heap]":
        return Part.HEAP
    if path.startswith("[stack"):
        return Part.STACK
    if path.startswith("["):
        return Part.KERNEL
    if path.startswith(("/memfd:", "/dev/shm/", "/SYSV", "/dev/zero")):  # noqa: S108 - a name in a list
        return Part.SHARED
    if name.startswith(_TLS):
        return Part.TLS
    if name.startswith(("libpython", "python3")):
        return Part.INTERPRETER
    if path == program:
        return Part.PROGRAM
    if ".so" in name:
        if PurePosixPath(path).parent.name == "ext" and re.match(r"\w+_c\.", name):
            return Part.HOT_PATHS
        return Part.EXTENSIONS if _module(path) else Part.LIBRARIES
    return Part.FILES


def _module(path: str) -> str:
    """The Python module that a shared object is; "" for a plain library."""
    pure = PurePosixPath(path)
    match = _EXTENSION.fullmatch(pure.name)
    is_extension = match is not None and (match[1] is not None or pure.parent.name == "lib-dynload")
    if match is None or not is_extension:
        return ""
    parents: list[str] = []
    for each in reversed(pure.parts[:-1]):
        if each in _ROOTS or each == "/" or each.startswith("python3"):
            return ".".join([*reversed(parents), match[1] or match[2]])
        parents.append(each)
    return str(match[1] or match[2])


def parse(text: str, program: str = "") -> list[Mapped]:
    """Of smaps; the largest share first."""
    found: dict[tuple[Part, str], Sizes] = {}
    path = ""
    fields: dict[str, int] = {}

    def add() -> None:
        if fields:
            part = part_of(path, program)
            file = 0 if not path.startswith("/") else max(fields["Pss"] - fields.get("Anonymous", 0), 0)
            sizes = Sizes(fields["Pss"], fields["Rss"], fields["Private_Clean"] + fields["Private_Dirty"], file)
            key = part, _name(path, part)
            found[key] = found.get(key, Sizes()) + sizes

    for line in text.splitlines():
        head = _HEAD.fullmatch(line)
        if head is not None:
            add()
            path, fields = head[1].removesuffix(" (deleted)"), {}
            continue
        key, _, rest = line.partition(":")
        words = rest.split()
        if len(words) == 2 and words[1] == "kB":
            fields[key] = int(words[0]) * 1024
    add()
    rows = [Mapped(name, part, sizes) for (part, name), sizes in found.items()]
    return sorted(rows, key=lambda each: -each.sizes.pss)


def _name(path: str, part: Part) -> str:
    if part is Part.HOT_PATHS:
        return f"pinnace.ext.{PurePosixPath(path).name.partition('.')[0]}"
    if part in (Part.EXTENSIONS, Part.TLS):
        return _module(path) or PurePosixPath(path).name
    if part is Part.FILES:
        return PurePosixPath(path).name if path.endswith(_DATABASES) else path
    return PurePosixPath(path).name if path.startswith("/") else path or "(anonymous)"


def by_part(mapped: Iterable[Mapped]) -> dict[Part, Sizes]:
    """In the order of `Part`; parts of which there is nothing are left out."""
    found: dict[Part, Sizes] = {}
    for each in mapped:
        found[each.part] = found.get(each.part, Sizes()) + each.sizes
    return {part: found[part] for part in Part if part in found}


def rollup(text: str) -> Sizes:
    """Of smaps_rollup, which costs the kernel less than smaps."""
    fields = {}
    for line in text.splitlines()[1:]:
        key, _, rest = line.partition(":")
        fields[key] = int(rest.split()[0]) * 1024
    return Sizes(fields["Pss"], fields["Rss"], fields["Private_Clean"] + fields["Private_Dirty"], fields.get("Pss_File", 0))


def read(pid: int, proc: Path = Path("/proc")) -> list[Mapped]:
    """Raises OSError when the process is gone or not ours to read."""
    folder = proc / str(pid)
    try:
        program = str((folder / "exe").readlink()).removesuffix(" (deleted)")
    except OSError:
        program = ""
    return parse((folder / "smaps").read_text(errors="replace"), program)
