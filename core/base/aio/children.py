"""Ending child processes."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any


async def kill(process: asyncio.subprocess.Process) -> None:
    """Kill a child and wait for its end, not for that of what it started: `Process.wait` alone returns when nobody holds its pipes any
    more and all that was said has been read."""
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    transport: Any = getattr(process, "_transport", None)
    if transport is not None:
        transport.close()
    await process.wait()
