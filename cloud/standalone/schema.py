"""Structural schemas (interim: accepts everything)."""

from __future__ import annotations

from typing import Any

from pinnace.cloud.standalone.status import Cause


class Schema:
    def prune(self, obj: dict[str, Any]) -> list[str]:
        return []

    def default(self, obj: dict[str, Any]) -> None:
        return

    def validate(self, obj: dict[str, Any], old: dict[str, Any] | None = None) -> list[Cause]:
        return []


def compile(version: dict[str, Any]) -> Schema:
    return Schema()


def check_definition(crd: dict[str, Any], old: dict[str, Any] | None = None) -> list[Cause]:
    return []


def default_definition(crd: dict[str, Any]) -> None:
    names = crd["spec"]["names"]
    names.setdefault("singular", names["kind"].lower())
    names.setdefault("listKind", names["kind"] + "List")
    crd["spec"].setdefault("conversion", {"strategy": "None"})
