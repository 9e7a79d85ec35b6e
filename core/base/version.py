"""The version of Pinnace: what it says of itself, what a node reports, and what pyproject.toml and the frozen build are named by."""

from __future__ import annotations

from typing import Final

VERSION: Final = "0.1.0"
