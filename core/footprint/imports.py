"""What importing the edge costs: a tree with time and memory of each module, measured in fresh processes of this very build.

One process is timed; another traces allocations, which slows it, so that it says nothing of time."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from pinnace.core.base.cli import command_line
from pinnace.core.base.errors import PinnaceError
from pinnace.core.footprint import builds
from pinnace.core.footprint.tables import aligned, kilobytes

EDGE: Final = (
    "pinnace.core.commands.edgecore",
    "uvloop",
    "pinnace.core.agent",
    "pinnace.core.pods.host",
    "pinnace.core.pods.oci.runtime",
    "yaml",
)
"""In the order in which a node with pods loads them."""
_SECONDS: Final = 120
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
"""16 KiB on a Raspberry Pi 5's own kernel."""


class Import:
    """One module: `seconds`, `rss` and `heap` (bytes) of it and all that it imported; `inside` are those. `size` is its own, in the build:
    the extension or source file, or what it takes in the frozen archive."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.seconds = 0.0
        self.rss = 0
        self.heap = 0
        self.size = 0
        self.inside: list[Import] = []

    def own(self, measure: str) -> float:
        total: float = getattr(self, measure)
        inside: float = sum(getattr(each, measure) for each in self.inside)
        return total - inside

    def walk(self, depth: int = 0) -> Iterator[tuple[int, Import]]:
        yield depth, self
        for each in self.inside:
            yield from each.walk(depth + 1)

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "seconds": round(self.seconds, 6),
            "rss_bytes": self.rss,
            "heap_bytes": self.heap,
            "size_bytes": self.size,
            "inside": [each.as_json() for each in self.inside],
        }

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Import:
        made = cls(value["name"])
        made.seconds, made.rss, made.heap, made.size = value["seconds"], value["rss_bytes"], value["heap_bytes"], value["size_bytes"]
        made.inside = [cls.of(each) for each in value["inside"]]
        return made


class _Watch(MetaPathFinder):
    """First of the finders: asks the others, and has what they find executed under watch."""

    def __init__(self, root: Import) -> None:
        self._stack = [root]
        self._asked: set[str] = set()

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname in self._asked:
            return None
        self._asked.add(fullname)
        began, before, traced = time.perf_counter(), _rss(), tracemalloc.get_traced_memory()[0]
        try:
            spec = next(filter(None, (each.find_spec(fullname, path, target) for each in sys.meta_path if each is not self)), None)
        finally:
            self._asked.discard(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Watched(self, spec.loader, (began, before, traced))
        return spec

    def execute(self, module: ModuleType, loader: Loader, since: tuple[float, int, int]) -> None:
        entry = Import(module.__name__)
        self._stack[-1].inside.append(entry)
        self._stack.append(entry)
        try:
            loader.exec_module(module)
        finally:
            self._stack.pop()
            entry.seconds = time.perf_counter() - since[0]
            entry.rss = _rss() - since[1]
            entry.heap = tracemalloc.get_traced_memory()[0] - since[2]
            entry.size = _file_size(module)


class _Watched(Loader):
    def __init__(self, watch: _Watch, loader: Loader, since: tuple[float, int, int]) -> None:
        self._watch = watch
        self._loader = loader
        self._since = since

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        spec.loader = self._loader
        try:
            return self._loader.create_module(spec)
        finally:
            spec.loader = self

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader
        self._watch.execute(module, self._loader, self._since)


def _file_size(module: ModuleType) -> int:
    origin = module.__spec__.origin if module.__spec__ is not None else None
    path = Path(origin) if origin else None
    return path.stat().st_size if path is not None and path.is_file() else 0


def _rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


def here(names: Sequence[str] = EDGE, *, traced: bool) -> Import:
    """Import in this process, which should have little loaded. The root is all of them together."""
    root = Import("")
    if traced:
        tracemalloc.start()
    watch = _Watch(root)
    sys.meta_path.insert(0, watch)
    try:
        for name in names:
            importlib.import_module(name)
    finally:
        sys.meta_path.remove(watch)
    root.seconds, root.rss, root.heap = (
        sum(each.seconds for each in root.inside),
        sum(each.rss for each in root.inside),
        sum(each.heap for each in root.inside),
    )
    return root


def measure() -> Import:
    """In two fresh processes. Raises PinnaceError when this build cannot import its edge."""
    timed, traced = _child("time"), _child("heap")
    heaps = {each.name: each.heap for _, each in traced.walk()}
    archived = _archived()
    for _, each in timed.walk():
        each.heap = heaps.get(each.name, 0)
        each.size = each.size or archived.get(each.name, 0)
    timed.size = sum(each.size for _, each in timed.walk())
    return timed


def _archived() -> dict[str, int]:
    """What each module takes in this frozen program; nothing in a checkout."""
    if not getattr(sys, "frozen", False):
        return {}
    return {each.name: each.size for each in builds.read(Path(sys.executable)).pieces if each.kind == "module"}


def _child(kind: str) -> Import:
    import orjson

    command = command_line("footprint", "--imports", "--in-child", kind)
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise PinnaceError(f"importing the edge took more than {_SECONDS} s; try again when this machine does less") from error
    if done.returncode:
        raise PinnaceError(f"the edge cannot be imported: {done.stderr.decode(errors='replace').strip()[-2000:]}")
    return Import.of(orjson.loads(done.stdout.splitlines()[-1]))


def as_json(root: Import) -> dict[str, Any]:
    return {"modules": sum(1 for _ in root.walk()) - 1, **root.as_json()}


def table(root: Import, *, least_part: float = 0.01) -> Iterator[str]:
    """The tree, without branches below a hundredth of the whole in both time and memory; then the heaviest on their own."""
    rows: list[Sequence[str]] = [("MS", "OWN MS", "RSS KB", "HEAP KB", "SIZE KB", "MODULE")]
    for depth, each in root.walk():
        if each.seconds >= root.seconds * least_part or each.heap >= root.heap * least_part:
            rows.append(_row(each, "  " * max(depth - 1, 0) + (each.name or f"all {sum(1 for _ in root.walk()) - 1} modules")))
    yield from aligned(rows)
    yield ""
    yield "the heaviest by themselves:"
    rows = [("MS", "OWN MS", "RSS KB", "HEAP KB", "SIZE KB", "MODULE")]
    alone = [each for _, each in root.walk() if each is not root]
    rows += [_row(each, each.name) for each in sorted(alone, key=lambda each: -each.own("heap"))[:20]]
    yield from aligned(rows)


def _row(each: Import, name: str) -> Sequence[str]:
    return (
        f"{each.seconds * 1e3:.1f}",
        f"{each.own('seconds') * 1e3:.1f}",
        kilobytes(each.rss),
        kilobytes(each.heap),
        kilobytes(each.size),
        name,
    )
