"""What the doctor says of one matter."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Level(IntEnum):
    """In order of gravity; the gravest of all findings is the exit code, but that UNKNOWN counts as OK."""

    OK = 0
    WARNING = 1
    ERROR = 2
    UNKNOWN = -1
    """It could not be looked at here, which is no fault of the machine's."""


@dataclass(frozen=True, slots=True)
class Finding:
    """`remedy` is what to type, one command a line; "" where there is nothing to do."""

    matter: str
    level: Level
    text: str
    remedy: str = ""


def worst(findings: list[Finding]) -> Level:
    return max((each.level for each in findings), default=Level.OK)
