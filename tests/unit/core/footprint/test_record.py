"""Runs become figures: spreads, what accrued, an idle day."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import orjson
import pytest

from pinnace.core.base.errors import ConfigError, PinnaceError
from pinnace.core.footprint import difference, picture, sampling, tables
from pinnace.core.footprint.live import Look, Use
from pinnace.core.footprint.mappings import Mapped, Part, Sizes
from pinnace.core.footprint.processes import Group, Process
from pinnace.core.footprint.record import Run, spread, summary
from pinnace.core.footprint.traffic import Connection

MB = 1_000_000
AGENT, BROKER, POD = (
    Process(10, 1, "pinnace edgecore", Group.AGENT), Process(11, 1, "mosquitto", Group.BROKER), Process(12, 1, "sleep", Group.PODS, "uid-1")
)  # fmt: skip


def use(process: Process, pss: int, *, written: int = 0, cpu: float = 0.0) -> Use:
    sizes = Sizes(pss, pss + MB, pss - MB)
    return Use(process, sizes, [Mapped("[heap]", Part.HEAP, sizes)], written, cpu)


def connection(sent: int) -> Connection:
    return Connection(("10.0.0.2", 4000), ("10.0.0.1", 10000), sent, 2 * sent, 4 * sent)


def looks() -> list[Look]:
    """Ten seconds apart; the broker is restarted in between, and so is the connection."""
    return [
        Look(100.0, [use(AGENT, 30 * MB, written=5000, cpu=1.0), use(BROKER, 3 * MB, written=9000)], {7: connection(1000)}),
        Look(110.0, [use(AGENT, 32 * MB, written=6000, cpu=1.1), use(POD, MB)], {7: connection(1500)}),
        Look(
            120.0,
            [use(AGENT, 31 * MB, written=6000, cpu=1.2), use(Process(13, 1, "mosquitto", Group.BROKER), 3 * MB, written=500)],
            {8: connection(50)},
        ),
    ]


def run_of(found: Sequence[Look], devices: Sequence[int | None] = (None, None, None)) -> dict[str, Any]:
    run = Run()
    for look, device in zip(found, devices, strict=True):
        run.add(look, device)
    return run.as_json()


def test_spread() -> None:
    assert spread(range(1, 101)) == {"median": 50.5, "p95": 95, "max": 100}
    assert spread([]) == {"median": 0, "p95": 0, "max": 0}


def test_a_run_counts_from_its_first_look() -> None:
    found = run_of(looks(), [70_000, 71_000, 74_000])
    assert found["seconds"] == 20.0
    assert found["node"]["pss_bytes"] == {"median": 33 * MB, "p95": 34 * MB, "max": 34 * MB}
    assert found["written_bytes"] == 1000 + 500
    assert found["written_by"] == {"agent/pinnace edgecore": 1000, "broker/mosquitto": 500}
    assert found["device_written_bytes"] == 4000
    assert (found["sent_bytes"], found["received_bytes"], found["wire_bytes"]) == (550, 1100, 2200)
    assert found["cpu_percent"] == pytest.approx(1.0)
    assert found["per_idle_day"] == {"written_bytes": 1500 * 4320, "device_written_bytes": 4000 * 4320, "wire_bytes": 2200 * 4320}
    assert found["processes"]["agent/pinnace edgecore"]["parts"] == {"heap": {"median": 31 * MB, "p95": 32 * MB, "max": 32 * MB}}
    assert found["processes"]["pods/uid-1"]["pss_bytes"]["max"] == MB
    assert found["series"] == {
        "seconds": [0.0, 10.0, 20.0],
        "pss_bytes": {"agent": [30 * MB, 32 * MB, 31 * MB], "broker": [3 * MB, 0, 3 * MB]},
    }


def test_runs_are_summed_up() -> None:
    first, second = run_of(looks()), run_of([Look(each.at, [use(AGENT, 40 * MB)]) for each in looks()])
    found = summary([first, second])
    assert found["node"]["pss_bytes"] == {"median": 36.5 * MB, "p95": 40 * MB, "max": 40 * MB}
    assert found["per_idle_day"]["device_written_bytes"] is None
    assert found["per_idle_day"]["written_bytes"] == {"median": 750 * 4320, "max": 1500 * 4320}


class Machine:
    """A clock that sleeping moves on, and looks in turn."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        self.looks = iter([looks()[0], *looks() * 2])

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def look(self, pids: Sequence[int]) -> Look:
        self.now += 0.5  # looking takes time, which the pace makes up for
        return next(self.looks)


