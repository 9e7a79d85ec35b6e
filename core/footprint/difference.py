"""Compares two recordings, or two builds: what grew, what shrank, and whether by more than is tolerated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from pinnace.core.base.errors import ConfigError
from pinnace.core.footprint import builds
from pinnace.core.footprint.builds import Build
from pinnace.core.footprint.tables import aligned, kilobytes

_NOISE_BYTES = 4096
"""Below it a change is none: one page."""


@dataclass(frozen=True, slots=True)
class Row:
    """One figure in both; bytes, or what `name` says. `decides` marks those that a tolerance is about."""

    name: str
    before: float
    after: float
    decides: bool = False

    @property
    def change(self) -> float:
        return self.after - self.before

    @property
    def percent(self) -> float | None:
        """None when there was nothing before."""
        return 100 * self.change / self.before if self.before else None

    def is_over(self, tolerance_percent: float) -> bool:
        """Grown by more than the tolerance, and by more than noise."""
        return self.decides and self.change > max(self.before * tolerance_percent / 100, _NOISE_BYTES)


def load(path: Path) -> Build | dict[str, Any]:
    """A build, or a recording. Raises ConfigError."""
    try:
        if not _is_recording(path):
            return builds.read(path)
        found = orjson.loads(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"{path}: is no JSON: {error}") from error
    if isinstance(found, dict) and "recording" in found:  # as `make budget` writes it
        found = found["recording"]
    if not isinstance(found, dict) or found.get("kind") != "footprint":
        raise ConfigError(f"{path}: is no recording of `pinnace footprint --record` or `make budget`")
    return found


def _is_recording(path: Path) -> bool:
    """Whatever it is called."""
    if path.is_dir():
        return False
    with path.open("rb") as file:
        return path.suffix == ".json" or file.read(1) == b"{"


def compare(before: Path, after: Path) -> list[Row]:
    """Raises ConfigError, also when one is a build and the other a recording."""
    first, second = load(before), load(after)
    if isinstance(first, Build) and isinstance(second, Build):
        return list(_builds(first, second))
    if isinstance(first, dict) and isinstance(second, dict):
        try:
            return list(_records(first["summary"], second["summary"]))
        except (KeyError, TypeError) as error:
            raise ConfigError(f"{before} and {after}: one of them lacks figures ({error!r}); record it again") from error
    raise ConfigError(f"{before} and {after}: one is a build and the other a recording; compare two of a kind")


def _builds(before: Build, after: Build) -> Iterator[Row]:
    yield Row("all", before.size, after.size, decides=True)
    yield Row("files", before.files, after.files)
    yield from _named("", before.by_kind(), after.by_kind())
    yield from _named("package ", before.by_package(), after.by_package())
    yield from _named("binary ", before.extensions(), after.extensions())


def _records(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Row]:
    for measure in ("median", "p95", "max"):
        yield Row(f"node PSS, {measure}", before["node"]["pss_bytes"][measure], after["node"]["pss_bytes"][measure], measure == "median")
    for name, label in (
        ("written_bytes", "written a day"),
        ("device_written_bytes", "written to the device a day"),
        ("wire_bytes", "on the wire a day"),
    ):
        old, new = before["per_idle_day"][name], after["per_idle_day"][name]
        if old is not None and new is not None:
            yield Row(label, old["median"], new["median"], name != "device_written_bytes")
    yield from _named("", *({key: each["pss_bytes"]["median"] for key, each in one["processes"].items()} for one in (before, after)))
    keys = [key for key in before["processes"] if key in after["processes"]]
    for key in keys:
        parts = [{part: each["median"] for part, each in one["processes"][key]["parts"].items()} for one in (before, after)]
        yield from _named(f"{key}: ", *parts)


def _named(prefix: str, before: Mapping[str, float], after: Mapping[str, float]) -> Iterator[Row]:
    rows = [Row(prefix + name, before.get(name, 0), after.get(name, 0)) for name in dict.fromkeys([*before, *after])]
    yield from sorted(rows, key=lambda row: -abs(row.change))


def as_json(rows: Sequence[Row], tolerance_percent: float) -> dict[str, Any]:
    return {
        "rows": [
            {"name": row.name, "before": row.before, "after": row.after, "change": row.change, "percent": row.percent} for row in rows
        ],
        "tolerance_percent": tolerance_percent,
        "over": [row.name for row in rows if row.is_over(tolerance_percent)],
    }


def table(rows: Sequence[Row], tolerance_percent: float) -> Iterator[str]:
    """Rows without a change are left out, but for those that decide."""
    shown: list[Sequence[str]] = [("BEFORE KB", "AFTER KB", "CHANGE KB", "%", "", "WHAT")]
    for row in rows:
        if not row.decides and abs(row.change) < _NOISE_BYTES and row.name != "files":
            continue
        percent = f"{row.percent:+.1f}" if row.percent is not None else "new" if row.after else ""
        over = "OVER" if row.is_over(tolerance_percent) else ""
        if row.name == "files":
            shown.append((f"{row.before:.0f}", f"{row.after:.0f}", f"{row.change:+.0f}", percent, over, "files (number)"))
        else:
            change = ("+" if row.change >= 0 else "") + kilobytes(row.change)
            shown.append((kilobytes(row.before), kilobytes(row.after), change, percent, over, row.name))
    yield from aligned(shown, left=[4])
