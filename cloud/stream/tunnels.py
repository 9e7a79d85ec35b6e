"""The listener on 10004: one tunnel a node, by the node's certificate, and the way from a node's name to its tunnel."""

from __future__ import annotations

import http
import logging
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Final

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response

from pinnace.cloud.hub.bootstrap import identity as names_of
from pinnace.cloud.hub.pki import NODE_GROUP
from pinnace.cloud.hub.sockets import GatedConnection, first
from pinnace.cloud.hub.tls import TlsGate, peer_of
from pinnace.cloud.hub.vault import Vault
from pinnace.cloud.stream.settings import CloudStreamSettings
from pinnace.core.base.contract.keys import NODE_COMMON_NAME, NODE_NAME, NodeName
from pinnace.core.base.tunnel import frames
from pinnace.core.base.tunnel.frames import Opening
from pinnace.core.base.tunnel.mux import Channel, Tunnel

logger = logging.getLogger(__name__)
_websocket_logger = logging.getLogger(f"{__name__}.websocket")
_websocket_logger.setLevel(logging.WARNING)  # who comes, goes and is refused is told once, by us

OPEN_SECONDS: Final = 10.0
CLOSE_SECONDS: Final = 2.0
PING_SECONDS: Final = 20.0
_QUEUE: Final = 4
"""Messages of one node read ahead of the one being handled: of up to 1 MiB each."""
_WRITE_BUFFER: Final = 64 << 10

Connected = Callable[[NodeName], Awaitable[None]]
"""Called with each node whose tunnel came up."""


class _TunnelConnection(GatedConnection):
    node: NodeName = NodeName("")
    is_ours = False


class Tunnels:
    """`start` listens, `close` ends it with every tunnel. A node that connects again replaces its former tunnel."""

    def __init__(self, vault: Vault, settings: CloudStreamSettings, *, connected: Connected) -> None:
        self._vault = vault
        self._settings = settings
        self._connected = connected
        self._nodes: dict[NodeName, tuple[Tunnel, ServerConnection]] = {}
        self.addresses: dict[NodeName, str] = {}
        """Of each connected node, as it says itself."""
        self._numbers = count(1)
        self._gate: TlsGate | None = None
        self._server: Server | None = None

    @property
    def port(self) -> int:
        """The port in use; 0 when not started."""
        return int(self._server.sockets[0].getsockname()[1]) if self._server and self._server.sockets else 0

    def __contains__(self, node: NodeName) -> bool:
        return node in self._nodes

    def at(self, address: str) -> NodeName | None:
        """The node that is connected from this address, or named it its own; None when several are. Only Node names are certain: a node
        must not get what is meant for another by naming that one's address."""
        found = [node for node, each in self.addresses.items() if each == address]
        return found[0] if len(found) == 1 else None

    def is_ours(self, node: NodeName) -> bool:
        """Whether the node speaks our tunnel, in which a channel carries a whole HTTP exchange."""
        return node in self._nodes and self._nodes[node][0].is_paced

    async def open(self, node: NodeName, kind: int, opening: Opening) -> Channel:
        """Raises ConnectionError when the node has no tunnel here, or no room in it."""
        found = self._nodes.get(node)
        if found is None:
            raise ConnectionRefusedError(f"node {node} has no tunnel to this cloudcore: it is offline, or its modules.edgeStream is off")
        return await found[0].open(next(self._numbers), kind, opening)

    async def start(self) -> None:
        gate = TlsGate("stream.tunnel", self._vault.context(certificate_required=True))

        class TunnelConnection(_TunnelConnection):
            pass

        TunnelConnection.gate = gate
        self._gate = gate
        self._server = await serve(
            self._serve,
            self._settings.address,
            self._settings.tunnel_port,
            create_connection=TunnelConnection,
            process_request=self._admit,
            process_response=self._agree,
            server_header=None,
            compression=None,
            ping_interval=PING_SECONDS,
            ping_timeout=PING_SECONDS,
            open_timeout=OPEN_SECONDS,
            close_timeout=CLOSE_SECONDS,
            max_size=frames.MESSAGE_BYTES,
            max_queue=_QUEUE,
            write_limit=_WRITE_BUFFER,
            logger=_websocket_logger,
        )
        logger.info("stream.tunnel.listening address=%s port=%d", self._settings.address, self.port)

    async def close(self) -> None:
        if self._gate is not None:
            self._gate.close()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Who it is, by certificate and header; a Response refuses."""
        assert isinstance(connection, _TunnelConnection)
        node = first(request.headers, frames.NODE_HEADER)
        organisation, common_name = names_of(connection.transport.get_extra_info("peercert") or {})
        if request.path.split("?")[0] != frames.PATH:
            return self._refuse(connection, node, http.HTTPStatus.NOT_FOUND, f"the tunnel is at {frames.PATH}")
        if not NODE_NAME.fullmatch(node):
            return self._refuse(connection, node, http.HTTPStatus.FORBIDDEN, f"the {frames.NODE_HEADER} header is no node name")
        if (organisation, common_name) != (NODE_GROUP, NODE_COMMON_NAME + node):
            reason = f"the certificate is for CN={common_name} O={organisation}, not for node {node}"
            return self._refuse(connection, node, http.HTTPStatus.FORBIDDEN, reason)
        connection.node = NodeName(node)
        connection.is_ours = first(request.headers, frames.OURS_HEADER) == frames.VERSION
        return None

    def _agree(self, connection: ServerConnection, request: Request, response: Response) -> None:
        assert isinstance(connection, _TunnelConnection)
        if connection.is_ours:
            response.headers[frames.OURS_HEADER] = frames.VERSION

    def _refuse(self, connection: ServerConnection, node: str, status: http.HTTPStatus, reason: str) -> Response:
        logger.warning("stream.tunnel.refused node=%r peer=%s status=%d reason=%s", node, peer_of(connection.transport), status, reason)
        return connection.respond(status, reason + "\n")

    async def _serve(self, connection: ServerConnection) -> None:
        assert isinstance(connection, _TunnelConnection)
        node, peer = connection.node, peer_of(connection.transport)
        assert connection.request is not None
        tunnel = Tunnel(connection, is_paced=connection.is_ours)  # type: ignore[arg-type]  # it takes and gives bytes as we use it
        former = self._nodes.get(node)
        self._nodes[node] = (tunnel, connection)
        self.addresses[node] = first(connection.request.headers, frames.ADDRESS_HEADER) or peer.rpartition(":")[0]
        if former is not None:
            former[1].transport.abort()
        logger.info("stream.tunnel.up node=%s peer=%s ours=%s", node, peer, connection.is_ours)
        try:
            await self._connected(node)
            reason = await tunnel.run()
            logger.info("stream.tunnel.down node=%s peer=%s reason=%s", node, peer, reason)
        finally:
            if self._nodes.get(node, (None,))[0] is tunnel:
                del self._nodes[node]
                del self.addresses[node]
