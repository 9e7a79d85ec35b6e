"""Times as tables show them: how long ago, in at most two units (as kubectl prints them)."""

from __future__ import annotations

import datetime
from typing import Any

UNKNOWN = "<unknown>"
INVALID = "<invalid>"


def seconds_of(text: Any) -> float | None:
    """An RFC 3339 time as seconds since 1970; None for what is none."""
    if not isinstance(text, str) or not text:
        return None
    try:
        when = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    return when.timestamp() if when.tzinfo is not None else None


def duration(seconds: float) -> str:
    """`75s`, `5m1s`, `61m`, `5h3m`, `30h`, `2d5h`, `40d`, `3y5d`, `9y`; a zero second part is left out."""
    whole = int(seconds)
    if whole < -1:
        return INVALID
    if whole < 120:
        return f"{max(whole, 0)}s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if minutes < 10:
        return _two(minutes, "m", whole % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return _two(days, "d", hours % 24, "h")
    if days < 730:
        return f"{days}d"
    if days < 2920:
        return _two(days // 365, "y", days % 365, "d")
    return f"{days // 365}y"


def _two(first: int, unit: str, second: int, small: str) -> str:
    return f"{first}{unit}{second}{small}" if second else f"{first}{unit}"


def age(text: Any, now: float) -> str:
    """How long before `now` (seconds since 1970) the time was; `<unknown>` without one."""
    if not text:
        return UNKNOWN
    seconds = seconds_of(text)
    return INVALID if seconds is None else duration(now - seconds)
