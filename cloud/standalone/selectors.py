"""Label and field selectors in lists and watches: the grammar, the fields each kind may be asked by, and the API's words for mistakes.

Source: Kubernetes API, labels and selectors; field selectors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pinnace.cloud.standalone import names
from pinnace.cloud.standalone.kinds import Kind
from pinnace.cloud.standalone.status import bad_request

_TOKEN = re.compile(r"\s*(?:(?P<symbol>!=|==|=|!|\(|\)|,|>|<)|(?P<word>[^\s=!(),<>]+))")
_OPERATORS = {"in": "in", "notin": "notin", "=": "=", "==": "=", "!=": "!=", ">": ">", "<": "<"}
_EXPECTED_OPERATORS = "in, notin, =, ==, !=, gt, lt"


class _Malformed(Exception):
    """A requirement that cannot be read, in the API's words."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One term: a key, an operator (exists, !, =, !=, in, notin, >, <) and the values it compares with."""

    key: str
    operator: str
    values: frozenset[str]

    def matches(self, labels: Mapping[str, str]) -> bool:
        found = labels.get(self.key)
        match self.operator:
            case "exists":
                return found is not None
            case "!":
                return found is None
            case "=" | "in":
                return found in self.values
            case "!=" | "notin":
                return found not in self.values
            case _:
                return found is not None and self._compares(found)

    def _compares(self, found: str) -> bool:
        (wanted,) = self.values
        if not re.fullmatch(r"[+-]?\d+", found, re.ASCII):
            return False
        return int(found) > int(wanted) if self.operator == ">" else int(found) < int(wanted)


class LabelSelector:
    """All requirements of a selector; `matches` wants an object's labels."""

    def __init__(self, requirements: list[Requirement]) -> None:
        self._requirements = requirements

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(each.matches(labels) for each in self._requirements)


class _Parser:
    """Reads one label selector. `_peek` gives the next token, "" at the end."""

    def __init__(self, text: str) -> None:
        self._tokens = [(found["symbol"] or found["word"], bool(found["word"])) for found in _TOKEN.finditer(text)]
        self._next = 0

    def _peek(self) -> tuple[str, bool]:
        return self._tokens[self._next] if self._next < len(self._tokens) else ("", False)

    def _take(self) -> tuple[str, bool]:
        token = self._peek()
        self._next += 1
        return token

    def parse(self) -> list[Requirement]:
        requirements: list[Requirement] = []
        while True:
            text, is_word = self._peek()
            if not text:
                return requirements
            if not is_word and text != "!":
                raise _Malformed(f"found '{text}', expected: !, identifier, or 'end of string'")
            try:
                requirements.append(self._requirement())
            except _Malformed as error:
                raise _Malformed(f"unable to parse requirement: {error}") from None
            text, _ = self._take()
            if not text:
                return requirements
            if text != ",":
                raise _Malformed(f"found '{text}', expected: ',' or 'end of string'")
            text, is_word = self._peek()
            if not is_word and text != "!":
                raise _Malformed(f"found '{text}', expected: identifier after ','")

    def _requirement(self) -> Requirement:
        text, is_word = self._take()
        is_absent = text == "!"
        if is_absent:
            text, is_word = self._take()
        if not is_word:
            raise _Malformed(f"found '{text}', expected: identifier")
        key = text
        problems = names.qualified_name(key)
        if problems:
            raise _Malformed(f'<nil>: Invalid value: "{key}": {"; ".join(problems)}')
        if is_absent:
            return Requirement(key, "!", frozenset())
        if self._peek()[0] in {"", ","}:
            return Requirement(key, "exists", frozenset())
        text, _ = self._take()
        operator = _OPERATORS.get(text)
        if operator is None:
            raise _Malformed(f"found '{text}', expected: {_EXPECTED_OPERATORS}")
        values = self._set() if operator in {"in", "notin"} else {self._one()}
        self._check(key, operator, values)
        return Requirement(key, operator, frozenset(values))

    def _check(self, key: str, operator: str, values: set[str]) -> None:
        if not values:
            raise _Malformed("values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty")
        for index, value in enumerate(sorted(values)):
            problems = names.label_value(value)
            if problems:
                raise _Malformed(f'values[{index}][{key}]: Invalid value: "{value}": {"; ".join(problems)}')
            if operator in {">", "<"} and not re.fullmatch(r"[+-]?\d+", value, re.ASCII):
                raise _Malformed(f"values[{index}]: Invalid value: \"{value}\": for 'Gt', 'Lt' operators, the value must be an integer")

    def _one(self) -> str:
        if self._peek()[0] in {"", ","}:
            return ""
        text, is_word = self._take()
        if not is_word:
            raise _Malformed(f"found '{text}', expected: identifier")
        return text

    def _set(self) -> set[str]:
        text, _ = self._take()
        if text != "(":
            raise _Malformed(f"found '{text}' expected: '('")
        text, is_word = self._peek()
        if not is_word and text not in {",", ")"}:
            raise _Malformed(f"found '{text}', expected: ',', ')' or identifier")
        values: set[str] = set()
        is_value_due = True
        while True:
            text, is_word = self._take()
            if text == ")" and not is_word:
                if is_value_due and values:
                    values.add("")
                return values
            if text == "," and not is_word:
                if is_value_due:
                    values.add("")
                is_value_due = True
            elif is_word and is_value_due:
                values.add(text)
                is_value_due = False
            else:
                expected = "',', or identifier" if is_value_due else "',' or ')'"
                raise _Malformed(f"found '{text}', expected: {expected}")


