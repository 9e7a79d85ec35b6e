"""Simple JSON paths of printer columns (Kubernetes, JSONPath support).

`.spec.x`, `['a.b']`, `[0]`, `[-1]`, `[1:3]`, `[*]`, `.*`, `[?(@.type=="Ready")]`; `\\.` is a dot in a name.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable
from typing import Any

import orjson

_STEP = re.compile(
    r"""\.?\[\s*\?\(\s*@(?P<path>[^=!<>]*?)\s*(?:(?P<operator>==|!=|<=|>=|<|>)\s*(?P<wanted>"[^"]*"|'[^']*'|[^\s)]+)\s*)?\)\s*\]
    |\.?\[\s*(?P<index>-?\d+)\s*\] | \.?\[\s*(?P<start>-?\d*)\s*:\s*(?P<end>-?\d*)\s*\]
    |\.?\[\s*(?P<quote>["'])(?P<quoted>.*?)(?P=quote)\s*\]
    |\.?\[\s*(?P<star>\*)\s*\] | \.(?P<wild>\*) | \.(?P<name>(?:\\.|[^.\[\]\\])+)""",
    re.VERBOSE,
)
Step = Callable[[Any], Iterable[Any]]


class BadPath(ValueError):
    """A path that is not one of the simple ones."""


@functools.lru_cache(maxsize=1024)
def compiled(path: str) -> Callable[[Any], list[Any]]:
    """A function from a decoded object to all values at the path, in order. Raises BadPath."""
    steps: list[Step] = []
    at = 0
    while at < len(path):
        found = _STEP.match(path, at)
        if found is None:
            raise BadPath(path)
        steps.append(_step(found))
        at = found.end()

    def values(obj: Any) -> list[Any]:
        current = [obj]
        for step in steps:
            current = [value for each in current for value in step(each)]
        return current

    return values


def _step(found: re.Match[str]) -> Step:
    if found["name"] is not None:
        return _member(re.sub(r"\\(.)", r"\1", found["name"]))
    if found["quoted"] is not None:
        return _member(found["quoted"])
    if found["star"] or found["wild"]:
        return lambda value: value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if found["index"] is not None:
        index = int(found["index"])
        return lambda value: [value[index]] if isinstance(value, list) and -len(value) <= index < len(value) else ()
    if found["start"] is not None:
        part = slice(*(int(each) if each else None for each in (found["start"], found["end"])))
        return lambda value: value[part] if isinstance(value, list) else ()
    return _filter(found["path"], found["operator"], found["wanted"])


def _member(name: str) -> Step:
    return lambda value: [value[name]] if isinstance(value, dict) and name in value else ()


def _filter(path: str, operator: str | None, wanted: str | None) -> Step:
    inner = compiled(path)
    literal = _literal(wanted) if wanted is not None else None

    def holds(value: Any) -> bool:
        found = inner(value)
        if operator is None or not found:
            return bool(found)
        try:
            return _compare(found[0], operator, literal)
        except TypeError:
            return False

    return lambda value: [each for each in value if holds(each)] if isinstance(value, list) else ()


def _compare(left: Any, operator: str, right: Any) -> bool:
    match operator:
        case "==":
            return bool(left == right)
        case "!=":
            return bool(left != right)
        case "<":
            return bool(left < right)
        case "<=":
            return bool(left <= right)
        case ">":
            return bool(left > right)
        case _:
            return bool(left >= right)


def _literal(text: str) -> Any:
    if text[0] in "\"'":
        return text[1:-1]
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
