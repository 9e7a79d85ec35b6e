"""Bodies against the types of their kind: what Go's decoder would refuse is refused in its words, what it would normalise is normalised.

Nulls go, times become UTC with `Z`, quantities canonical; unknown fields are removed and told. Of custom kinds only the metadata has a
type.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from pinnace.cloud.standalone import quantities
from pinnace.cloud.standalone.kinds import Kind
from pinnace.cloud.standalone.status import bad_request, go_word
from pinnace.cloud.standalone.typetable import Type, table, type_name

_METADATA = "meta.v1.ObjectMeta"
_RANGES = {"int32": 31, "int64": 63}
_GO_NAMES = {"double": "float64", "bytes": "[]uint8", "int-or-string": "intstr.IntOrString", "any": "interface {}"}
_LAYOUTS = {"time": "2006-01-02T15:04:05Z07:00", "microtime": "2006-01-02T15:04:05.000000Z07:00"}


class _Refused(Exception):
    """A value the decoder cannot take, in its words."""


def unknown_fields(kind: Kind, obj: dict[str, Any]) -> list[str]:
    """Normalise the object in place and remove what its kind does not know; the removed paths. Raises ApiError 400."""
    unknown: list[str] = []
    types = table()
    try:
        if kind.is_custom:
            metadata = obj.get("metadata")
            if metadata is None:
                return unknown
            if not isinstance(metadata, dict):
                raise _Refused(
                    f"json: cannot unmarshal {go_word(metadata)} into Go struct field {kind.kind}.metadata of type v1.ObjectMeta"
                )
            _walk(metadata, types[_METADATA], _Place("metadata", "", ""), unknown)
        else:
            name = type_name(kind)
            if name:
                _walk(obj, types[name], _Place("", "", ""), unknown)
    except _Refused as error:
        raise bad_request(f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: {error}') from None
    return unknown


class _Place(NamedTuple):
    """Where a value stands: `path` with indexes and keys, `fields` with field names only and `owner`, its type, as Go's messages say it."""

    path: str
    fields: str
    owner: str

    def at(self, step: str) -> _Place:
        return self._replace(path=self.path + step)

    def refused(self, value: Any, kind: str, shown: str = "") -> _Refused:
        where = f"Go struct field {self.owner}.{self.fields} of type {_go_name(kind)}"
        return _Refused(f"json: cannot unmarshal {shown or go_word(value)} into {where}")


def _walk(obj: dict[str, Any], known: Type, place: _Place, unknown: list[str]) -> None:
    for key in list(obj):
        path = f"{place.path}.{key}" if place.path else key
        kind = known.fields.get(key)
        if kind is None:
            unknown.append(path)
            del obj[key]
        elif obj[key] is None:
            del obj[key]
        else:
            fields = f"{place.fields}.{key}" if place.fields else key
            obj[key] = _value(obj[key], kind, _Place(path, fields, known.name.rpartition(".")[2]), unknown)


def _value(value: Any, kind: str, place: _Place, unknown: list[str]) -> Any:
    if kind.startswith("[]"):
        if not isinstance(value, list):
            raise place.refused(value, kind)
        return [_element(each, kind[2:], place.at(f"[{index}]"), unknown) for index, each in enumerate(value)]
    if kind.startswith("{}"):
        if not isinstance(value, dict):
            raise place.refused(value, kind)
        return {key: _element(each, kind[2:], place.at(f".{key}"), unknown) for key, each in value.items()}
    match kind:
        case "string" | "bool" | "double" | "int-or-string":
            if not _is_plain(value, kind):
                raise place.refused(value, kind)
        case "int32" | "int64":
            return _integer(value, kind, place)
        case "bytes":
            return _bytes(value, place)
        case "time" | "microtime":
            return _time(value, kind, place)
        case "quantity":
            return _quantity(value, place)
        case "any":
            pass
        case _:
            if not isinstance(value, dict):
                raise place.refused(value, kind)
            _walk(value, table()[kind], place, unknown)
    return value


def _is_plain(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "bool"
    wanted = {"string": str, "double": int | float, "int-or-string": int | str}
    return kind in wanted and isinstance(value, wanted[kind])


def _element(value: Any, kind: str, place: _Place, unknown: list[str]) -> Any:
    """An element of a list or map: null is Go's zero value."""
    if value is not None:
        return _value(value, kind, place, unknown)
    zeros: Mapping[str, Any] = {"string": "", "bytes": "", "bool": False, "int32": 0, "int64": 0, "quantity": "0", "any": None}
    return zeros[kind] if kind in zeros else [] if kind.startswith("[]") else {}


def _integer(value: Any, kind: str, place: _Place) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise place.refused(value, kind)
    bits = _RANGES[kind]
    if (isinstance(value, float) and not value.is_integer()) or not -(1 << bits) <= value < 1 << bits:
        raise place.refused(value, kind, f"number {value}")
    return int(value)


def _bytes(value: Any, place: _Place) -> str:
    if not isinstance(value, str):
        raise place.refused(value, "bytes")
    text = re.sub(r"[\r\n]", "", value)
    try:
        base64.b64decode(text, validate=True)
    except binascii.Error:
        wrong = re.search(r"[^A-Za-z0-9+/=]", text)
        raise _Refused(f"illegal base64 data at input byte {wrong.start() if wrong else max(len(text) - 1, 0)}") from None
    return text


def _time(value: Any, kind: str, place: _Place) -> str:
    if not isinstance(value, str):
        raise place.refused(value, kind)
    layout = _LAYOUTS[kind]
    try:
        if not re.match(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d", value, re.ASCII):
            raise ValueError(value)
        when = datetime.datetime.fromisoformat(value)
        if when.tzinfo is None:
            raise ValueError(value)
        when = when.astimezone(datetime.UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        raise _Refused(f'parsing time "{value}" as "{layout}": cannot parse "{value}" as "2006"') from None
    return f"{when.isoformat(timespec='microseconds' if kind == 'microtime' else 'seconds')}Z"


def _quantity(value: Any, place: _Place) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise place.refused(value, "quantity")
    try:
        return quantities.canonical(str(value))
    except ValueError as error:
        raise _Refused(str(error)) from None


def _go_name(kind: str) -> str:
    if kind.startswith("[]"):
        return f"[]{_go_name(kind[2:])}"
    if kind.startswith("{}"):
        return f"map[string]{_go_name(kind[2:])}"
    package, _, name = kind.rpartition(".")
    return f"v1.{name}" if package else _GO_NAMES.get(kind, kind)
