"""Defaults and validation of built-in kinds (interim: none)."""

from __future__ import annotations

from typing import Any

from pinnace.cloud.standalone.kinds import Kind
from pinnace.cloud.standalone.status import Cause


def apply(kind: Kind, obj: dict[str, Any], old: dict[str, Any] | None = None) -> None:
    return


def validate(kind: Kind, obj: dict[str, Any], old: dict[str, Any] | None = None) -> list[Cause]:
    return []


def unknown_fields(kind: Kind, obj: dict[str, Any]) -> list[str]:
    return []
