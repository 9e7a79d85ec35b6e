"""The edge's link to the cloud: joins, connects, serves, connects again, renews the certificate. The Uplink of the other services."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Final

from pinnace.core.base.aio.backoff import Backoff
from pinnace.core.base.aio.clock import Clock, LoopClock
from pinnace.core.base.aio.lanes import Lane
from pinnace.core.base.contract.envelopes import OK_BODY, Group, Operation, ack, body_text
from pinnace.core.base.contract.keys import NodeName
from pinnace.core.base.errors import ConfigError, LinkError, RefusedError, ReplyTimeout
from pinnace.core.base.observe.health import Health
from pinnace.core.base.ports import Departures, EnvelopeListener
from pinnace.core.base.wire.session import Limits
from pinnace.core.hub.certificates import Certificates
from pinnace.core.hub.dial import dial
from pinnace.core.hub.link import Link
from pinnace.core.hub.settings import EdgeHubSettings
from pinnace.ext.records import Envelope

logger = logging.getLogger(__name__)

CLOUD: Final = "cloud"
CERTIFICATE: Final = "certificate"
"""The facts stated to Health."""

_STEADY_SECONDS: Final = 5.0
"""A connection that lived so long was a good one: the next attempt after it comes soon."""
_LOOK_SECONDS: Final = 3600.0
"""How often at least the wall clock is compared with the certificate's life."""


