"""Table columns (interim: name and age)."""

from __future__ import annotations

from typing import Any

from pinnace.cloud.standalone.kinds import Kind


def columns(kind: Kind) -> list[dict[str, Any]]:
    return [
        {"name": "Name", "type": "string", "format": "name", "description": "", "priority": 0},
        {"name": "Age", "type": "string", "format": "", "description": "", "priority": 0},
    ]


def cells(kind: Kind, obj: dict[str, Any], now: float) -> list[Any]:
    return [obj["metadata"]["name"], "0s"]
