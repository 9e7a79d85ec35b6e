"""The fields of the built-in kinds: which there are, of what type, which are required (data/types.json, made by build/kubetypes/make.py).

A type is `string`, `bytes`, `bool`, `int32`, `int64`, `double`, `time`, `microtime`, `quantity`, `int-or-string`, `any` or another type's
name (`core.v1.PodSpec`); `[]T` is a list of T, `{}T` a map with text keys.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

from pinnace.cloud.standalone.kinds import Kind


@dataclass(frozen=True, slots=True)
class Type:
    """One message: its fields' types by JSON name, in order, and the names that must be there."""

    name: str
    fields: Mapping[str, str]
    required: frozenset[str]


@functools.cache
def table() -> Mapping[str, Type]:
    """All types by name; read once."""
    loaded: dict[str, dict[str, str]] = json.loads(files(__package__).joinpath("data/types.json").read_text())
    types = {}
    for name, fields in loaded.items():
        required = frozenset(field[:-1] for field in fields if field.endswith("!"))
        types[name] = Type(name, {field.removesuffix("!"): kind for field, kind in fields.items()}, required)
    return types


def package(group: str, version: str) -> str:
    """How the table calls an API version: `apps/v1` is `apps.v1`, the core group `core.v1`."""
    return f"{group.partition('.')[0] or 'core'}.{version}"


def type_name(kind: Kind) -> str:
    """The name of a built-in kind's type; "" when the table has none."""
    name = f"{package(kind.group, kind.version)}.{kind.kind}"
    return name if name in table() else ""


def field_type(owner: str, field: str) -> str:
    """The type of a field of the named type; "any" for what the table does not know."""
    known = table().get(owner)
    return known.fields.get(field, "any") if known is not None else "any"
