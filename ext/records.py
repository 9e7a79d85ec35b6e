"""Records that the hot paths take and return. The compiled hot paths take the compiled ones only and read their fields as C does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pinnace.ext import _build

if TYPE_CHECKING or _build.PURE:
    from pinnace.ext.records_py import Envelope, Outcome, empty_envelope, new_outcome
else:
    from pinnace.ext.records_c import Envelope, Outcome, empty_envelope, new_outcome

__all__ = ["Envelope", "Outcome", "empty_envelope", "new_outcome"]