class HubLink:
    """Implements base.ports.Uplink. `deliver` before `run`; `run` never returns and leaves no trouble with the cloud unhandled: it is
    stated as health fact `cloud` and tried again.

    Messages of one group are handled one after the other, groups beside each other. When a listener is 1,000 messages behind, reading
    stops until there is room, so a listener should not itself wait for a `request`.
    """

    def __init__(
        self,
        settings: EdgeHubSettings,
        node: NodeName,
        *,
        departures: Departures,
        health: Health,
        machine: str = "",
        clock: Clock | None = None,
    ) -> None:
        """`machine` is this machine's id, by which the cloud tells two machines of one name apart."""
        self._settings = settings
        self._node = node
        self._machine = machine
        self._departures = departures
        self._health = health
        self._clock = clock or LoopClock()
        self._certificates = Certificates(settings, node, machine=machine, clock=self._clock)
        self._limits = Limits(keepalive_interval=float(settings.heartbeat))
        self._lanes: dict[str, Lane[Envelope]] = {}
        self._unheard: set[str] = set()
        self._connected_listeners: list[Callable[[], Awaitable[None]]] = []
        self._lost_listeners: list[Callable[[], None]] = []
        self._requests: dict[str, asyncio.Future[Envelope]] = {}
        self._link: Link | None = None
        self._has_certificate = asyncio.Event()
        self._reconnect_at_once = False
        self._tasks: set[asyncio.Task[None]] = set()
        departures.on_waiting(self._wake)

    @property
    def connected(self) -> bool:
        return self._link is not None

    @property
    def peer_wire(self) -> int:
        return self._link.wire if self._link is not None else 0

    def usage(self) -> dict[str, int | bool]:
        """The connection's state, and what waits: to be written, to be handled, to be answered."""
        return {
            "connected": self.connected,
            "wire": self.peer_wire,
            "waiting": self._link.waiting if self._link is not None else 0,
            "unhandled": sum(map(len, self._lanes.values())),
            "unanswered": len(self._requests),
        }

    async def certificate(self) -> ssl.SSLContext:
        """TLS towards the cloud with the node's certificate, as soon as there is one. Raises RefusedError, LinkError, ConfigError."""
        await self._has_certificate.wait()
        return await self._certificates.context()

    def deliver(self, group: str, listener: EnvelopeListener) -> None:
        """Who gets the messages of a group that are no awaited answers; what it returns is sent back. One a group."""

        async def handle(envelope: Envelope) -> None:
            try:
                for answer in await listener(envelope) or ():
                    self.post(answer)
            except Exception:  # a listener's fault concerns this message only; without an answer the cloud sends it again
                logger.exception("hub.delivery.failed message=%r", envelope)

        self._lanes[group] = Lane(handle)

    def on_connected(self, listener: Callable[[], Awaitable[None]]) -> None:
        self._connected_listeners.append(listener)

    def on_lost(self, listener: Callable[[], None]) -> None:
        """Call `listener` (plain, must not block) after each connection's end."""
        self._lost_listeners.append(listener)

    async def request(self, envelope: Envelope, *, timeout_seconds: float = 60.0) -> Envelope:
        """Send and wait for the message whose parent is this one; operation `error` is an answer too. Raises LinkError when not
        connected or when the link breaks meanwhile, ReplyTimeout when no answer comes.

        KubeEdge's cloud wants an answer that carries an object acknowledged: whoever asked does so (`post(ack(answer))`) once it is
        stored.
        """
        link = self._link
        if link is None:
            raise LinkError("not connected to the cloud")
        answer: asyncio.Future[Envelope] = asyncio.get_running_loop().create_future()
        timer = asyncio.ensure_future(self._clock.sleep(timeout_seconds))
        self._requests[envelope.msg_id] = answer
        try:
            try:
                link.send(envelope)
            except (OverflowError, ValueError) as error:
                raise LinkError(f"not sent: {error}") from error
            waits: list[asyncio.Future[Any]] = [answer, timer]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise ReplyTimeout(f"no answer to {envelope.operation} {envelope.resource} within {timeout_seconds:g} s")
            return answer.result()
        finally:
            timer.cancel()
            del self._requests[envelope.msg_id]

    def post(self, envelope: Envelope) -> None:
        if self._link is None:
            return
        try:
            self._link.send(envelope)
        except (OverflowError, ValueError) as error:
            logger.warning("hub.post.failed message=%r error=%s", envelope, error)

    async def run(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as group:
            for name, lane in self._lanes.items():
                group.create_task(lane.run(), name=f"hub {name}")
            group.create_task(self._keep_certificate(), name="hub certificate")
            group.create_task(self._keep_connected(), name="hub connection")

    async def _keep_connected(self) -> None:
        """Attempts follow each other within 3 s while the cloud is away, and ever more slowly up to a minute while it says no."""
        absent, refused = Backoff(0.25, 3.0), Backoff(2.0, 60.0)
        while True:
            try:
                began = self._clock.now()
                reason = await self._serve()
                problem = f"the link to the cloud at {self._settings.websocket.endpoint} ended: {reason}"
                if self._clock.now() - began >= _STEADY_SECONDS:
                    absent.reset()
                refused.reset()
                pause = absent.next()
            except LinkError as error:
                problem = str(error)
                pause = absent.next()
            except (RefusedError, ConfigError) as error:
                problem = str(error)
                pause = refused.next()
            if self._reconnect_at_once:
                self._reconnect_at_once = False
                logger.info("hub.reconnecting node=%s reason=%s", self._node, problem)
                continue
            self._health.set(CLOUD, problem)
            await self._clock.sleep(pause)

    async def _serve(self) -> str:
        """One connection from its beginning to its end; returns why it ended. Raises LinkError, RefusedError, ConfigError before."""
        context = await self._certificates.context()
        self._has_certificate.set()
        socket, wire = await dial(self._settings, self._node, context, self._machine)
        link = Link(
            socket,
            wire=wire,
            clock=self._clock,
            limits=self._limits,
            write_timeout=self._settings.websocket.write_deadline,
            departures=self._departures,
            arrived=self._arrived,
        )
        server = self._settings.websocket.endpoint
        self._link = link
        logger.info("hub.connected node=%s server=%s wire=%d", self._node, server, wire)
        self._health.set(CLOUD)
        for listener in self._connected_listeners:
            self._spawn(listener)
        try:
            reason = await link.run()
        finally:
            self._link = None
            for answer in self._requests.values():
                if not answer.done():
                    answer.set_exception(LinkError("the link to the cloud broke before the answer came"))
            for lost in self._lost_listeners:
                lost()
            await link.close()
        return reason

    def _spawn(self, listener: Callable[[], Awaitable[None]]) -> None:
        async def tell() -> None:
            try:
                await listener()
            except LinkError as error:
                logger.info("hub.connected-listener.interrupted reason=%s", error)
            except Exception:  # a listener's fault concerns its own part only
                logger.exception("hub.connected-listener.failed")

        task = asyncio.create_task(tell())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _wake(self) -> None:
        if self._link is not None:
            self._link.wake()

    async def _arrived(self, envelope: Envelope) -> None:
        """What a message of the cloud is: an awaited answer, a confirmation for the outbox, a late answer, or something for a group."""
        if envelope.parent_id:
            answer = self._requests.get(envelope.parent_id)
            if answer is not None:
                if not answer.done():
                    answer.set_result(envelope)
                return
            if envelope.operation == Operation.RESPONSE and self._departures.confirm(envelope.parent_id):
                return
            if envelope.operation == Operation.ERROR:
                text = body_text(envelope)[:300].decode(errors="replace")
                logger.warning("hub.cloud_error resource=%r parent=%s text=%r", envelope.resource, envelope.parent_id, text)
                return
            if envelope.operation == Operation.RESPONSE and (envelope.group != Group.TWIN or envelope.body == OK_BODY):
                self._settle(envelope)
                return
        lane = self._lanes.get(envelope.group)
        if lane is not None:
            await lane.put(envelope, len(envelope.body))
        elif envelope.group not in self._unheard and len(self._unheard) < 100:
            self._unheard.add(envelope.group)
            logger.warning("hub.undeliverable group=%r message=%r: nobody here wants this group", envelope.group, envelope)

    def _settle(self, late: Envelope) -> None:
        """An answer nobody waits for any more. One with an object would be repeated until acknowledged, and hold up what follows."""
        logger.debug("hub.answer.late message=%r", late)
        if late.body != OK_BODY and late.group == Group.RESOURCE:
            self.post(ack(late))

    async def _keep_certificate(self) -> None:
        """Renew in time; a failure is tried again ever more slowly, up to every 32 s."""
        if not self._settings.rotate_certificates:
            return
        await self._has_certificate.wait()
        failed = Backoff(2.0, 32.0)
        while True:
            left = self._certificates.renew_at - self._clock.wall()
            if left > 0:
                self._health.set(CERTIFICATE)  # also when joining anew was what helped
                await self._clock.sleep(min(left, _LOOK_SECONDS))
                continue
            try:
                await self._certificates.renew()
            except (LinkError, RefusedError, ConfigError) as error:
                if self.connected:
                    self._health.set(CERTIFICATE, f"the node's certificate cannot be renewed: {error}")
                await self._clock.sleep(failed.next())
                continue
            self._health.set(CERTIFICATE)
            failed.reset()
            if self._link is not None:
                self._reconnect_at_once = True
                self._link.finish("the certificate was renewed")
            await self._clock.sleep(60.0)  # a clock that runs ahead of the cloud's must not make this a loop
