"""Who holds this process's memory, where allocations are traced: Python's heap by top package, and what its allocators keep.

Only a profiling build, or PYTHONTRACEMALLOC, pays for tracing; nothing else loads this module."""

from __future__ import annotations

import ctypes
import os
import re
import sys
import tempfile
import tracemalloc
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Final

_ROOTS: Final = ("site-packages", "dist-packages", "lib-dynload", "_internal", "ns")


def package_of(file: str) -> str:
    """The top package of a source file as tracemalloc names it; ours by their second part, the rest of the standard library together."""
    if file.startswith("<frozen importlib"):
        return "importlib"
    parts = PurePosixPath(file).parts
    if "pinnace" in parts:
        return ".".join(["pinnace", *parts[parts.index("pinnace") + 1 : -1][:2]])
    for root in _ROOTS:
        if root in parts:
            return parts[len(parts) - 1 - parts[::-1].index(root) + 1].removesuffix(".py")
    for place, each in enumerate(parts[:-1]):
        if each in ("core", "ext", "cloud", "mappers"):
            return ".".join(["pinnace", *parts[place:-1][:2]])
    return "standard library"


def by_package(snapshot: tracemalloc.Snapshot) -> list[dict[str, Any]]:
    """Live bytes and blocks, the largest first."""
    found: dict[str, list[int]] = {}
    for each in snapshot.statistics("filename"):
        entry = found.setdefault(package_of(each.traceback[0].filename), [0, 0])
        entry[0] += each.size
        entry[1] += each.count
    return [
        {"package": name, "bytes": size, "blocks": count} for name, (size, count) in sorted(found.items(), key=lambda pair: -pair[1][0])
    ]


def read() -> dict[str, Any]:
    """Needs tracing. Takes a moment that grows with the heap."""
    traced, peak = tracemalloc.get_traced_memory()
    snapshot = tracemalloc.take_snapshot()
    return {
        "packages": by_package(snapshot),
        "traced_bytes": traced,
        "traced_peak_bytes": peak,
        "tracing_costs_bytes": tracemalloc.get_tracemalloc_memory(),
        "pymalloc": pymalloc(),
        "malloc": malloc(),
        "sqlite_bytes": sqlite_memory(),
    }


def pymalloc() -> dict[str, int]:
    """The small-object allocator's arenas, from the interpreter's own account; it writes to descriptor 2 only, which is lent for that."""
    with tempfile.TemporaryFile() as file:
        sys.stderr.flush()
        kept = os.dup(2)
        try:
            os.dup2(file.fileno(), 2)
            sys._debugmallocstats()
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        file.seek(0)
        text = file.read().decode(errors="replace")
    return parse_pymalloc(text)


def parse_pymalloc(text: str) -> dict[str, int]:
    def number(pattern: str) -> int:
        match = re.search(pattern, text, re.MULTILINE)
        return int(match[1].replace(",", "")) if match else 0

    arenas = number(r"^# arenas allocated current\s+=\s+([\d,]+)")
    size = number(r"^\d+ arenas \* (\d+) bytes/arena")
    return {
        "arenas": arenas,
        "held_bytes": arenas * size,
        "used_bytes": number(r"^# bytes in allocated blocks\s+=\s+([\d,]+)"),
        "free_bytes": number(r"^# bytes in available blocks\s+=\s+([\d,]+)") + number(r"^\d+ unused pools \* \d+ bytes\s+=\s+([\d,]+)"),
    }


class _Mallinfo(ctypes.Structure):
    """struct mallinfo2 of glibc 2.33 and newer (mallinfo(3))."""

    _fields_: ClassVar = [
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    ]


def malloc() -> dict[str, int]:
    """The C library's heap: what it holds, what of it is in use, what it could give back at once. Empty where it is not glibc."""
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallinfo2"):
        return {}
    library.mallinfo2.restype = _Mallinfo
    found = library.mallinfo2()
    return {
        "held_bytes": found.arena + found.hblkhd,
        "used_bytes": found.uordblks + found.hblkhd,
        "free_bytes": found.fordblks,
        "trimmable_bytes": found.keepcost,
    }


def sqlite_memory() -> int:
    """Bytes that SQLite holds; 0 where its library is not to be found among the loaded ones."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = line.split(maxsplit=5)[5] if line.count("/") else ""
        if "libsqlite3" in path:
            library = ctypes.CDLL(path)
            library.sqlite3_memory_used.restype = ctypes.c_int64
            return int(library.sqlite3_memory_used())
    return 0
