"""The WebSocket listener on port 10000: lets in whoever shows a node's certificate and speaks under that node's name.

What is refused is answered in HTTP where TLS stands already, logged in one line, and touches nothing else (docs/protocol.md, The link).
"""

from __future__ import annotations

import http
import logging
from typing import Final

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response

from pinnace.cloud.hub.bootstrap import identity as names_of
from pinnace.cloud.hub.hub import Hub
from pinnace.cloud.hub.pki import NODE_GROUP
from pinnace.cloud.hub.settings import CloudHubSettings
from pinnace.cloud.hub.sockets import GatedConnection, first
from pinnace.cloud.hub.tls import TlsGate, peer_of
from pinnace.cloud.hub.vault import Vault
from pinnace.cloud.ports import NodeIdentity
from pinnace.core.base.contract import wireversion
from pinnace.core.base.contract.keys import NODE_COMMON_NAME, NODE_NAME, NodeName

logger = logging.getLogger(__name__)
_websocket_logger = logging.getLogger(f"{__name__}.websocket")
_websocket_logger.setLevel(logging.WARNING)  # who comes, goes and is refused is told once, by us

MESSAGE_BYTES: Final = 32 << 20
QUEUE: Final = 2
"""Messages of one node that are read ahead of those being handled: they may be of that size each."""
OPEN_SECONDS: Final = 10.0
CLOSE_SECONDS: Final = 2.0
WRITE_BUFFER: Final = 256 << 10


class _NodeConnection(GatedConnection):
    """A node's connection, and whose it is."""

    identity: NodeIdentity | None = None


class Acceptor:
    """The listener. `start` binds and serves, `close` ends it with every connection."""

    def __init__(self, hub: Hub, vault: Vault, settings: CloudHubSettings) -> None:
        self._hub = hub
        self._vault = vault
        self._settings = settings
        self._gate: TlsGate | None = None
        self._server: Server | None = None

    @property
    def port(self) -> int:
        """The port in use; 0 when not started."""
        return int(self._server.sockets[0].getsockname()[1]) if self._server and self._server.sockets else 0

    async def start(self) -> None:
        gate = TlsGate("hub", self._vault.context(certificate_required=True))

        class NodeConnection(_NodeConnection):
            pass

        NodeConnection.gate = gate
        self._gate = gate
        self._server = await serve(
            self._serve,
            self._settings.websocket.address,
            self._settings.websocket.port,
            create_connection=NodeConnection,
            process_request=self._admit,
            process_response=self._agree,
            server_header=None,
            compression=None,
            ping_interval=None,
            open_timeout=OPEN_SECONDS,
            close_timeout=CLOSE_SECONDS,
            max_size=MESSAGE_BYTES,
            max_queue=QUEUE,
            write_limit=WRITE_BUFFER,
            logger=_websocket_logger,
        )
        logger.info("hub.listening address=%s port=%d", self._settings.websocket.address, self.port)

    async def close(self) -> None:
        if self._gate is not None:
            self._gate.close()
        if self._server is not None:
            self._server.close()
            await self._hub.close()
            await self._server.wait_closed()

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Who it is, by header and certificate; a Response refuses."""
        assert isinstance(connection, _NodeConnection)
        node = first(request.headers, "Node_id")
        organisation, common_name = names_of(connection.transport.get_extra_info("peercert") or {})
        if not NODE_NAME.fullmatch(node):
            return self._refuse(connection, node, http.HTTPStatus.FORBIDDEN, "the Node_id header is missing or no node name")
        if (organisation, common_name) != (NODE_GROUP, NODE_COMMON_NAME + node):
            reason = f"the certificate is for CN={common_name} O={organisation}, not for node {node}"
            return self._refuse(connection, node, http.HTTPStatus.FORBIDDEN, reason)
        if first(request.headers, "ConnectionUse") != "msg":
            return self._refuse(connection, node, http.HTTPStatus.BAD_REQUEST, "the ConnectionUse header must be msg")
        if not self._hub.has_room_for(NodeName(node)):
            reason = f"nodeLimit {self._settings.node_limit} is reached"
            return self._refuse(connection, node, http.HTTPStatus.SERVICE_UNAVAILABLE, reason)
        machine = first(request.headers, wireversion.MACHINE)
        if self._hub.is_other_machine(NodeName(node), machine):
            reason = f"another machine is connected as {node}; give this one another name, or switch that one off"
            return self._refuse(connection, node, http.HTTPStatus.CONFLICT, reason)
        connection.identity = NodeIdentity(
            NodeName(node),
            project=first(request.headers, "Project_id"),
            wire=wireversion.agree(first(request.headers, wireversion.HEADER)),
            machine=machine,
        )
        return None

    def _agree(self, connection: ServerConnection, request: Request, response: Response) -> None:
        assert isinstance(connection, _NodeConnection)
        if connection.identity is not None and connection.identity.wire:
            response.headers[wireversion.HEADER] = str(connection.identity.wire)

    def _refuse(self, connection: ServerConnection, node: str, status: http.HTTPStatus, reason: str) -> Response:
        logger.warning("hub.refused node=%r peer=%s status=%d reason=%s", node, peer_of(connection.transport), status, reason)
        return connection.respond(status, reason + "\n")

    async def _serve(self, connection: ServerConnection) -> None:
        assert isinstance(connection, _NodeConnection)
        assert connection.identity is not None
        await self._hub.serve(connection.identity, connection, peer_of(connection.transport))
