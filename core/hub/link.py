"""One connection to the cloud: pumps between its WebSocket, its session and the outbox. Lives as long as its socket."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from websockets.exceptions import ConnectionClosed

from pinnace.core.base.aio.clock import Clock
from pinnace.core.base.ports import Departures
from pinnace.core.base.wire.events import Received, Violation
from pinnace.core.base.wire.session import Limits, Role, Session
from pinnace.core.base.wire.socket import Socket, short_reason
from pinnace.core.hub.bootstrap import reason_of
from pinnace.ext.records import Envelope

logger = logging.getLogger(__name__)

_SHARE: Final = 32
"""Departures that may wait inside the session: few, so that the outbox composes late and something urgent waits for little."""
_LOAD_BYTES: Final = 256 << 10
"""And about how much of them is taken at once."""
_CLOSE_SECONDS: Final = 4.0


class Link:
    """`run` until the connection ends, then `close`. `arrived` is called with each message in order; it may wait, which slows the cloud.

    A departure that no answer confirms is forgotten when the cloud's pong shows that it has read what was written before the ping:
    what is still in a buffer when the link breaks goes out again on the next one.
    """

    def __init__(
        self,
        socket: Socket,
        *,
        wire: int,
        clock: Clock,
        limits: Limits,
        write_timeout: float,
        departures: Departures,
        arrived: Callable[[Envelope], Awaitable[None]],
    ) -> None:
        self.wire = wire
        self._socket = socket
        self._clock = clock
        self._write_timeout = write_timeout
        self._departures = departures
        self._arrived = arrived
        self._session = Session(Role.EDGE, now=clock.now(), wire=wire, limits=limits)
        self._wake = asyncio.Event()
        self._over: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._tasks: list[asyncio.Task[None]] = []
        self._written: list[str] = []
        self._receipt: asyncio.Task[None] | None = None
        self._timer: asyncio.Task[None] | None = None
        self._timer_at = 0.0

    @property
    def waiting(self) -> int:
        """Messages that the session has not written yet."""
        return self._session.waiting

    def send(self, envelope: Envelope) -> None:
        """Queue an envelope. Raises OverflowError when too much waits, ValueError when it can never be sent."""
        self._session.send(envelope)
        self._wake.set()

    def wake(self) -> None:
        """Something became due in the outbox."""
        self._wake.set()

    def finish(self, reason: str) -> None:
        """End the connection; the first reason counts."""
        if not self._over.done():
            self._over.set_result(reason)

    async def run(self) -> str:
        """Serve until the connection ends, and say why it did. Then `close`."""
        self._tasks = [asyncio.create_task(self._guarded(self._read())), asyncio.create_task(self._guarded(self._write()))]
        return await self._over

    async def close(self) -> None:
        """Close the socket and take in what had arrived: the cloud may have learnt by a pong that we have it."""
        reason = self._over.result() if self._over.done() and not self._over.cancelled() else "the edge is going away"
        reader, *others = [*self._tasks, *(task for task in (self._timer, self._receipt) if task is not None)]
        for task in others:
            task.cancel()
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._socket.close(1000, short_reason(reason))
                await asyncio.wait([reader])
        except (TimeoutError, OSError, ConnectionClosed):
            logger.debug("hub.link.rest_dropped")
        finally:
            reader.cancel()
            await asyncio.gather(reader, *others, return_exceptions=True)
            self._departures.recall()

    async def _guarded(self, work: Awaitable[None]) -> None:
        try:
            await work
        except ConnectionClosed as closed:
            if closed.rcvd is not None:
                self.finish(f"the cloud closed it: {closed.rcvd.reason or closed.rcvd.code}")
            elif closed.sent is not None:
                self.finish(f"the cloud broke the protocol: {closed.sent.reason or closed.sent.code}")
            else:
                self.finish("the connection was lost")
        except TimeoutError:
            self.finish(f"the cloud reads nothing for {self._write_timeout:g} s")
        except OSError as error:
            self.finish(f"the connection was lost: {reason_of(error)}")
        except Exception:  # one connection's fault ends that connection only
            logger.exception("hub.link.failed")
            self.finish("an internal error")

    async def _read(self) -> None:
        while True:
            message = await self._socket.recv()
            for event in self._session.receive(message, self._clock.now()):
                if isinstance(event, Received):
                    await self._arrived(event.envelope)
                elif isinstance(event, Violation):
                    logger.warning("hub.link.violation reason=%s", event.reason)
                    self.finish(f"the cloud broke the protocol: {event.reason}")
            self._wake.set()  # the session itself answers some messages

    async def _write(self) -> None:
        session = self._session
        while True:
            self._wake.clear()
            now = self._clock.now()
            due = session.next_timer()
            if due is not None and due <= now:
                session.handle_timer(now)
            again = self._load(now)
            messages = session.data_to_send(now)
            for message in messages:
                async with asyncio.timeout(self._write_timeout):
                    await self._socket.send(message)
            self._note_written()
            if not messages:
                self._arm([at for at in (session.next_timer(), again) if at is not None], now)
                await self._wake.wait()

    def _load(self, now: float) -> float | None:
        """Give the session what the outbox has due; returns when to look again."""
        again = self._departures.expire(now)
        size = 0
        while self._session.waiting < _SHARE and size < _LOAD_BYTES and (departure := self._departures.next(now)) is not None:
            envelope = departure.envelope
            size += len(envelope.body)
            try:
                self._session.send(envelope, token=None if departure.confirmed else envelope.msg_id)
            except ValueError as error:
                logger.warning("hub.departure.impossible resource=%s error=%s: dropped", envelope.resource, error)
                self._departures.confirm(envelope.msg_id)
            except OverflowError as error:
                logger.debug("hub.departure.later resource=%s error=%s", envelope.resource, error)
                break
        return again

    def _note_written(self) -> None:
        self._written += [token for token in self._session.take_written() if isinstance(token, str)]
        if self._written and (self._receipt is None or self._receipt.done()):
            self._receipt = asyncio.create_task(self._guarded(self._await_receipt()))

    async def _await_receipt(self) -> None:
        while self._written:
            written, self._written = self._written, []
            await (await self._socket.ping())
            for msg_id in written:
                self._departures.confirm(msg_id)

    def _arm(self, dues: list[float], now: float) -> None:
        """Wake the writer at the first of `dues`. An earlier alarm is left alone: it does no harm."""
        due = min(dues, default=None)
        if due is None or (self._timer is not None and not self._timer.done() and self._timer_at <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due
        self._timer = asyncio.create_task(self._alarm(max(due - now, 0.0)))

    async def _alarm(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._timer = None
        self._wake.set()
