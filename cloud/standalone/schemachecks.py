"""Single values against an OpenAPI v3 schema node, in the words Kubernetes refuses them with."""

from __future__ import annotations

import functools
import ipaddress
import math
import re
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pinnace.cloud.standalone.ages import seconds_of
from pinnace.cloud.standalone.causes import quoted
from pinnace.cloud.standalone.status import Cause

Node = Mapping[str, Any]


class _Absent:
    """No old value to compare with."""


ABSENT: Final = _Absent()
_POSIX = {
    "alpha": "a-zA-Z", "digit": "0-9", "alnum": "a-zA-Z0-9", "upper": "A-Z", "lower": "a-z", "space": r"\s", "punct": r"!-/:-@\[-`{-~",
    "xdigit": "0-9A-Fa-f", "word": r"\w", "blank": r" \t", "cntrl": r"\x00-\x1f\x7f", "print": r"\x20-\x7e", "graph": r"\x21-\x7e",
}  # fmt: skip
_INT_OR_STRING = "x-kubernetes-int-or-string"


def bare(value: Any) -> str:
    """A value as Go prints it with %v, as far as plain values go."""
    return value if isinstance(value, str) else quoted(value)


def type_of(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "integer" if value.is_integer() else "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


def go_type(value: Any) -> str:
    names = {"boolean": "bool", "integer": "int64", "number": "float64", "array": "[]interface {}", "object": "map[string]interface {}"}
    kind = "number" if isinstance(value, float) else type_of(value)
    return names.get(kind, kind)


@functools.lru_cache(maxsize=2048)
def pattern(text: str) -> re.Pattern[str]:
    """A Go regular expression as Python's: `$` is the very end, classes like [[:alpha:]] and \\z are known. Raises re.error."""
    parts = []
    is_class = False
    at = 0
    while at < len(text):
        char = text[at]
        posix = re.match(r"\[:(\^?)(\w+):\]", text[at:]) if is_class else None
        if posix is not None and posix[2] in _POSIX and not posix[1]:
            parts.append(_POSIX[posix[2]])
            at += posix.end()
            continue
        if char == "\\":
            pair = text[at : at + 2]
            parts.append({r"\z": r"\Z", r"\Q": "", r"\E": ""}.get(pair, pair))
            at += 2
            continue
        if char == "[" and not is_class:
            is_class = True
            negated = text[at + 1 : at + 2] == "^"
            first = at + 2 if negated else at + 1
            parts.append(text[at:first])
            at = first
            if text[at : at + 1] == "]":
                parts.append(r"\]")
                at += 1
            continue
        if char == "[":
            parts.append(r"\[")
        elif char == "]" and is_class:
            is_class = False
            parts.append(char)
        else:
            parts.append(r"\Z" if char == "$" and not is_class else char)
        at += 1
    return re.compile("".join(parts))


def check(value: Any, schema: Node, path: str, words: str, old: Any = ABSENT) -> list[Cause]:
    """What is wrong with a value. `path` is its field path, `words` its name in sentences, `old` what an update found there."""
    return list(_check(value, schema, path, words, old))


def _invalid(path: str, value: Any, why: str) -> Cause:
    return Cause("FieldValueInvalid", f"Invalid value: {quoted(value)}: {why}", path)


def _check(value: Any, schema: Node, path: str, words: str, old: Any) -> Iterator[Cause]:
    if old is not ABSENT and quoted(old) == quoted(value):
        return
    if value is None:
        if not schema.get("nullable") and (schema.get("type") or schema.get(_INT_OR_STRING)):
            yield _wrong_type(path, words, schema, value)
        return
    if not _fits(value, schema):
        yield _wrong_type(path, words, schema, value)
        return
    if "enum" in schema and all(quoted(value) != quoted(each) for each in schema["enum"] or ()):
        listed = ", ".join(quoted(each) for each in schema["enum"] or ())
        yield Cause("FieldValueNotSupported", f"Unsupported value: {quoted(value)}: supported values: {listed}", path)
    match value:
        case str():
            yield from _check_text(value, schema, path, words)
        case bool():
            pass
        case int() | float():
            yield from _check_number(value, schema, path, words)
        case list():
            yield from _check_list(value, schema, path, words, old)
        case dict():
            yield from _check_map(value, schema, path, words, old)
        case _:
            pass
    yield from _check_combinations(value, schema, path, words, old)


def _fits(value: Any, schema: Node) -> bool:
    if schema.get(_INT_OR_STRING):
        return type_of(value) in {"integer", "string"}
    wanted = schema.get("type")
    found = type_of(value)
    return not wanted or found == wanted or (wanted == "number" and found == "integer")


def _wrong_type(path: str, words: str, schema: Node, value: Any) -> Cause:
    wanted = "integer,string" if schema.get(_INT_OR_STRING) else schema.get("type", "")
    found = type_of(value)
    said = f"{words} in body must be of type {wanted}: " if words else f"must be of type {wanted}: "
    return Cause("FieldValueTypeInvalid", f'Invalid value: "{found}": {said}"{found}"', path)


def _check_text(value: str, schema: Node, path: str, words: str) -> Iterator[Cause]:
    longest, shortest, shape = schema.get("maxLength"), schema.get("minLength"), schema.get("pattern")
    if longest is not None and len(value) > longest:
        yield Cause("FieldValueTooLong", f"Too long: may not be more than {longest} bytes", path)
    elif shortest is not None and len(value) < shortest:
        yield _invalid(path, value, f"{words} in body should be at least {shortest} chars long")
    elif shape and pattern(shape).search(value) is None:
        yield _invalid(path, value, f"{words} in body should match '{shape}'")
    form = schema.get("format")
    if form and not _has_format(value, form):
        why = f"Invalid value: {quoted(value)}: {words} in body must be of type {form}: {quoted(value)}"
        yield Cause("FieldValueInvalid", why, path)


def _has_format(value: str, form: str) -> bool:
    """Whether a text has a format; formats that are not checked fit everything."""
    try:
        match form:
            case "date-time" | "datetime":
                return seconds_of(value) is not None
            case "date":
                return re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])", value, re.ASCII) is not None
            case "ipv4":
                ipaddress.IPv4Address(value)
            case "ipv6":
                ipaddress.IPv6Address(value)
            case "cidr":
                ipaddress.ip_network(value, strict=False)
            case "uuid" | "uuid3" | "uuid4" | "uuid5":
                uuid.UUID(value)
            case "mac":
                return re.fullmatch(r"([0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}", value) is not None
            case "byte":
                return re.fullmatch(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?", value) is not None
            case "email":
                return re.fullmatch(r"[^@\s]+@[^@\s]+", value) is not None
            case "hostname":
                return re.fullmatch(r"([A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?\.?)+", value) is not None and len(value) <= 255
            case _:
                return True
    except ValueError:
        return False
    return True


def _check_number(value: float, schema: Node, path: str, words: str) -> Iterator[Cause]:
    most, least, step = schema.get("maximum"), schema.get("minimum"), schema.get("multipleOf")
    if step and not math.isclose(value / step, round(value / step), abs_tol=1e-9):
        yield _invalid(path, value, f"{words} in body should be a multiple of {bare(step)}")
    if most is not None:
        if schema.get("exclusiveMaximum") and value >= most:
            yield _invalid(path, value, f"{words} in body should be less than {bare(most)}")
        elif value > most:
            yield _invalid(path, value, f"{words} in body should be less than or equal to {bare(most)}")
    if least is not None:
        if schema.get("exclusiveMinimum") and value <= least:
            yield _invalid(path, value, f"{words} in body should be greater than {bare(least)}")
        elif value < least:
            yield _invalid(path, value, f"{words} in body should be greater than or equal to {bare(least)}")
    bits = {"int32": 31, "int64": 63}.get(schema.get("format", ""))
    if bits is not None and not -(1 << bits) <= value < 1 << bits:
        yield _invalid(path, value, f"{words} in body must be of type {schema['format']}: {quoted(value)}")


def _check_list(value: list[Any], schema: Node, path: str, words: str, old: Any) -> Iterator[Cause]:
    most, least = schema.get("maxItems"), schema.get("minItems")
    if most is not None and len(value) > most:
        yield Cause("FieldValueTooMany", f"Too many: {len(value)}: must have at most {most} items", path)
    if least is not None and len(value) < least:
        yield _invalid(path, len(value), f"{words} in body should have at least {least} items")
    keys = schema.get("x-kubernetes-list-map-keys") or () if schema.get("x-kubernetes-list-type") == "map" else ()
    is_set = schema.get("x-kubernetes-list-type") == "set"
    before = {_identity(each, keys): each for each in old if isinstance(each, dict)} if keys and isinstance(old, list) else {}
    items = schema.get("items")
    seen = set()
    for index, each in enumerate(value):
        if isinstance(items, Mapping):
            former = before.get(_identity(each, keys), ABSENT) if keys and isinstance(each, dict) else ABSENT
            yield from _check(each, items, f"{path}[{index}]", f"{words}[{index}]", former)
        if (keys and isinstance(each, dict)) or is_set:
            identity = _identity(each, keys) if keys else quoted(each)
            if identity in seen:
                yield Cause("FieldValueDuplicate", f"Duplicate value: {identity}", f"{path}[{index}]")
            seen.add(identity)


def _identity(element: Any, keys: Any) -> str:
    return quoted({key: element[key] for key in keys if key in element}) if isinstance(element, dict) else quoted(element)


def _check_map(value: dict[str, Any], schema: Node, path: str, words: str, old: Any) -> Iterator[Cause]:
    most, least = schema.get("maxProperties"), schema.get("minProperties")
    if most is not None and len(value) > most:
        yield Cause("FieldValueTooMany", f"Too many: {len(value)}: must have at most {most} items", path)
    if least is not None and len(value) < least:
        yield _invalid(path, len(value), f"{words} in body should have at least {least} properties")
    properties, rest = schema.get("properties") or {}, schema.get("additionalProperties")
    for key in schema.get("required") or ():
        if key not in value:
            yield Cause("FieldValueRequired", "Required value", _below(path, key))
    if schema.get("x-kubernetes-embedded-resource"):
        for key in ("apiVersion", "kind"):
            if not value.get(key):
                yield Cause("FieldValueRequired", "Required value: must not be empty", _below(path, key))
    for key, each in value.items():
        below = properties.get(key, rest)
        if isinstance(below, Mapping):
            former = old.get(key, ABSENT) if isinstance(old, dict) else ABSENT
            yield from _check(each, below, _below(path, key), _below(words, key), former)


def _below(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _check_combinations(value: Any, schema: Node, path: str, words: str, old: Any) -> Iterator[Cause]:
    def holds(part: Node) -> bool:
        return next(_check(value, part, path, words, ABSENT), None) is None

    def failed(why: str) -> Cause:
        return Cause("FieldValueInvalid", f'Invalid value: "": "{words}" {why}', "<nil>")

    for part in schema.get("allOf") or ():
        yield from _check(value, part, path, words, old)
    if schema.get("anyOf") and not any(holds(part) for part in schema["anyOf"]):
        yield failed("must validate at least one schema (anyOf)")
    if schema.get("oneOf"):
        count = sum(holds(part) for part in schema["oneOf"])
        if count != 1:
            found = f"Found {count} valid alternatives" if count else "Found none valid"
            yield failed(f"must validate one and only one schema (oneOf). {found}")
    if schema.get("not") and holds(schema["not"]):
        yield failed("must not validate the schema (not)")
