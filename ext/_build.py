"""Which build of the hot paths this process uses."""

from __future__ import annotations

import os

PURE: bool = os.environ.get("PINNACE_PURE", "") == "1"
"""True when the environment asks for the reference (pure Python) build."""