def recording(tmp_path: Path) -> tuple[Machine, dict[str, Any]]:
    machine = Machine()
    plan = sampling.Plan(300.0, 20.0, 2, 10.0, store=tmp_path)
    return machine, sampling.take(plan, sleep=machine.sleep, clock=lambda: machine.now, looked=machine.look)


def test_a_recording_warms_up_and_keeps_its_pace(tmp_path: Path) -> None:
    machine, found = recording(tmp_path)
    assert machine.slept == [300.0, 0.0, 9.5, 9.5] * 2
    assert [each["samples"] for each in found["runs"]] == [3, 3]
    assert found["summary"]["node"]["pss_bytes"]["median"] == 33 * MB


def test_nothing_to_look_at_is_said_before_the_warm_up() -> None:
    slept: list[float] = []
    with pytest.raises(PinnaceError, match="start the edge"):
        sampling.take(sampling.Plan(300, 0, 1, 1), sleep=slept.append, looked=lambda _: Look(0.0, []))
    assert slept == []


def test_recordings_are_compared_whatever_they_are_called(tmp_path: Path) -> None:
    _, found = recording(tmp_path)
    before, after = tmp_path / "before", tmp_path / "after.txt"
    before.write_bytes(orjson.dumps(found))
    found["summary"]["node"]["pss_bytes"]["median"] += MB
    after.write_bytes(orjson.dumps(found))
    rows = difference.compare(before, after)
    assert {row.name: row.change for row in rows if row.change} == {"node PSS, median": MB}
    lines = list(difference.table(rows, float("inf")))
    assert any(line.split() == ["33000.0", "34000.0", "+1000.0", "+3.0", "node", "PSS,", "median"] for line in lines)
    found["summary"]["per_idle_day"]["wire_bytes"]["median"] = 0
    after.write_bytes(orjson.dumps(found))
    lines = list(difference.table(difference.compare(after, after), float("inf")))
    assert any(line.split() == ["0.0", "0.0", "+0.0", "on", "the", "wire", "a", "day"] for line in lines)  # nothing new
    after.write_bytes(orjson.dumps({**found, "summary": {}}))
    with pytest.raises(ConfigError, match="record it again"):
        difference.compare(before, after)


def test_what_the_budget_measured_is_compared_as_well(tmp_path: Path) -> None:
    _, found = recording(tmp_path)
    before, after = tmp_path / "before.json", tmp_path / "budget.json"
    before.write_bytes(orjson.dumps(found))
    after.write_bytes(orjson.dumps({"budget": {}, "pods": 1, "recording": found}))
    assert not any(row.change for row in difference.compare(before, after))
    after.write_bytes(orjson.dumps({"recording": None}))
    with pytest.raises(ConfigError, match="or `make budget`"):
        difference.compare(before, after)


def test_a_recording_is_told_and_drawn(tmp_path: Path) -> None:
    _, found = recording(tmp_path)
    lines = list(tables.recorded(found))
    assert any(line.split() == ["33.0", "34.0", "34.0", "the", "node"] for line in lines)
    assert any("MB on the wire" in line for line in lines)
    root = ElementTree.fromstring(picture.of_record(found))
    words = [each.text or "" for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "PSS of the node: 33.0 MB (p95 34.0, max 34.0)" in words
    assert {"agent", "broker", "run 1", "run 2", "pinnace edgecore: 31.0 MB"} <= set(words)
    polygons = list(root.iter("{http://www.w3.org/2000/svg}polygon"))
    assert len(polygons) == 4  # two groups in two runs
    left, top = map(float, polygons[0].attrib["points"].split()[0].split(","))
    assert left == 70.0
    assert top == pytest.approx(60 + 100 * (1 - 30 / 34), abs=0.1)
