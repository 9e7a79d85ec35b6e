"""Label and field selectors (interim: equality only)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pinnace.cloud.standalone.kinds import Kind
from pinnace.cloud.standalone.status import bad_request


class LabelSelector:
    def __init__(self, terms: list[tuple[str, str, str]]) -> None:
        self._terms = terms

    def matches(self, labels: Mapping[str, str]) -> bool:
        for key, operator, value in self._terms:
            if operator == "exists" and key not in labels:
                return False
            if operator == "=" and labels.get(key) != value:
                return False
            if operator == "!=" and labels.get(key) == value:
                return False
        return True


class FieldSelector:
    def __init__(self, terms: list[tuple[str, str, str]]) -> None:
        self._terms = terms
        exact = {key: value for key, operator, value in terms if operator == "="}
        self.name: str | None = exact.get("metadata.name")
        self.namespace: str | None = exact.get("metadata.namespace")
        self.is_simple = all(key in {"metadata.name", "metadata.namespace"} for key, _, _ in terms)

    def matches(self, obj: Mapping[str, Any]) -> bool:
        for path, operator, value in self._terms:
            found: Any = obj
            for part in path.split("."):
                found = found.get(part) if isinstance(found, dict) else None
            text = "" if found is None else str(found).lower() if isinstance(found, bool) else str(found)
            if (text == value) is (operator == "!="):
                return False
        return True


def _terms(text: str) -> list[tuple[str, str, str]]:
    terms = []
    for part in filter(None, text.split(",")):
        if "!=" in part:
            key, _, value = part.partition("!=")
            terms.append((key.strip(), "!=", value.strip()))
        elif "=" in part:
            key, _, value = part.partition("=")
            terms.append((key.strip(), "=", value.lstrip("=").strip()))
        else:
            terms.append((part.strip(), "exists", ""))
    return terms


def parse_labels(text: str) -> LabelSelector:
    if "(" in text:
        raise bad_request(f"unable to parse requirement: {text}")
    return LabelSelector(_terms(text))


def parse_fields(text: str, kind: Kind) -> FieldSelector:
    return FieldSelector(_terms(text))
