"""The limits of packaging/budget.toml, and what is beyond them."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KEYS = {"most", "unit", "what", "shown_by"}


@dataclass(frozen=True, slots=True)
class Limit:
    """`most` in `unit`; `shown_by` is the command a person looks closer with."""

    name: str
    most: float
    unit: str
    what: str
    shown_by: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """`figure` None means that it could not be measured; `why` says what was missing."""

    limit: Limit
    figure: float | None
    why: str = ""

    @property
    def is_within(self) -> bool:
        return self.figure is None or self.figure <= self.limit.most

    def line(self) -> str:
        limit = self.limit
        if self.figure is None:
            return f"--    {limit.name:<13} not measured: {self.why}"
        if self.is_within:
            return f"ok    {limit.name:<13} {self.figure:>8.2f} of {limit.most:g} {limit.unit}"
        return (
            f"OVER  {limit.name:<13} {self.figure:>8.2f} of {limit.most:g} {limit.unit}: {limit.what}; "
            f"look closer with `{limit.shown_by}`; the limit is in packaging/budget.toml"
        )


def load(path: Path) -> list[Limit]:
    """Raises ValueError naming file, limit and key."""
    found = []
    for name, values in tomllib.loads(path.read_text()).items():
        if not isinstance(values, dict) or set(values) != KEYS:
            raise ValueError(f"{path}: [{name}]: expected the keys {', '.join(sorted(KEYS))}")
        if not isinstance(values["most"], int | float) or values["most"] <= 0:
            raise ValueError(f"{path}: [{name}]: most: expected a number above 0")
        found.append(Limit(name, float(values["most"]), str(values["unit"]), str(values["what"]), str(values["shown_by"])))
    return found


def judge(limits: list[Limit], figures: Mapping[str, float], missing: Mapping[str, str]) -> Iterator[Verdict]:
    """`missing` says why a figure is not there. Raises ValueError for a figure without a limit, and for a limit nobody measures."""
    names = {each.name for each in limits}
    if unknown := sorted({*figures, *missing} - names):
        raise ValueError(f"packaging/budget.toml has no limit for {', '.join(unknown)}")
    for each in limits:
        if each.name not in figures and each.name not in missing:
            raise ValueError(f"packaging/budget.toml: [{each.name}] is measured by nobody")
        yield Verdict(each, figures.get(each.name), missing.get(each.name, ""))


def as_json(verdicts: list[Verdict]) -> list[dict[str, Any]]:
    return [
        {
            "name": each.limit.name,
            "figure": each.figure,
            "most": each.limit.most,
            "unit": each.limit.unit,
            "within": each.is_within,
            "why": each.why,
        }
        for each in verdicts
    ]
