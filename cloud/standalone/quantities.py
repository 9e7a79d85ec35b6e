"""Resource quantities (`500m`, `1Gi`, `1e3`) in their canonical form (Kubernetes API, resource.Quantity)."""

from __future__ import annotations

import decimal
import re

_SHAPE = re.compile(r"(?P<number>[+-]?(?:\d+\.?\d*|\.\d+))(?P<suffix>[KMGTPE]i|[numkMGTPE]?|[eE][+-]?\d+)", re.ASCII)
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_DECIMAL = {"n": -3, "u": -2, "m": -1, "": 0, "k": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}
_NAMES = {power: suffix for suffix, power in _DECIMAL.items()}
_BINARY_NAMES = {power: suffix for suffix, power in _BINARY.items()}
_LARGEST_EXPONENT = 99
_CONTEXT = decimal.Context(prec=200)
PATTERN_TEXT = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"


def canonical(text: str) -> str:
    """The canonical text: no fraction, the largest suffix that loses nothing, at best a billionth. Raises ValueError."""
    found = _SHAPE.fullmatch(text.strip())
    if found is None or len(text) > 64:
        raise ValueError(PATTERN_TEXT)
    number, suffix = decimal.Decimal(found["number"]), found["suffix"]
    if suffix in _BINARY:
        value = _CONTEXT.multiply(number, decimal.Decimal(1024 ** _BINARY[suffix]))
        return _in_binary(value) if abs(value) >= 1024 else _in_decimal(value, is_exponent=False)
    is_exponent = suffix[:1] in {"e", "E"} and len(suffix) > 1
    exponent = int(suffix[1:]) if is_exponent else _DECIMAL[suffix] * 3
    if abs(exponent) > _LARGEST_EXPONENT:
        raise ValueError(PATTERN_TEXT)
    return _in_decimal(_CONTEXT.scaleb(number, exponent), is_exponent=is_exponent)


def _in_binary(value: decimal.Decimal) -> str:
    if value != value.to_integral_value():
        return _in_decimal(value, is_exponent=False)
    whole, power = int(value), 0
    while whole % 1024 == 0 and power < 6:
        whole, power = whole // 1024, power + 1
    return f"{whole}{_BINARY_NAMES.get(power, '')}"


def _in_decimal(value: decimal.Decimal, *, is_exponent: bool) -> str:
    rounding = decimal.ROUND_CEILING if value > 0 else decimal.ROUND_FLOOR
    whole = int(_CONTEXT.scaleb(value, 9).to_integral_value(rounding))
    if not whole:
        return "0"
    power = -3
    while whole % 1000 == 0 and (power < 6 or is_exponent):
        whole, power = whole // 1000, power + 1
    if is_exponent:
        return f"{whole}e{power * 3}" if power else str(whole)
    return f"{whole}{_NAMES[power]}"
