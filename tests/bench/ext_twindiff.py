"""One twin update: the compiled build beside the reference build and beside the obvious alternative, turn by turn in the same run.

The alternative keeps a device's twins as plain dictionaries, parses with orjson and writes every answer with orjson; it does not check
names, values or types, and ignores case. Cases: `report`, one sensor value of a device with twelve properties, in the shape mappers-go
sends; `lights`, three lamps reported together, one of them changed; `repeat`, the same again, nothing changed. `--json FILE` writes the
figures down: microseconds an update, best of the rounds, and ratios.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import orjson

from pinnace.ext import records_py

COMPILED = importlib.import_module("pinnace.ext.twindiff_c")
with mock.patch("pinnace.ext.records", records_py):  # each build works on its own records, as where it is the only one
    PURE = importlib.import_module("pinnace.ext.twindiff_py")

ROUNDS = 300
NOW = 1795466390498


class Plain:
    """Twins as dictionaries."""

    def __init__(self) -> None:
        self.twins: dict[str, dict[str, Any]] = {}

    def apply_desired(self, payload: bytes, now: int) -> None:
        for name, twin in orjson.loads(payload)["twin"].items():
            self.twins[name] = {
                "expected": {"value": twin["expected"]["value"], "metadata": {"timestamp": now}}, "optional": False,
                "metadata": {"type": "string"}, "expected_version": {"cloud": 1, "edge": 0}, "actual_version": {"cloud": 0, "edge": 0},
            }  # fmt: skip

    def apply_update(self, payload: bytes, now: int) -> tuple[Any, ...]:
        result, document, rows, reports = {}, {}, {}, {}
        for name, change in orjson.loads(payload)["twin"].items():
            twin = self.twins[name]
            last = {key: twin[key] for key in ("expected", "actual", "optional", "metadata") if key in twin}
            value = change["actual"]["value"]
            is_changed = twin.get("actual", {}).get("value") != value
            twin["actual"] = {"value": value, "metadata": {"timestamp": now}}
            if is_changed:
                twin["actual_version"]["edge"] += 1
                rows[name] = orjson.dumps(twin)
                reports[name] = orjson.dumps({key: twin[key] for key in ("actual", "optional", "metadata", "actual_version")})
            result[name] = {key: twin[key] for key in ("actual", "optional", "metadata")}
            current = {key: twin[key] for key in ("expected", "actual", "optional", "metadata") if key in twin}
            document[name] = {"last": last, "current": current}
        delta = {
            name: twin["expected"]["value"]
            for name, twin in sorted(self.twins.items())
            if "expected" in twin and twin["expected"]["value"] != twin.get("actual", {}).get("value")
        }
        told = b""
        if delta:
            twins = {
                name: {key: twin[key] for key in ("expected", "actual", "optional", "metadata") if key in twin}
                for name, twin in sorted(self.twins.items())
                if "expected" in twin
            }
            told = orjson.dumps({"twin": twins, "delta": delta})
        return orjson.dumps({"twin": result}), orjson.dumps({"twin": document}), told, rows, reports


def desired(*names: str, value: str) -> bytes:
    return json.dumps({"twin": {name: {"expected": {"value": value}, "optional": False} for name in names}}).encode()


def reported(stamp: int, **values: str) -> bytes:
    twin = {
        name: {"actual": {"value": value, "metadata": {"timestamp": stamp}}, "metadata": {"type": "Updated"}}
        for name, value in values.items()
    }
    return json.dumps({"event_id": "", "timestamp": stamp, "twin": twin}, separators=(",", ":")).encode()


PROPERTIES = tuple(f"property-{number:02d}" for number in range(11))
SETTLED = desired(*PROPERTIES, value="1")
LAMPS = ("green", "red", "yellow")
CASES: dict[str, tuple[bytes, list[bytes], list[bytes]]] = {
    "report": (desired(*PROPERTIES, "temperature", value="1"), [SETTLED.replace(b"expected", b"actual")],
               [reported(NOW, temperature="20.5"), reported(NOW, temperature="1")]),
    "lights": (desired(*LAMPS, value="OFF"), [], [reported(NOW, green="OFF", red="ON", yellow="OFF"),
                                                  reported(NOW, green="OFF", red="OFF", yellow="OFF")]),
    "repeat": (desired(*LAMPS, value="OFF"), [], [reported(NOW, green="OFF", red="OFF", yellow="OFF")]),
}  # fmt: skip
"""Case → what is desired, what is reported before, and the updates in turn."""


def prepared(make: Callable[[], Any], case: str) -> Callable[[int], float]:
    """A device, and a function that applies the case's updates so many times and gives seconds an update."""
    wanted, before, updates = CASES[case]
    twins = make()
    twins.apply_desired(wanted, 1)
    for payload in before:
        twins.apply_update(payload, 2)

    def run(times: int) -> float:
        apply = twins.apply_update
        start = time.perf_counter()
        for _ in range(times):
            for payload in updates:
                apply(payload, NOW)
        return (time.perf_counter() - start) / times / len(updates)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    for case in CASES:
        runs = {
            "compiled": (prepared(COMPILED.DeviceTwins, case), 50),
            "pure": (prepared(PURE.DeviceTwins, case), 4),
            "orjson": (prepared(Plain, case), 25),
        }
        best = dict.fromkeys(runs, float("inf"))
        for _ in range(ROUNDS):
            for name, (run, times) in runs.items():
                best[name] = min(best[name], run(times))
        figures = {f"{name}_us": round(seconds * 1e6, 2) for name, seconds in best.items()}
        figures["pure_to_compiled"] = round(best["pure"] / best["compiled"], 1)
        figures["orjson_to_compiled"] = round(best["orjson"] / best["compiled"], 1)
        found[case] = figures
        print(f"{case:8} {figures}")  # noqa: T201 a benchmark says what it found
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
