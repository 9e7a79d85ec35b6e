"""Reads what a process of the profiling variant wrote down of itself (PINNACE_PROFILE names the file; packaging/profile)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from pinnace.core.base.errors import ConfigError
from pinnace.core.base.observe.allocations import package_of
from pinnace.core.footprint.tables import aligned, kilobytes, megabytes

_SIZES: Final = ("≤16", "≤64", "≤256", "≤512", "≤4K", "≤64K", "more")
_SHOWN: Final = 30


def read(path: Path) -> dict[str, Any]:
    """Imports in order, allocations by domain, the heap by top package. Raises ConfigError."""
    try:
        found = orjson.loads(path.read_bytes())
        imports = [
            {name: each[name] for name in ("module", "by", "seconds", "own_seconds", "bytes", "file_bytes")} for each in found["imports"]
        ]
        domains = {name: _domain(row) for name, row in found["allocations"].items()}
        heap = [(str(each["file"]), int(each["bytes"]), int(each["blocks"])) for each in found["heap"]]
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: is no profile ({error!r}); PINNACE_PROFILE names it to a build of `make freeze PROFILE=1`") from error
    return {"imports": imports, "allocations": domains, "packages": _packages(heap), "heap_bytes": sum(size for _, size, _ in heap)}


def _domain(row: Sequence[Any]) -> dict[str, Any]:
    allocations, reallocations, frees, size, sizes = row
    return {"allocations": allocations, "reallocations": reallocations, "frees": frees, "bytes": size, "by_size": list(sizes)}


def _packages(heap: Sequence[tuple[str, int, int]]) -> list[dict[str, Any]]:
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for file, size, blocks in heap:
        sums[package_of(file)][0] += size
        sums[package_of(file)][1] += blocks
    return [
        {"package": name, "bytes": size, "blocks": blocks} for name, (size, blocks) in sorted(sums.items(), key=lambda pair: -pair[1][0])
    ]


def table(profile: Mapping[str, Any]) -> Iterator[str]:
    yield f"heap: {megabytes(profile['heap_bytes'])} MB"
    rows: list[Sequence[str]] = [("KB", "BLOCKS", "PACKAGE")]
    rows += [(kilobytes(each["bytes"]), str(each["blocks"]), each["package"]) for each in profile["packages"][:_SHOWN]]
    yield from aligned(rows)
    yield ""
    yield "asked of Python's allocators since the start:"
    rows = [("ALLOCATED", "GROWN", "FREED", "MB", *_SIZES, "DOMAIN")]
    rows += [
        (
            *(str(each[name]) for name in ("allocations", "reallocations", "frees")),
            megabytes(each["bytes"]),
            *map(str, each["by_size"]),
            name,
        )
        for name, each in profile["allocations"].items()
    ]
    yield from aligned(rows)
    yield ""
    imports = profile["imports"]
    yield f"imports: {len(imports)} modules, {sum(each['own_seconds'] for each in imports) * 1e3:.0f} ms, tracing included; the heaviest:"
    rows = [("OWN MS", "MS", "HEAP KB", "FILE KB", "MODULE", "FOR")]
    for each in sorted(imports, key=lambda each: -each["own_seconds"])[:_SHOWN]:
        sizes = kilobytes(each["bytes"]), kilobytes(each["file_bytes"])
        rows.append((f"{each['own_seconds'] * 1e3:.1f}", f"{each['seconds'] * 1e3:.1f}", *sizes, each["module"], each["by"]))
    yield from aligned(rows, left=[4])
