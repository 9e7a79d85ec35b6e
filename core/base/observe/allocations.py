"""Who holds this process's memory, where allocations are traced: Python's heap by top package, and what its allocators keep.

Only a profiling build, or PYTHONTRACEMALLOC, pays for tracing; nothing else loads this module."""

from __future__ import annotations

import ctypes
import re
import sys
import tracemalloc
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Final

_ROOTS: Final = ("site-packages", "dist-packages", "lib-dynload", "_internal")
_STANDARD: Final = re.compile(r"python3\.\d+")
_OURS: Final = ("core", "ext", "cloud", "mappers")


def package_of(file: str) -> str:
    """The top package of a source file as tracemalloc names it, in a checkout and in a frozen build; ours by the first three names. What
    importlib holds is the code of all modules, which `pinnace footprint --imports` tells apart."""
    if file.startswith("<"):
        return "importlib (code of modules)" if "importlib" in file else file
    parts = PurePosixPath(file).parts
    if parts[-1].startswith("pyimod01"):  # what a frozen build imports with
        return "importlib (code of modules)"
    for place, each in enumerate(parts[:-1]):
        if each in _ROOTS or _STANDARD.fullmatch(each):
            following = parts[place + 1]
            if following in _ROOTS:
                continue
            parts = parts[place + 1 :]
            break
    if parts[0] == "/" or parts[0] == "pinnace":  # a checkout, or a frozen build
        start = next((place for place, each in enumerate(parts) if each in _OURS), 0)
        return ".".join(["pinnace", *(each.removesuffix(".py") for each in parts[start : start + 2])])
    return parts[0].removesuffix(".py")


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
        "blocks": sys.getallocatedblocks(),
        "malloc": malloc(),
        "sqlite_bytes": sqlite_memory(),
        "allocators": domains(),
    }


def domains() -> dict[str, Any]:
    """What each of Python's allocators was asked for since the start: allocations, reallocations, frees, bytes; only where the profiling
    variant's counters stand before them."""
    counters = sys.modules.get("pinnace_allocators")
    if counters is None:
        return {}
    names = ("allocations", "reallocations", "frees", "bytes")
    return {domain: dict(zip(names, row[:4], strict=True)) for domain, row in counters.counts().items()}


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
