"""What the profiling variant runs: the one command, watched.

PINNACE_PROFILE names a file; it is written when the process ends, and at SIGUSR2. Without it nothing is watched. In it are, as JSON:
`imports` in order (module, who imported it, seconds with and without what it imported in turn, bytes it made Python allocate, bytes of its
file), `allocations` (packaging/profile/allocators.c) and `heap`: what is allocated now, by file, the largest first (PINNACE_PROFILE_FRAMES
frames are kept of each, 1 if not given).
"""

from __future__ import annotations

import atexit
import importlib.abc
import importlib.machinery
import json
import os
import signal
import sys
import time
import tracemalloc
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


class ImportWatch(importlib.abc.MetaPathFinder):
    """Stands before the other finders and times what their loaders run."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self._open: list[dict[str, Any]] = []

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec = find(fullname, path, target) if finder is not self and find is not None else None
            if spec is not None:
                self._watch(spec)
                return spec  # type: ignore[no-any-return]
        return None

    def _watch(self, spec: importlib.machinery.ModuleSpec) -> None:
        loader = spec.loader
        if loader is None or isinstance(loader, type):  # built into the interpreter
            return
        run: Callable[[types.ModuleType], None] = loader.exec_module

        def watched(module: types.ModuleType) -> None:
            file = Path(spec.origin or "/nowhere")
            size = file.stat().st_size if file.exists() else 0
            row: dict[str, Any] = {
                "module": spec.name,
                "by": self._open[-1]["module"] if self._open else "",
                "file_bytes": size,
                "inner": 0.0,
            }
            self.rows.append(row)
            self._open.append(row)
            before, started = tracemalloc.get_traced_memory()[0], time.perf_counter()
            try:
                run(module)
            finally:
                row["seconds"] = time.perf_counter() - started
                row["bytes"] = tracemalloc.get_traced_memory()[0] - before
                self._open.pop()
                row["own_seconds"] = row["seconds"] - row.pop("inner")
                if self._open:
                    self._open[-1]["inner"] += row["seconds"]

        loader.exec_module = watched  # type: ignore[method-assign]


def watch(into: Path) -> None:
    import pinnace_allocators

    pinnace_allocators.install()
    tracemalloc.start(int(os.environ.get("PINNACE_PROFILE_FRAMES", "1")))
    imports = ImportWatch()
    sys.meta_path.insert(0, imports)
    owner = os.getpid()

    def write(*_: object) -> None:
        if os.getpid() != owner:
            return
        heap = [
            {"file": each.traceback[0].filename, "bytes": each.size, "blocks": each.count}
            for each in tracemalloc.take_snapshot().statistics("filename")
        ]
        allocations = pinnace_allocators.counts()
        fresh = into.with_name(into.name + ".new")
        fresh.write_text(
            json.dumps({"imports": [each for each in imports.rows if "seconds" in each], "allocations": allocations, "heap": heap})
        )
        fresh.replace(into)

    atexit.register(write)
    signal.signal(signal.SIGUSR2, write)


if os.environ.get("PINNACE_PROFILE"):
    watch(Path(os.environ["PINNACE_PROFILE"]))

from pinnace.core.base.cli import main  # noqa: E402 - what it imports is watched

sys.exit(main())
