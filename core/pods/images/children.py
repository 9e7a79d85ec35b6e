"""Starts the child processes that fetch and import images, a few at a time, and reads what they say."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from pinnace.core.base import cli
from pinnace.core.base.aio.children import kill, start
from pinnace.core.base.aio.whole import whole
from pinnace.core.base.runtime import Progress, PullFailed
from pinnace.core.pods.images.index import StoredImage, image_from
from pinnace.core.pods.images.layout import Layout

logger = logging.getLogger(__name__)

MAX_CHILDREN: Final = 3
_LINE_LIMIT: Final = 8 << 20


class Children:
    """At most `MAX_CHILDREN` at a time; further work waits its turn."""

    def __init__(self) -> None:
        self._room = asyncio.Semaphore(MAX_CHILDREN)
        self.pids: set[int] = set()
        """Those that work now."""

    async def work(self, request: Mapping[str, Any], progress: Progress) -> list[StoredImage]:
        """The images that the request (see `child.py`) brought; cancelling kills the child. Raises PullFailed."""
        async with self._room:
            try:
                process = await start(
                    *cli.command_line("image-child"),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    limit=_LINE_LIMIT,
                )
            except OSError as error:
                raise PullFailed(f"the process that fetches images cannot be started: {error}") from None
            self.pids.add(process.pid)
            try:
                return await self._talk(process, request, progress)
            finally:
                self.pids.discard(process.pid)
                if process.returncode is None:
                    await kill(process)
                if process.returncode != 0:
                    await whole(asyncio.to_thread(Layout(Path(request["root"])).sweep, process.pid))

    async def _talk(self, process: asyncio.subprocess.Process, request: Mapping[str, Any], progress: Progress) -> list[StoredImage]:
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(ConnectionError):  # it tells why below, or by its exit code
            process.stdin.write(orjson.dumps(request) + b"\n")
            await process.stdin.drain()
        found: list[StoredImage] = []
        try:
            async for line in process.stdout:
                said = orjson.loads(line)
                if "progress" in said:
                    progress(*said["progress"])
                elif "image" in said:
                    found.append(image_from(said["image"]))
                elif "error" in said:
                    raise PullFailed(said["error"], reason=said["reason"], is_unreachable=said["is_unreachable"])
        except (ValueError, KeyError, TypeError) as error:
            raise PullFailed(f"the process that fetches images said what makes no sense: {error!r}") from None
        code = await process.wait()
        if code != 0:
            how = (
                f"was killed by signal {-code}; if memory ran out, pull fewer or smaller images" if code < 0 else f"ended with code {code}"
            )
            raise PullFailed(f"the process that fetches images {how}")
        return found
