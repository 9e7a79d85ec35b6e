"""The causes of a 422 in the words of Kubernetes' field validation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from pinnace.cloud.standalone.status import Cause


def quoted(value: Any) -> str:
    """A value as error messages show it: JSON with sorted keys."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def required(field: str, why: str = "") -> Cause:
    return Cause("FieldValueRequired", f"Required value{': ' if why else ''}{why}", field)


def invalid(field: str, value: Any, why: str) -> Cause:
    return Cause("FieldValueInvalid", f"Invalid value: {quoted(value)}: {why}", field)


def forbidden(field: str, why: str) -> Cause:
    return Cause("FieldValueForbidden", f"Forbidden: {why}", field)


def duplicate(field: str, value: Any) -> Cause:
    return Cause("FieldValueDuplicate", f"Duplicate value: {quoted(value)}", field)


def unsupported(field: str, value: Any, *supported: str) -> Cause:
    listed = ", ".join(quoted(each) for each in supported)
    return Cause("FieldValueNotSupported", f"Unsupported value: {quoted(value)}: supported values: {listed}", field)


def too_long(field: str, limit: int) -> Cause:
    return Cause("FieldValueTooLong", f"Too long: may not be more than {limit} bytes", field)


def immutable(field: str, value: Any) -> Cause:
    return invalid(field, value, "field is immutable")


def at_least(field: str, value: Any, least: int) -> Cause:
    return invalid(field, value, f"must be greater than or equal to {least}")


def in_range(field: str, value: Any, least: int, most: int) -> Iterator[Cause]:
    if not isinstance(value, int) or not least <= value <= most:
        yield invalid(field, value, f"must be between {least} and {most}, inclusive")
