"""What benchmarks say: percentiles, and figures as JSON on the terminal and in a file."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def percentiles(seconds: Sequence[float], *, unit: str = "ms") -> dict[str, float]:
    """p50, p90 and p99 in milliseconds (ms) or microseconds (us)."""
    factor, digits = {"ms": (1e3, 3), "us": (1e6, 1)}[unit]
    ordered = sorted(seconds)
    return {f"p{part}_{unit}": round(ordered[min(len(ordered) - 1, len(ordered) * part // 100)] * factor, digits) for part in (50, 90, 99)}


def pss_kb(pid: int) -> int:
    """A process's proportional share of memory, in KB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser with what every benchmark takes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    return parser


def report(figures: Any, path: Path | None) -> int:
    """Print the figures, and write them to `path` when there is one; 0."""
    text = json.dumps(figures, indent=2) + "\n"
    sys.stdout.write(text)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return 0
