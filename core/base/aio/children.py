"""Child processes that somebody waits for: they end, whatever becomes of who waits."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any


async def start(*words: str | Path, **options: Any) -> asyncio.subprocess.Process:
    """`asyncio.create_subprocess_exec`; a child that began while the caller was cancelled is killed. Raises OSError."""
    starting = asyncio.ensure_future(asyncio.create_subprocess_exec(*words, **options))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        with contextlib.suppress(OSError):
            await kill(await starting)
        raise


async def hear(process: asyncio.subprocess.Process, given: bytes | None = None, *, seconds: float | None = None) -> tuple[bytes, bytes]:
    """What a child that is `given` this input says until its end. It is killed when that takes longer than `seconds`, which raises
    TimeoutError, and when the caller is cancelled."""
    talking = asyncio.ensure_future(_talk(process, given))
    try:
        done, _ = await asyncio.wait((talking,), timeout=seconds)
        if not done:
            raise TimeoutError
        return talking.result()
    finally:
        if not talking.done():
            await kill(process)
        talking.cancel()
        await asyncio.gather(talking, return_exceptions=True)


async def _talk(process: asyncio.subprocess.Process, given: bytes | None) -> tuple[bytes, bytes]:
    if given is not None and process.stdin is not None:
        if not process.stdin.is_closing():  # it may have ended without reading: uvloop then refuses what asyncio passes over
            process.stdin.write(given)
        process.stdin.close()
    return await process.communicate()


async def kill(process: asyncio.subprocess.Process) -> None:
    """Kill a child and wait for its end, not for that of what it started: `Process.wait` alone returns when nobody holds its pipes any
    more and all that was said has been read."""
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    transport: Any = getattr(process, "_transport", None)
    if transport is not None:
        transport.close()
    await process.wait()
