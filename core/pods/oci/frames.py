"""Frames between the agent and its shims: one byte of kind, three of nothing, four of length (big endian), then the body."""

from __future__ import annotations

import asyncio
from typing import Final

HEAD: Final = 8
MOST: Final = 16384
"""Bytes of a body."""


def frame(kind: bytes, body: bytes = b"") -> bytes:
    return kind + b"\0\0\0" + len(body).to_bytes(4, "big") + body


async def read_frame(reader: asyncio.StreamReader, most: int = 1 << 20) -> tuple[bytes, bytes] | None:
    """The next frame's kind and body; None at the end. Raises ValueError for what is no frame."""
    try:
        head = await reader.readexactly(HEAD)
        size = int.from_bytes(head[4:], "big")
        if size > most:
            raise ValueError(f"a frame of {size} bytes, more than {most}")
        return head[:1], await reader.readexactly(size)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
