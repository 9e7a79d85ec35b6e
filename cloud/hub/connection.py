"""One node's connection: pumps between its WebSocket and its session, and hands what comes in to the hub's lanes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, assert_never

from websockets.exceptions import ConnectionClosed

from pinnace.cloud.hub.downlinks import Downlinks, Push
from pinnace.cloud.hub.outbox import Outbox
from pinnace.cloud.ports import Downlink, NodeIdentity
from pinnace.core.base.aio.clock import Clock
from pinnace.core.base.aio.lanes import Lane
from pinnace.core.base.contract.classes import Priority
from pinnace.core.base.errors import PinnaceError
from pinnace.core.base.wire.events import Event, Expired, GaveUp, Received, Stored, Violation
from pinnace.core.base.wire.priority import priority_of
from pinnace.core.base.wire.session import Limits, Role, Session
from pinnace.core.base.wire.socket import Socket, short_reason
from pinnace.ext.records import Envelope

logger = logging.getLogger(__name__)

_PEER_FAULTS: Final = frozenset({1002, 1007, 1009})
"""WebSocket close codes with which our side answers a peer that broke the protocol (RFC 6455, 7.4.1)."""
_CLOSE_SECONDS: Final = 5.0
_REST_SECONDS: Final = 10.0
"""For what had arrived when a connection ended."""


class Connection:
    """Lives as long as its socket. `answer` is called with each message of the node and returns what to send back; `stored` when a push
    was acknowledged. Both are called in order, lease and node status beside the others, and never hold up keepalives or pushes."""

    def __init__(
        self,
        identity: NodeIdentity,
        socket: Socket,
        peer: str,
        *,
        clock: Clock,
        limits: Limits,
        write_timeout: float,
        answer: Callable[[Envelope], Awaitable[list[Envelope]]],
        stored: Callable[[Downlink], Awaitable[None]],
        outbox: Outbox | None = None,
        former: Connection | None = None,
    ) -> None:
        """`former` is the node's connection before this one: what arrived there is handled first."""
        self.identity = identity
        self.peer = peer
        self._socket = socket
        self._clock = clock
        self._write_timeout = write_timeout
        self._answer = answer
        self._on_stored = stored
        self._outbox = outbox
        self._former = former
        self._finished = asyncio.Event()
        self._session = Session(Role.CLOUD, now=clock.now(), wire=identity.wire, limits=limits)
        self._downlinks = Downlinks(identity.node)
        self._liveness = Lane(self._work)
        self._others = Lane(self._work)
        self._confirmed = Lane(self._tell_stored)
        self._wake = asyncio.Event()
        self._spooled = asyncio.Event()
        self._written: set[int] = set()
        self._was_written = asyncio.Event()
        self._stalled = False
        self._over: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        self._timer: asyncio.Task[None] | None = None
        self._timer_at = 0.0

    def push(self, message: Downlink) -> None:
        """Queue a push; never waits."""
        self._downlinks.add(message)
        self._wake.set()

    def look_into_outbox(self) -> None:
        """Something was stored for this node."""
        self._spooled.set()

    def finish(self, code: int, reason: str, *, level: int = logging.INFO) -> None:
        """End the connection; the first reason counts and is logged."""
        if not self._over.done():
            self._over.set_result((code, reason))
            logger.log(level, "hub.session.ended node=%s peer=%s reason=%s", self.identity.node, self.peer, reason)

    async def run(self) -> None:
        """Serve until the connection ends for whatever reason; then the socket is closed, and what had arrived is still handled: the
        node may have learnt by a pong that we have it."""
        reader = asyncio.create_task(self._guarded(self._read()))
        worker = asyncio.create_task(self._guarded(self._work_lanes()))
        writers = [asyncio.create_task(self._guarded(self._write()))]
        if self._outbox is not None:
            writers.append(asyncio.create_task(self._guarded(self._drain(self._outbox))))
        code, reason = 1001, "cloudcore is going away"
        try:
            code, reason = await self._over
        finally:
            for task in [*writers, *([self._timer] if self._timer else [])]:
                task.cancel()
            try:
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await self._socket.close(code, short_reason(reason))
                async with asyncio.timeout(_REST_SECONDS):
                    await asyncio.wait([reader])
                    for lane in (self._liveness, self._others, self._confirmed):
                        await lane.idle()
            except (TimeoutError, OSError, ConnectionClosed):
                logger.debug("hub.session.rest_dropped node=%s", self.identity.node)
            finally:
                for task in (reader, worker):
                    task.cancel()
                await asyncio.gather(reader, worker, *writers, return_exceptions=True)
                self._former = None
                self._finished.set()

    async def _work_lanes(self) -> None:
        if self._former is not None:
            await self._former._finished.wait()
            self._former = None
        async with asyncio.TaskGroup() as group:
            for lane in (self._liveness, self._others, self._confirmed):
                group.create_task(lane.run())

    async def _guarded(self, work: Awaitable[None]) -> None:
        try:
            await work
        except ConnectionClosed as closed:
            if closed.sent is not None and closed.sent.code in _PEER_FAULTS and not closed.rcvd_then_sent:
                reason = f"protocol violation: {closed.sent.reason or closed.sent.code}"
                self.finish(closed.sent.code, reason, level=logging.WARNING)
            elif closed.rcvd is not None:
                self.finish(1000, f"the node closed it ({closed.rcvd.code} {closed.rcvd.reason})".rstrip())
            else:
                self.finish(1000, "the connection was lost")
        except TimeoutError:
            self.finish(1001, f"the node reads nothing for {self._write_timeout:g} s", level=logging.WARNING)
        except OSError as error:
            self.finish(1000, f"the connection was lost: {error}")
        except Exception:  # one connection's fault ends that connection only
            logger.exception("hub.session.failed node=%s", self.identity.node)
            self.finish(1011, "internal error", level=logging.ERROR)

    async def _read(self) -> None:
        while True:
            message = await self._socket.recv()
            for event in self._session.receive(message, self._clock.now()):
                await self._take(event)
            self._wake.set()

    async def _take(self, event: Event) -> None:
        match event:
            case Received(envelope):
                lane = self._liveness if priority_of(envelope) is Priority.LEASE else self._others
                await self._put(lane, envelope, len(envelope.body))
            case Stored(token):
                assert isinstance(token, Push)
                self._downlinks.stored(token)
                await self._put(self._confirmed, token.message, 0)
            case GaveUp(token):
                assert isinstance(token, Push)
                self._downlinks.gave_up(token)
            case Expired(reason):
                self.finish(1001, reason, level=logging.WARNING)
            case Violation(reason):
                self.finish(1002, f"protocol violation: {reason}", level=logging.WARNING)
            case _:
                assert_never(event)

    async def _put(self, lane: Lane[Envelope] | Lane[Downlink], item: Envelope | Downlink, size: int) -> None:
        """A full lane stops the reading of this connection, so that the node is slowed and nothing is lost."""
        self._stalled = lane.is_full
        if self._stalled:
            self._wake.set()
        await lane.put(item, size)  # type: ignore[arg-type]
        if self._stalled:
            self._stalled = False
            self._session.heard(self._clock.now())

    async def _write(self) -> None:
        session = self._session
        while True:
            self._wake.clear()
            now = self._clock.now()
            due = session.next_timer()
            if due is not None and due <= now:
                if self._stalled:
                    session.heard(now)
                for event in session.handle_timer(now):
                    await self._take(event)
            self._downlinks.fill(session)
            messages = session.data_to_send(now)
            for message in messages:
                async with asyncio.timeout(self._write_timeout):
                    await self._socket.send(message)
            if not messages:
                self._arm(session.next_timer(), now)
                await self._wake.wait()
                continue
            self._written.update(number for number in session.take_written() if isinstance(number, int))
            self._was_written.set()

    def _arm(self, due: float | None, now: float) -> None:
        """Wake the writer at `due`. An earlier alarm is left alone: it does no harm."""
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

    async def _work(self, envelope: Envelope) -> None:
        for answer in await self._answer(envelope):
            try:
                self._session.send(answer)
            except ValueError as error:
                logger.warning("hub.answer.impossible node=%s resource=%s error=%s", self.identity.node, answer.resource, error)
            except OverflowError as error:
                self.finish(1001, f"the node does not read: {error}", level=logging.WARNING)
        self._wake.set()

    async def _tell_stored(self, message: Downlink) -> None:
        await self._on_stored(message)

    async def _drain(self, outbox: Outbox) -> None:
        """Send what the outbox holds for this node, and forget it there once it is written."""
        after = 0
        while True:
            self._spooled.clear()
            try:
                rows = await outbox.pending(self.identity.node, after=after)
                if rows:
                    after = rows[-1][0]
                    await self._until_written({number for number, envelope in rows if await self._was_queued(number, envelope)})
                    await (await self._socket.ping())  # the pong shows that the node has read them
                    await outbox.forget([number for number, _ in rows])
                    continue
            except PinnaceError as error:
                logger.warning("hub.outbox.not_drained node=%s error=%s", self.identity.node, error)
            await self._spooled.wait()

    async def _was_queued(self, number: int, envelope: Envelope) -> bool:
        """Give the session a message of the outbox, when it has room; False for one that can never be sent."""
        while True:
            try:
                self._session.send(envelope, token=number)
            except OverflowError:
                self._was_written.clear()
                self._wake.set()
                await self._was_written.wait()
            except ValueError as error:
                logger.warning("hub.outbox.impossible node=%s number=%d error=%s: dropped", self.identity.node, number, error)
                return False
            else:
                return True

    async def _until_written(self, numbers: set[int]) -> None:
        self._wake.set()
        while not numbers <= self._written:
            self._was_written.clear()
            await self._was_written.wait()
        self._written -= numbers
