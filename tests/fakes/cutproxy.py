"""A TCP proxy that cuts after so many bytes, stalls, delays and corrupts: the network of the fault runs, seeded.

async with CutProxy("127.0.0.1", port) as proxy:
    proxy.plan(Plan(cut_up=1000))          # for the next connection only; without a plan everything passes
    ... connect to 127.0.0.1:proxy.port
    await proxy.cut()                      # all connections, now
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from types import TracebackType

_CHUNK = 16 << 10


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens to one connection. Up is towards the server, down is towards the client; positions count bytes from its beginning."""

    cut_up: int | None = None
    """Cut both ways once so many bytes went up; none behind them arrives."""
    cut_down: int | None = None
    stall_up: int | None = None
    """From this position on nothing moves up any more, and the connection stays open."""
    stall_down: int | None = None
    delay: float = 0.0
    """Seconds that every chunk is held back, in each direction."""
    corrupt_up: int | None = None
    """The byte at this position is changed."""
    corrupt_down: int | None = None
    refuse: bool = False
    """Close at once."""
    reset: bool = True
    """Cut with a RST, as a machine that went away does; else in an orderly way."""


@dataclass(frozen=True, slots=True)
class _Way:
    """One direction of a connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    cut: int | None
    stall: int | None
    corrupt: int | None
    is_up: bool


class _Pair:
    """One client's connection and ours to the server. `over` is set once either side ended it."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter, plan: Plan) -> None:
        self.client = client
        self.server = server
        self.plan = plan
        self.is_cut = False
        self.over = asyncio.Event()
        self.left: dict[bool, int] = {}
        """Bytes until `cut_after` strikes, for up (True) and down."""
        self.held: set[bool] = set()

    def cut(self) -> None:
        self.is_cut = True
        self.over.set()
        for writer in (self.client, self.server):
            if self.plan.reset:
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            else:
                writer.close()


class CutProxy:
    """Listens on a free port of the loopback. `up` and `down` count the bytes that were passed on by all connections so far."""

    def __init__(self, host: str, port: int, *, seed: int = 0) -> None:
        self.target = (host, port)
        self.random = Random(seed)
        self.up = 0
        self.down = 0
        self.connections = 0
        self.cuts = 0
        self.is_refusing = False
        """While true every new connection is closed at once: the server is away."""
        self._plans: deque[Plan] = deque()
        self._always: Callable[[], Plan] = Plan
        self._pairs: set[_Pair] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None

    async def __aenter__(self) -> CutProxy:
        self._listener = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._listener is not None:
            self._listener.close()
        await self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def port(self) -> int:
        assert self._listener is not None, "use `async with`"
        return int(self._listener.sockets[0].getsockname()[1])

    @property
    def is_busy(self) -> bool:
        """Whether a connection is open."""
        return bool(self._pairs)

    def plan(self, *plans: Plan) -> None:
        """What happens to the next connections, one plan each."""
        self._plans.extend(plans)

    def plan_always(self, make: Callable[[], Plan]) -> None:
        """Where connections without a plan of their own get one."""
        self._always = make

    async def cut(self) -> None:
        """Cut what is open now."""
        for pair in list(self._pairs):
            self._cut(pair)
        await asyncio.sleep(0)

    def cut_after(self, count: int, *, up: bool) -> None:
        """Cut what is open now once `count` more bytes went that way."""
        for pair in self._pairs:
            pair.left[up] = count

    def hold(self, *, up: bool) -> None:
        """Let nothing more through that way on what is open now; the connections stay open."""
        for pair in self._pairs:
            pair.held.add(up)

    def _cut(self, pair: _Pair) -> None:
        if not pair.is_cut:
            self.cuts += 1
            pair.cut()

    def _accepted(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        """Whoever is accepted is closed, also when the proxy ends before it was served."""
        task = asyncio.create_task(self._serve(reader, client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: client.close())

    async def _serve(self, client_reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        self.connections += 1
        plan = self._plans.popleft() if self._plans else self._always()
        if plan.refuse or self.is_refusing:
            client.transport.abort()
            return
        try:
            server_reader, server = await asyncio.open_connection(*self.target)
        except OSError:
            client.transport.abort()
            return
        for writer in (client, server):
            writer.transport.set_write_buffer_limits(0)  # so that what is passed on has left before a cut
        pair = _Pair(client, server, plan)
        self._pairs.add(pair)
        try:
            await asyncio.gather(
                self._pump(pair, _Way(client_reader, server, plan.cut_up, plan.stall_up, plan.corrupt_up, is_up=True)),
                self._pump(pair, _Way(server_reader, client, plan.cut_down, plan.stall_down, plan.corrupt_down, is_up=False)),
            )
        finally:
            self._pairs.discard(pair)
            for writer in (client, server):
                writer.close()

    async def _pump(self, pair: _Pair, way: _Way) -> None:
        position = 0
        try:
            while data := await way.reader.read(_CHUNK):
                if pair.plan.delay:
                    await asyncio.sleep(pair.plan.delay)
                if way.is_up in pair.held:
                    await pair.over.wait()
                    break
                end = position + len(data)
                if way.corrupt is not None and position <= way.corrupt < end:
                    at = way.corrupt - position
                    data = data[:at] + bytes([data[at] ^ self.random.randrange(1, 256)]) + data[at + 1 :]
                if way.stall is not None and end > way.stall:
                    await self._pass(way, data[: max(way.stall - position, 0)])
                    await pair.over.wait()
                    break
                if way.cut is not None and end >= way.cut:
                    await self._pass(way, data[: way.cut - position])
                    self._cut(pair)
                    break
                left = pair.left.get(way.is_up)
                if left is not None and len(data) >= left:
                    await self._pass(way, data[:left])
                    self._cut(pair)
                    break
                if left is not None:
                    pair.left[way.is_up] = left - len(data)
                position = end
                await self._pass(way, data)
            pair.over.set()
            if not pair.is_cut:
                way.writer.write_eof()
        except OSError:  # a reset on one side is a reset on the other
            if not pair.is_cut:
                pair.cut()

    async def _pass(self, way: _Way, data: bytes) -> None:
        if way.is_up:
            self.up += len(data)
        else:
            self.down += len(data)
        way.writer.write(data)
        await way.writer.drain()
