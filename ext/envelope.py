"""The text envelope: header and route decoded, the content left as the bytes it came in (docs/protocol.md, envelopes)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pinnace.ext import _build

if TYPE_CHECKING or _build.PURE:
    from pinnace.ext.envelope_py import MAX_DEPTH, decode, encode
else:
    from pinnace.ext.envelope_c import MAX_DEPTH, decode, encode

__all__ = ["MAX_DEPTH", "decode", "encode"]
