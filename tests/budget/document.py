"""Puts what `tests/budget/measure.py --json` found into docs/footprint.md, between its marks: `document.py ONE_POD.json [MANY.json]`."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "footprint.md"
BEGIN, END = "<!-- measured: made by tests/budget/document.py -->", "<!-- end of what was measured -->"
UPSTREAM = {"binary": "99.8", "agent": "88 (one pod)", "node": "170 (eleven pods)", "ready": "27"}
"""KubeEdge 1.23.1, amd64, measured on the same kind of machine: MB, PSS in MB, seconds."""
PARTS = {
    "agent": "from process start until the agent runs",
    "connected": "connected to the cloud",
    "ready": "Node Ready in the API",
    "cpu": "CPU time until Ready",
}


def row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def head(*cells: str) -> Iterator[str]:
    yield row(*cells)
    yield row(*["---"] * len(cells))


def megabytes(size: float | None) -> str:
    return "" if size is None else f"{size / 1e6:.1f}"


def beside(one: Mapping[str, Any], many: Mapping[str, Any] | None) -> Iterator[str]:
    """The figures that upstream's are known of."""
    amd64 = one["built"].get("amd64", {})
    yield from head("", "Pinnace", "KubeEdge 1.23.1")
    yield row(
        "what is copied to the node, amd64, MB", megabytes(amd64.get("one_file")), UPSTREAM["binary"] + ", without containerd, CNI, broker"
    )
    agent = one["recording"]["summary"]["processes"]["agent/pinnace edgecore"]["pss_bytes"]
    yield row(
        "agent, one pod, idle: PSS, MB",
        f"{megabytes(agent['median'])} (p95 {megabytes(agent['p95'])}, max {megabytes(agent['max'])})",
        UPSTREAM["agent"],
    )
    for found in filter(None, (one, many)):
        node = found["recording"]["summary"]["node"]["pss_bytes"]
        pods = f"{found['pods']} pod{'s' * (found['pods'] != 1)}"
        yield row(f"whole node, {pods}, idle: PSS, MB", megabytes(node["median"]), UPSTREAM["node"] if found is many else "")
    ready = one["starts"].get("pods", one["starts"]["devices"])["ready"]
    yield row("start → Node Ready, s", f"{ready['best']:.2f} (p50 {ready['p50']:.2f})", UPSTREAM["ready"])


def sizes(built: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    kinds = list(dict.fromkeys(kind for each in built.values() for kind in each["kinds"]))
    yield from head("MB", *built)
    yield row("one-file program", *(megabytes(each["one_file"]) for each in built.values()))
    yield row("unpacked tree", *(f"{megabytes(each['tree'])} in {each['files']} files" for each in built.values()))
    for kind in kinds:
        yield row(f"of it: {kind}", *(megabytes(each["kinds"].get(kind, 0)) for each in built.values()))


def starts(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Iterator[str]:
    columns = [f"{kind}: {measure}" for kind in found for measure in ("best", "p50", "p90")]
    yield from head("seconds", *columns)
    for part, words in PARTS.items():
        yield row(words, *(f"{found[kind][part][measure]:.2f}" for kind in found for measure in ("best", "p50", "p90")))


def memory(record: Mapping[str, Any]) -> Iterator[str]:
    summary = record["summary"]
    yield from head("PSS, MB", "median", "p95", "max")
    yield row("**the node**", *(megabytes(summary["node"]["pss_bytes"][each]) for each in ("median", "p95", "max")))
    for name, process in summary["processes"].items():
        if name.startswith(("pods/", "cloud/", "commands/")):
            continue
        yield row(name.partition("/")[2], *(megabytes(process["pss_bytes"][each]) for each in ("median", "p95", "max")))
        if name.startswith("agent/"):
            for part, each in process["parts"].items():
                yield row(f"… {part}", *(f"{each[measure] / 1e6:.2f}" for measure in ("median", "p95", "max")))


def days(record: Mapping[str, Any]) -> Iterator[str]:
    summary = record["summary"]
    yield from head("an idle day", "median of the runs", "largest")
    for name, words in (
        ("written_bytes", "written by the node's processes, MB"),
        ("wire_bytes", "between node and cloud, headers included, MB"),
    ):
        each = summary["per_idle_day"][name]
        yield row(words, *(f"{each[measure] / 1e6:.1f}" for measure in ("median", "max")))
    yield row("CPU, % of a core", *(f"{summary['cpu_percent'][measure]:.2f}" for measure in ("median", "max")))


def budget(verdicts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield from head("limit", "found", "at most", "")
    for each in verdicts:
        yield row(each["name"], "" if each["figure"] is None else f"{each['figure']:.2f}", f"{each['most']:g}", each["unit"])


def measured(one: Mapping[str, Any], many: Mapping[str, Any] | None) -> str:
    record = one["recording"]
    count, machine = len(record["runs"]), record["machine"]
    runs = f"{count} run{'s' * (count != 1)} of {record['sample_seconds']:g} s after {record['warm_up_seconds']:g} s of warm-up"
    where = f"{machine['architecture']}, Linux {machine['kernel'].partition('-')[0]}, load average {one['load_average']} at the end"
    blocks = [
        ("Beside KubeEdge", beside(one, many)),
        ("Sizes", sizes(one["built"])),
        (f"Start ({where})", starts(one["starts"])),
        (f"Memory ({one['pods']} pod{'s' * (one['pods'] != 1)}; {runs})", memory(record)),
        ("Flash, wire, CPU", days(record)),
        ("The budget", budget(one["budget"])),
    ]
    return "\n\n".join(f"### {title}\n\n" + "\n".join(lines) for title, lines in blocks)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("figures", type=Path, nargs="+")
    args = parser.parse_args()
    found = [json.loads(each.read_text()) for each in args.figures]
    text = DOCUMENT.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{measured(found[0], found[1] if len(found) > 1 else None)}\n\n{END}{after}")
    shutil.copyfile(args.figures[0].with_suffix(".svg"), DOCUMENT.with_suffix(".svg"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
