"""A TCP relay on loopback that can be cut and mended: the cable between an edge and its cloud."""

from __future__ import annotations

import asyncio
import contextlib

from pinnace.cloud.local.ports import LOOPBACK

CHUNK = 64 << 10


class Relay:
    """Forwards `port` to `target`. Cut, it resets what is open and refuses what comes."""

    def __init__(self, port: int, target: int) -> None:
        self.port = port
        self._target = target
        self._server: asyncio.Server | None = None
        self._lines: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._changed = asyncio.Condition()

    @property
    def lines(self) -> int:
        """Connections that are open now."""
        return len(self._lines)

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._accept, LOOPBACK, self.port)

    async def cut(self) -> int:
        """End everything; returns how many connections were open."""
        if self._server is not None:
            self._server.close()
            self._server = None
        tasks = list(self._lines)
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return len(tasks)

    async def used(self) -> None:
        """Return when a connection is open."""
        async with self._changed:
            await self._changed.wait_for(lambda: bool(self._lines))

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._lines[task] = writer
        async with self._changed:
            self._changed.notify_all()
        try:
            await self._join(reader, writer)
        except (asyncio.CancelledError, OSError):
            pass  # both ends are reset below, whatever the reason
        finally:
            self._lines.pop(task, None)
            writer.transport.abort()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(LOOPBACK, self._target)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_copy(reader, there_writer))
                group.create_task(_copy(there_reader, writer))
        except* OSError:
            pass
        finally:
            there_writer.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()
