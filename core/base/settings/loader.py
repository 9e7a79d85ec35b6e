"""Reads KubeEdge-shaped YAML into frozen dataclasses; every complaint names file, line, key and what was expected."""

from __future__ import annotations

import dataclasses
import logging
import re
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin

from pinnace.core.base.errors import ConfigError

T = TypeVar("T")
logger = logging.getLogger(__name__)

_EXPECTED = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", Path: "a path"}
_HUMP = re.compile(r"_([a-z0-9])")


def camel(field: str) -> str:
    """The YAML key of a field: `keepalive_interval` → `keepaliveInterval`; a field's metadata `key` overrides it."""
    return _HUMP.sub(lambda match: match.group(1).upper(), field)


class _Source:
    """A parsed file that remembers on which line each key stands."""

    def __init__(self, path: Path | None) -> None:
        self.name = str(path) if path else "defaults"
        self.lines: dict[str, int] = {}
        self.values: Any = {}
        if path is not None:
            self._read(path)

    def _read(self, path: Path) -> None:
        import yaml  # 3 MB that a process without a configuration file does not need

        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}; give another file with --config") from error
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
            self.values = yaml.safe_load(text) or {}
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 0
            raise ConfigError(f"{path}:{line}: is no valid YAML: {error.problem}") from error
        self._note(node, "")

    def _note(self, node: Any, prefix: str) -> None:
        for key, value in getattr(node, "value", []) if type(node).__name__ == "MappingNode" else []:
            dotted = f"{prefix}.{key.value}" if prefix else str(key.value)
            self.lines[dotted] = key.start_mark.line + 1
            self._note(value, dotted)

    def fault(self, key: str, expected: str) -> ConfigError:
        line = f":{self.lines[key]}" if key in self.lines else ""
        return ConfigError(f"{self.name}{line}: {key}: expected {expected}")


def _convert(source: _Source, key: str, value: Any, hint: Any) -> Any:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        return _convert(source, key, value, next(each for each in get_args(hint) if each is not type(None)))
    if dataclasses.is_dataclass(hint):
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise source.fault(key, "a section (key: value lines)")
        return _section(source, key, value, typing.cast("type[Any]", hint))
    if origin is tuple:
        if not isinstance(value, list):
            raise source.fault(key, "a list")
        return tuple(_convert(source, f"{key}[{index}]", each, get_args(hint)[0]) for index, each in enumerate(value))
    if origin is dict or origin is Mapping:
        if not isinstance(value, dict):
            raise source.fault(key, "a section (key: value lines)")
        return {str(name): _convert(source, f"{key}.{name}", each, get_args(hint)[1]) for name, each in value.items()}
    if hint is Any:
        return value
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise source.fault(key, _EXPECTED.get(hint, f"a {hint.__name__}"))
    return value


def _section(source: _Source, prefix: str, values: Mapping[Any, Any], into: type[T]) -> T:
    hints = typing.get_type_hints(into)
    known: dict[str, Any] = {}
    for field in dataclasses.fields(into):  # type: ignore[arg-type]
        known[field.metadata.get("key", camel(field.name))] = field
    arguments: dict[str, Any] = {}
    for name, value in values.items():
        key = f"{prefix}.{name}" if prefix else str(name)
        if str(name) not in known:
            line = source.lines.get(key)
            logger.warning("settings.unknown-key file=%s line=%s key=%s: not used by Pinnace", source.name, line or "-", key)
            continue
        field = known[str(name)]
        arguments[field.name] = _convert(source, key, value, hints[field.name])
    try:
        return into(**arguments)
    except ValueError as error:  # raised by a section's own __post_init__: "<yaml key>: expected ..."
        name, _, expected = str(error).partition(": ")
        raise source.fault(f"{prefix}.{name}" if prefix else name, expected.removeprefix("expected ")) from error


def _merge(values: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    for name in parents:
        values = values.setdefault(name, {})
    values[last] = value


def load(path: Path | None, into: type[T], *, overrides: Mapping[str, Any] | None = None) -> T:
    """The settings of a file (defaults where it is silent), with `overrides` (dotted YAML key → value) on top.

    `into` is a frozen dataclass of dataclasses; its fields are snake_case, the YAML keys camelCase. A section refuses a value by
    raising ValueError("<yaml key>: expected <what>") in `__post_init__`. Unknown keys are logged as warnings (`apiVersion` and `kind`
    are accepted silently). Raises ConfigError.
    """
    source = _Source(path)
    if not isinstance(source.values, dict):
        raise ConfigError(f"{source.name}:1: expected a mapping at the top")
    values = {key: value for key, value in source.values.items() if key not in {"apiVersion", "kind"}}
    for dotted, value in (overrides or {}).items():
        _merge(values, dotted, value)
    return _section(source, "", values, into)
