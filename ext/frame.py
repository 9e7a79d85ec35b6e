"""The packed frame: a ten-byte header and a protobuf message, several of them back to back (docs/protocol.md, packed frames)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pinnace.ext import _build

if TYPE_CHECKING or _build.PURE:
    from pinnace.ext.frame_py import HEADER_BYTES, MAX_PAYLOAD, FrameReader, pack
else:
    from pinnace.ext.frame_c import HEADER_BYTES, MAX_PAYLOAD, FrameReader, pack

__all__ = ["HEADER_BYTES", "MAX_PAYLOAD", "FrameReader", "pack"]
