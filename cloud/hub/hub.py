"""All connected nodes: the NodeHub of the controllers, and the rules for what a node's messages mean (docs/protocol.md, The link)."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine
from typing import Any, Final

from pinnace.cloud.hub.connection import Connection
from pinnace.cloud.hub.downlinks import envelope_of
from pinnace.cloud.hub.outbox import Outbox
from pinnace.cloud.ports import ConnectionListener, Downlink, NodeIdentity, StoredListener, UplinkHandler
from pinnace.core.base.aio.clock import Clock, LoopClock
from pinnace.core.base.contract.envelopes import Group, Operation, Source, body_text
from pinnace.core.base.contract.keys import NodeName, parse_resource
from pinnace.core.base.errors import PinnaceError
from pinnace.core.base.wire.session import Limits
from pinnace.core.base.wire.socket import Socket
from pinnace.ext.records import Envelope

logger = logging.getLogger(__name__)

CONCURRENCY: Final = 256
"""Messages of all nodes that are handled at once."""

_CLOUD_SOURCES: Final = frozenset({Source.CLOUDHUB, Source.EDGECONTROLLER, Source.DEVICECONTROLLER, "cloudStream", "synccontroller"})
"""Nobody at the edge speaks under these names; KubeEdge drops such messages without a word."""


class Hub:
    """Implements cloud.ports.NodeHub. `handle_with` before the first node connects; the acceptor calls `serve`."""

    def __init__(
        self,
        *,
        limits: Limits | None = None,
        node_limit: int = 1000,
        write_timeout: float = 30.0,
        clock: Clock | None = None,
        outbox: Outbox | None = None,
    ) -> None:
        self._limits = limits or Limits()
        self._node_limit = node_limit
        self._write_timeout = write_timeout
        self._clock = clock or LoopClock()
        self._outbox = outbox
        self._handler: UplinkHandler | None = None
        self._stored_listeners: list[StoredListener] = []
        self._connection_listeners: list[ConnectionListener] = []
        self._nodes: dict[NodeName, Connection] = {}
        self._announcements: dict[NodeName, deque[bool]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(CONCURRENCY)

    def handle_with(self, handler: UplinkHandler) -> None:
        self._handler = handler

    def on_stored(self, listener: StoredListener) -> None:
        self._stored_listeners.append(listener)

    def on_connection(self, listener: ConnectionListener) -> None:
        self._connection_listeners.append(listener)

    def push(self, node: NodeName, message: Downlink) -> None:
        """Queue for a node. A user message is stored first when there is an outbox, and then waits for an absent node too."""
        if self._outbox is not None and not message.acknowledged and message.group == Group.USER:
            self._spawn(self._spool(self._outbox, node, message))
            return
        connection = self._nodes.get(node)
        if connection is not None:
            connection.push(message)

    def connected(self) -> frozenset[NodeName]:
        return frozenset(self._nodes)

    def disconnect(self, node: NodeName, reason: str) -> None:
        connection = self._nodes.get(node)
        if connection is not None:
            connection.finish(1001, reason)

    def has_room_for(self, node: NodeName) -> bool:
        """Whether the node limit lets this node in; one that is connected already may always come back."""
        return node in self._nodes or len(self._nodes) < self._node_limit

    def is_other_machine(self, node: NodeName, machine: str) -> bool:
        """Whether the node is connected from another machine than this one. Who does not say which machine it is, is none other."""
        connection = self._nodes.get(node)
        return connection is not None and "" not in (machine, connection.identity.machine) and connection.identity.machine != machine

    async def serve(self, identity: NodeIdentity, socket: Socket, peer: str) -> None:
        """Serve one connection to its end. A former one of the same node ends now; its late errors cannot touch this one."""
        node = identity.node
        if not self.has_room_for(node):
            logger.warning("hub.refused node=%s peer=%s: nodeLimit %d is reached", node, peer, self._node_limit)
            await socket.close(1013, "the node limit is reached")
            return

        async def answer(envelope: Envelope) -> list[Envelope]:
            return await self._dispatch(node, envelope)

        async def stored(message: Downlink) -> None:
            await self._tell_stored(node, message)

        former = self._nodes.get(node)
        connection = Connection(
            identity,
            socket,
            peer,
            clock=self._clock,
            limits=self._limits,
            write_timeout=self._write_timeout,
            answer=answer,
            stored=stored,
            outbox=self._outbox,
            former=former,
        )
        self._nodes[node] = connection
        if former is not None:
            former.finish(1001, f"replaced by a newer connection from {peer}")
            self._announce(node, is_connected=False)
        logger.info("hub.session.began node=%s peer=%s wire=%d", node, peer, identity.wire)
        self._announce(node, is_connected=True)
        try:
            await connection.run()
        finally:
            if self._nodes.get(node) is connection:
                del self._nodes[node]
                self._announce(node, is_connected=False)

    async def close(self) -> None:
        """End every connection and the work for absent nodes."""
        for connection in list(self._nodes.values()):
            connection.finish(1001, "cloudcore is going away")
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _dispatch(self, node: NodeName, envelope: Envelope) -> list[Envelope]:
        """What a message that is neither keepalive nor an awaited acknowledgement means."""
        if envelope.operation == Operation.RESPONSE:
            return []  # acknowledgements that nobody waits for: late ones, and those of answers
        if envelope.operation == Operation.ERROR:
            text = body_text(envelope)[:300].decode(errors="replace")
            logger.warning("hub.node_error node=%s resource=%r parent=%s text=%r", node, envelope.resource, envelope.parent_id, text)
            return []
        if envelope.source in _CLOUD_SOURCES:
            logger.debug("hub.uplink.dropped node=%s source=%s", node, envelope.source)
            return []
        if self._handler is None:
            return []
        async with self._slots:
            try:
                return await self._handler(node, parse_resource(envelope.resource), envelope)
            except PinnaceError as error:
                logger.warning("hub.uplink.failed node=%s message=%r error=%s", node, envelope, error)
            except Exception:  # a controller's fault concerns this message only
                logger.exception("hub.uplink.failed node=%s message=%r", node, envelope)
        return []

    async def _tell_stored(self, node: NodeName, message: Downlink) -> None:
        for listener in self._stored_listeners:
            try:
                await listener(node, message)
            except PinnaceError as error:
                logger.warning("hub.stored.listener_failed node=%s key=%s error=%s", node, message.key, error)
            except Exception:  # a listener's fault concerns this message only
                logger.exception("hub.stored.listener_failed node=%s key=%s", node, message.key)

    def _announce(self, node: NodeName, *, is_connected: bool) -> None:
        """Tell the listeners, for each node in order. A node that flaps faster than they listen loses whole pairs of old news."""
        line = self._announcements.get(node)
        if line is not None:
            line.append(is_connected)
            while len(line) > 4:
                line.popleft()
                line.popleft()
            return
        self._announcements[node] = deque([is_connected])
        self._spawn(self._tell_connection(node))

    async def _tell_connection(self, node: NodeName) -> None:
        line = self._announcements[node]
        try:
            while line:
                is_connected = line.popleft()
                for listener in self._connection_listeners:
                    try:
                        await listener(node, is_connected)
                    except PinnaceError as error:
                        logger.warning("hub.connection.listener_failed node=%s error=%s", node, error)
                    except Exception:  # a listener's fault concerns its own part only
                        logger.exception("hub.connection.listener_failed node=%s", node)
        finally:
            del self._announcements[node]

    async def _spool(self, outbox: Outbox, node: NodeName, message: Downlink) -> None:
        try:
            await outbox.put(node, envelope_of(message))
        except PinnaceError as error:
            logger.warning("hub.outbox.not_stored node=%s error=%s: sent without it if the node is there", node, error)
            connection = self._nodes.get(node)
            if connection is not None:
                connection.push(message)
            return
        connection = self._nodes.get(node)
        if connection is not None:
            connection.look_into_outbox()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