def parse_labels(text: str) -> LabelSelector:
    """Raises ApiError 400."""
    try:
        return LabelSelector(_Parser(text).parse())
    except _Malformed as error:
        raise bad_request(str(error)) from None


def _at(*path: str) -> Callable[[Mapping[str, Any]], Any]:
    def value(obj: Mapping[str, Any]) -> Any:
        found: Any = obj
        for part in path:
            found = found.get(part) if isinstance(found, Mapping) else None
        return found

    return value


def _flag(*path: str) -> Callable[[Mapping[str, Any]], Any]:
    found = _at(*path)
    return lambda obj: bool(found(obj))


def _source(event: Mapping[str, Any]) -> Any:
    return _at("source", "component")(event) or event.get("reportingComponent")


def _fields(*paths: str) -> dict[str, Callable[[Mapping[str, Any]], Any]]:
    return {path: _at(*path.split(".")) for path in paths}


_METADATA = _fields("metadata.name", "metadata.namespace")
_INVOLVED = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
_EVENT = {
    **_METADATA,
    **_fields("reason", "type", "reportingComponent", *(f"involvedObject.{each}" for each in _INVOLVED)),
    "source": _source,
}
_NEW_EVENT = {
    **_METADATA, **_fields("reason", "type"), "reportingController": _at("reportingComponent"),
    **{f"regarding.{each}": _at("involvedObject", each) for each in _INVOLVED},
}  # fmt: skip
_BY_TABLE: Mapping[str, Mapping[str, Callable[[Mapping[str, Any]], Any]]] = {
    "pods": {
        **_METADATA,
        **_fields("spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "status.phase", "status.podIP",
                  "status.podIPs", "status.nominatedNodeName"),
        "spec.host": _at("spec", "nodeName"),
        "spec.hostNetwork": _flag("spec", "hostNetwork"),
    },
    "nodes": {"metadata.name": _METADATA["metadata.name"], "spec.unschedulable": _flag("spec", "unschedulable")},
    "namespaces": _fields("metadata.name", "status.phase"),
    "secrets": {**_METADATA, **_fields("type")},
    "services": {**_METADATA, **_fields("spec.clusterIP", "spec.type")},
    "replicasets.apps": {**_METADATA, **_fields("status.replicas")},
}  # fmt: skip


def _selectable(kind: Kind) -> Mapping[str, Callable[[Mapping[str, Any]], Any]]:
    """The fields a kind's objects may be selected by."""
    if kind.is_custom:
        own = [str(each.get("jsonPath", "")).lstrip(".") for each in kind.definition.get("selectableFields") or ()]
        return {**_METADATA, **_fields(*own)}
    if kind.table == "events":
        return _NEW_EVENT if kind.group else _EVENT
    return _BY_TABLE.get(kind.table, _METADATA)


@dataclass(frozen=True, slots=True)
class _Term:
    field: str
    is_equal: bool
    value: str
    read: Callable[[Mapping[str, Any]], Any]

    def matches(self, obj: Mapping[str, Any]) -> bool:
        found = self.read(obj)
        if isinstance(found, bool):
            found = "true" if found else "false"
        elif isinstance(found, list):
            found = ",".join(str(each) for each in found)
        return (("" if found is None else str(found)) == self.value) is self.is_equal


class FieldSelector:
    """All terms of a field selector. `is_simple`: only name and namespace are looked at, so that nothing need be decoded."""

    def __init__(self, terms: list[_Term]) -> None:
        self._terms = terms
        exact = {term.field: term.value for term in terms if term.is_equal}
        self.name: str | None = exact.get("metadata.name")
        self.namespace: str | None = exact.get("metadata.namespace")
        self.is_simple = all(term.field in _METADATA for term in terms)

    def matches(self, obj: Mapping[str, Any]) -> bool:
        """`obj` is the stored object (for events: in the core version)."""
        return all(term.matches(obj) for term in self._terms)


def parse_fields(text: str, kind: Kind) -> FieldSelector:
    """Raises ApiError 400 for what cannot be read and for fields the kind cannot be selected by."""
    selectable = _selectable(kind)
    terms = []
    for part in re.findall(r"(?:\\.|[^,\\])+", text):
        found = re.match(r"(?P<field>.*?)(?P<operator>!=|==|=)(?P<value>.*)", part, re.DOTALL)
        if found is None:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{part}'")
        field, value = found["field"].strip(), re.sub(r"\\([\\,=])", r"\1", found["value"].strip())
        read = selectable.get(field)
        if read is None:
            raise bad_request(_unsupported(kind, field))
        terms.append(_Term(field, found["operator"] != "!=", value, read))
    return FieldSelector(terms)


def _unsupported(kind: Kind, field: str) -> str:
    if kind.is_custom or kind.table in _BY_TABLE or kind.table == "events":
        return f"field label not supported: {field}"
    return f'"{field}" is not a known field selector: only "metadata.name", "metadata.namespace"'
