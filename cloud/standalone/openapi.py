"""OpenAPI documents (interim: the empty v2 document, no v3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pinnace.cloud.standalone.kinds import Kind
from pinnace.cloud.standalone.status import PlainError


def v2(kinds: Sequence[Kind]) -> bytes:
    return b""


def v3_index(kinds: Sequence[Kind]) -> dict[str, Any]:
    raise PlainError


def v3(kinds: Sequence[Kind], group_version: str) -> dict[str, Any]:
    raise PlainError
