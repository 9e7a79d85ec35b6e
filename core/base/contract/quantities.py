"""Resource quantities (`500m`, `1Gi`, `1e3`) as numbers (Kubernetes API, resource.Quantity). Whole numbers only: no rounding on the way."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

_SHAPE: Final = re.compile(r"([+-]?)(\d*)\.?(\d*)([KMGTPE]i|[numkMGTPE]?|[eE][+-]?\d{1,2})", re.ASCII)
_DECIMAL: Final = {"n": 0, "u": 3, "m": 6, "": 9, "k": 12, "M": 15, "G": 18, "T": 21, "P": 24, "E": 27}
_BINARY: Final = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_BILLION: Final = 1_000_000_000


@lru_cache(maxsize=1024)
def nanos(text: str) -> int:
    """In billionths of the unit, rounded away from zero. Raises ValueError."""
    found = _SHAPE.fullmatch(text.strip()) if len(text) <= 64 else None
    if found is None or not (found[2] or found[3]):
        raise ValueError(f"expected a quantity such as 500m, 1.5 or 64Mi, not {text!r}")
    sign, whole, fraction, suffix = found.groups()
    digits, places = int(whole + fraction or "0"), len(fraction)
    if suffix in _BINARY:
        value = _ceiling(digits * _BILLION << _BINARY[suffix], 10**places)
    else:
        power = (9 + int(suffix[1:]) if len(suffix) > 1 else _DECIMAL[suffix]) - places
        value = digits * 10**power if power >= 0 else _ceiling(digits, 10**-power)
    return -value if sign == "-" else value


def whole(text: str | int | float | None) -> int:
    """In units (bytes, pods, ...), rounded up; 0 for None. Raises ValueError."""
    return _ceiling(nanos(str(text)), _BILLION) if text is not None else 0


def millis(text: str | int | float | None) -> int:
    """In thousandths (millicores), rounded up; 0 for None. Raises ValueError."""
    return _ceiling(nanos(str(text)), 1_000_000) if text is not None else 0


def _ceiling(number: int, by: int) -> int:
    return -(-number // by)
