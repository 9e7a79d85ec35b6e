"""What must not get worse: ratios between measurements of one run, with room for a busy machine. The figures are in docs/benchmarks.md."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.xdist_group("ratios"), pytest.mark.timeout(300)]


def figures(name: str, folder: Path) -> dict[str, Any]:
    path = folder / f"{name}.json"
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "bench" / f"{name}.py"), "--json", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_compiled_twins_are_many_times_faster_than_the_reference(tmp_path: Path) -> None:
    assert all(case["pure_to_compiled"] > 8 for case in figures("ext_twindiff", tmp_path).values())


def test_compiled_framing_and_cache_are_faster_than_the_reference(tmp_path: Path) -> None:
    found = figures("ext_hotpaths", tmp_path)
    assert found["framing (all four)"]["times_pure"] > 16
    assert found["frame"]["times_pure"] > 8
    assert found["cache (all five)"]["times_pure"] > 2.5


@pytest.mark.mosquitto
def test_a_report_takes_few_times_what_broker_and_api_take_alone(tmp_path: Path) -> None:
    """A timer or a poll anywhere on its way would make it ten times as long, each time; another program's turn does so once."""
    found = [figures("twin_latency", tmp_path)]
    while _times_alone(found[-1]) >= 8 and len(found) < 3:
        found.append(figures("twin_latency", tmp_path))
    assert min(map(_times_alone, found)) < 8
    for each in found:
        burst = each["burst_of_500"]
        assert burst["older_after_newer"] == 0
        assert sorted(burst["seconds"])[2] * 1000 < 100 * each["publish_to_watch"]["p50_ms"]


def _times_alone(found: dict[str, Any]) -> float:
    alone = found["yardstick_broker_alone"]["p50_ms"] + found["yardstick_api_alone"]["p50_ms"]
    return float(found["publish_to_watch"]["p50_ms"] / alone)
