"""Many channels over one WebSocket, both ends of it. Two of ours pace each channel by credit, so that a slow reader slows its own writer.

Of a peer that knows no credit (KubeEdge's) each channel may have `UNPACED` bytes waiting; a reader that stays behind holds up the whole
tunnel for `PATIENCE` seconds and is then cut off: its channel ends, the others go on.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from websockets.exceptions import ConnectionClosed

from pinnace.core.base.tunnel import frames
from pinnace.core.base.tunnel.duplex import CHUNK
from pinnace.core.base.tunnel.frames import Opening

logger = logging.getLogger(__name__)

WINDOW: Final = 256 << 10
"""Bytes a channel may have on the way between two of ours, each direction."""
UNPACED: Final = 1 << 20
PATIENCE: Final = 10.0
CHANNELS: Final = 1024
"""Open channels of one tunnel over which further ones are refused."""
OUTBOX: Final = 4 * CHANNELS
"""Short answers (REMOVE, CREDIT) that may wait to be sent."""


class Socket(Protocol):
    """What is needed of a WebSocket; `websockets` has it. Messages are text by their opcode and bytes by their content."""

    async def send(self, message: bytes, text: bool | None = None) -> None: ...

    async def recv(self, decode: bool | None = None) -> bytes: ...


class Channel:
    """One byte stream; a `Duplex`."""

    def __init__(self, tunnel: Tunnel, number: int) -> None:
        self.number = number
        self._tunnel = tunnel
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._consumed = 0
        self._room = WINDOW
        self._changed = asyncio.Event()
        self._writing = asyncio.Lock()
        self.has_ended = False
        """The other end, or the tunnel, is gone."""
        self.is_closed = False
        """We have said that it is over."""

    async def read(self) -> bytes:
        while not self._waiting:
            if self.has_ended or self.is_closed:
                return b""
            await self._change()
        data = self._waiting.popleft()
        self._size -= len(data)
        self._consumed += len(data)
        if self._tunnel.is_paced and self._consumed >= WINDOW // 2 and not self.has_ended:
            self._tunnel.post(frames.encode(self.number, frames.CREDIT, frames.uvarint(self._consumed)))
            self._consumed = 0
        self._changed.set()
        return data

    async def write(self, data: bytes) -> None:
        async with self._writing:  # what several write at once, each a frame of the protocol above, stays whole
            await self._write(data)

    async def _write(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            if self.has_ended or self.is_closed:
                raise ConnectionResetError("the channel is closed")
            if self._tunnel.is_paced and self._room <= 0:
                await self._change()
                continue
            size = min(CHUNK, self._room) if self._tunnel.is_paced else CHUNK
            part = data[at : at + size]
            self._room -= len(part)
            at += len(part)
            await self._tunnel.send(frames.encode(self.number, frames.DATA, part))

    async def close(self) -> None:
        self._tunnel.end(self)

    async def feed(self, data: bytes) -> None:
        """What arrived. Waits or ends the channel when too much of it lies here unread."""
        if self.is_closed or not data:
            return
        if self._tunnel.is_paced:
            if self._size + len(data) > WINDOW:
                logger.warning("tunnel.channel.cut channel=%d: the other end sent more than it had credit for", self.number)
                self._tunnel.end(self)
                return
        elif self._size and self._size + len(data) > UNPACED and not await self._drained():
            logger.warning("tunnel.channel.cut channel=%d: its reader did not read for %g s", self.number, PATIENCE)
            self._tunnel.end(self)
            return
        self._waiting.append(data)
        self._size += len(data)
        self._changed.set()

    def credit(self, size: int) -> None:
        self._room = min(self._room + size, WINDOW)
        self._changed.set()

    def ended(self) -> None:
        self.has_ended = True
        self._changed.set()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def _drained(self) -> bool:
        try:
            async with asyncio.timeout(PATIENCE):
                while self._size > UNPACED // 2 and not self.is_closed:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return not self.is_closed


Accept = Callable[[Channel, int, Opening], Awaitable[None]]
"""Serves a channel that the other end opened: the channel, LOGS, EXEC, METRICS or ATTACH, and the request. Its end ends the channel."""


class Tunnel:
    """`run` reads until the connection ends. `accept` None refuses channels (the cloud opens them, the edge serves them)."""

    def __init__(self, socket: Socket, *, is_paced: bool, accept: Accept | None = None) -> None:
        self.is_paced = is_paced
        self._socket = socket
        self._accept = accept
        self._channels: dict[int, Channel] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._outbox: deque[bytes] = deque()  # at most OUTBOX: the tunnel ends of a peer that makes us answer and reads nothing
        self._posted = asyncio.Event()
        self._is_over = False

    def __len__(self) -> int:
        return len(self._channels)

    async def open(self, number: int, kind: int, opening: Opening) -> Channel:
        """A new channel. Raises ConnectionError when the tunnel is over or has no room for one."""
        if self._is_over:
            raise ConnectionResetError("the tunnel to the node is closed")
        if len(self._channels) >= CHANNELS:
            raise ConnectionRefusedError(f"{CHANNELS} channels to the node are open already")
        channel = self._channels[number] = Channel(self, number)
        await self.send(frames.encode_opening(number, kind, opening))
        return channel

    async def run(self) -> str:
        """Serve until the connection ends, and say why it did; every channel has ended then."""
        posting = asyncio.create_task(self._post())
        try:
            return await self._read()
        except ConnectionClosed as closed:
            received = closed.rcvd
            return f"closed by the other end: {received.reason or received.code}" if received is not None else "the connection was lost"
        finally:
            self._is_over = True
            for channel in self._channels.values():
                channel.ended()
            self._channels.clear()
            tasks = [posting, *self._tasks]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def send(self, message: bytes) -> None:
        try:
            await self._socket.send(message, text=True)
        except ConnectionClosed as error:
            raise ConnectionResetError("the tunnel is closed") from error

    def post(self, message: bytes) -> None:
        """Send soon, without waiting."""
        self._outbox.append(message)
        self._posted.set()

    def end(self, channel: Channel) -> None:
        """Our side of a channel is over: say so once."""
        if channel.is_closed:
            return
        channel.is_closed = True
        channel.ended()
        self._channels.pop(channel.number, None)
        if not self._is_over:
            self.post(frames.encode(channel.number, frames.REMOVE))

    async def _post(self) -> None:
        while True:
            while self._outbox:
                await self.send(self._outbox.popleft())
            self._posted.clear()
            await self._posted.wait()

    async def _read(self) -> str:
        while True:
            message = await self._socket.recv(decode=False)
            if len(self._outbox) > OUTBOX:
                return f"the other end reads nothing: {len(self._outbox)} answers to it wait"
            try:
                frame = frames.decode(message)
                if frame.kind == frames.CLOSE:
                    return frame.data[:200].decode(errors="replace")
                await self._take(frame)
            except ValueError as error:
                logger.warning("tunnel.message.unreadable size=%d reason=%s: passed over", len(message), error)

    async def _take(self, frame: frames.Frame) -> None:
        channel = self._channels.get(frame.channel)
        if frame.kind in frames.OPENING:
            self._opened(frame)
        elif channel is None:
            logger.debug("tunnel.message.late channel=%d kind=%d", frame.channel, frame.kind)
        elif frame.kind == frames.DATA:
            await channel.feed(frame.data)
        elif frame.kind == frames.REMOVE:
            del self._channels[frame.channel]
            channel.ended()
            if self._accept is not None:
                self.end(channel)  # the edge confirms each end
        elif frame.kind == frames.CREDIT:
            channel.credit(frames.read_uvarint(frame.data, 0)[0])
        else:
            raise ValueError(f"unknown kind {frame.kind}")

    def _opened(self, frame: frames.Frame) -> None:
        opening = frames.decode_opening(frame.data)
        if self._accept is None or frame.channel in self._channels or len(self._channels) >= CHANNELS:
            logger.warning("tunnel.channel.refused channel=%d path=%s open=%d", frame.channel, opening.path, len(self._channels))
            if frame.channel not in self._channels:
                self.post(frames.encode(frame.channel, frames.REMOVE))
            return
        channel = self._channels[frame.channel] = Channel(self, frame.channel)
        task = asyncio.create_task(self._serve(self._accept, channel, frame.kind, opening))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, accept: Accept, channel: Channel, kind: int, opening: Opening) -> None:
        try:
            await accept(channel, kind, opening)
        except ConnectionError as error:
            logger.debug("tunnel.channel.lost channel=%d reason=%s", channel.number, error)
        except Exception:  # one request's fault concerns its channel only
            logger.exception("tunnel.channel.failed channel=%d path=%s", channel.number, opening.path)
        finally:
            self.end(channel)
