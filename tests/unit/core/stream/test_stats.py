"""What nodes and pods use: rates between looks, both forms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rig.hostruntime import HostRuntime

from pinnace.core.base.contract.keys import NodeName
from pinnace.core.stream.stats import Rates, Sample, Stats


def test_rates() -> None:
    rates, began = Rates(), Sample(0, 0)
    assert rates.cores("c", Sample(100, 50), began) == 0.5  # since it began
    assert rates.cores("c", Sample(104, 54), began) == pytest.approx(54 / 104)  # too soon: still from there
    assert rates.cores("c", Sample(120, 70), began) == 1.0  # since the look at 100
    assert rates.cores("c", Sample(125, 1), Sample(124, 0)) == 1.0  # counted anew
    rates.keep([])
    assert rates.cores("c", Sample(200, 10), Sample(190, 0)) == 1.0


def test_a_clock_that_is_set_back_makes_nobody_busy() -> None:
    rates, began = Rates(), Sample(990, 0)
    assert rates.cores("c", Sample(1000, 5), began) == 0.5
    assert rates.cores("c", Sample(500, 6), began) == 0.0
    assert rates.cores("c", Sample(510, 11), began) == 0.5


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/stat").write_text("cpu 100 0 100 800 0 0 0 0 0 0\nbtime 1700000000\n")
    (tmp_path / "proc/meminfo").write_text("MemTotal: 1000 kB\nMemAvailable: 400 kB\nAnonPages: 100 kB\n")
    return tmp_path


async def test_both_forms(machine: Path) -> None:
    runtime = HostRuntime(machine)
    runtime.run_pod(runtime.add_pod("web", "n", "main", "side", uid="u"))
    streams: Any = runtime
    stats = Stats(NodeName("n"), streams, root=machine, wall=lambda: 1_700_000_100.0)
    summary = await stats.summary()
    assert summary["node"]["memory"] == {
        "time": "2023-11-14T22:15:00Z", "availableBytes": 400 << 10, "workingSetBytes": 600 << 10, "rssBytes": 100 << 10,
    }  # fmt: skip
    assert summary["node"]["startTime"] == "2023-11-14T22:13:20Z"
    [pod] = summary["pods"]
    assert pod["podRef"] == {"name": "web", "namespace": "default", "uid": "u"}
    assert [each["cpu"]["usageNanoCores"] for each in pod["containers"]] == [500_000_000] * 2
    assert (pod["cpu"]["usageNanoCores"], pod["memory"]["workingSetBytes"]) == (10**9, 40 << 20)
    text = await stats.resource_metrics()
    assert "# TYPE node_cpu_usage_seconds_total counter\nnode_cpu_usage_seconds_total 2 1700000100000\n" in text
    assert 'container_memory_working_set_bytes{container="side",namespace="default",pod="web"} 20971520 ' in text
    assert 'pod_cpu_usage_seconds_total{namespace="default",pod="web"} 60 ' in text


async def test_a_node_without_pods(machine: Path) -> None:
    stats = Stats(NodeName("n"), None, root=machine)
    assert (await stats.summary())["pods"] == []
    assert "resource_scrape_error 0" in await stats.resource_metrics()
