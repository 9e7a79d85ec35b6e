"""Makes one WebSocket connection to the cloud, or says in one sentence why there is none."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidMessage, InvalidStatus

from pinnace.core.base.contract import wireversion
from pinnace.core.base.contract.keys import NodeName
from pinnace.core.base.errors import LinkError, RefusedError
from pinnace.core.hub.bootstrap import certificate_advice, reason_of
from pinnace.core.hub.settings import EdgeHubSettings, Endpoint

CONNECT_SECONDS: Final = 4.0
"""For one address to accept; short, so that after a time without network the next attempt is never far."""
CLOSE_SECONDS: Final = 2.0
MESSAGE_BYTES: Final = 32 << 20
WRITE_BUFFER: Final = 256 << 10
_SILENCE_MS: Final = 20_000
"""What was sent and not acknowledged by the cloud's kernel for so long ends the connection; keepalives see to it that something is sent."""

_websocket_logger = logging.getLogger(f"{__name__}.websocket")
_websocket_logger.setLevel(logging.ERROR)  # each reason is told once, by us


class _Connection(ClientConnection):
    """Remembers why it was lost: with TLS 1.3 the cloud refuses a certificate after our side of the handshake is done."""

    lost: Exception | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = exc
        super().connection_lost(exc)


async def dial(settings: EdgeHubSettings, node: NodeName, context: ssl.SSLContext, machine: str = "") -> tuple[ClientConnection, int]:
    """The open connection and the wire version agreed on. By `machine`, its id, the cloud tells this machine from another one of the same
    name. Raises RefusedError when the cloud (or we) say no, else LinkError."""
    server = settings.websocket.endpoint
    headers = [
        ("Node_id", node),
        ("Project_id", settings.project_id),
        ("ConnectionUse", "msg"),
        (wireversion.HEADER, str(wireversion.CURRENT)),
        *([(wireversion.MACHINE, machine)] if machine else []),
    ]
    made: list[_Connection] = []

    def create(*arguments: Any, **options: Any) -> ClientConnection:
        made.append(_Connection(*arguments, **options))
        return made[-1]

    try:
        opened = await _connect(server)
        try:
            connection = await connect(
                f"wss://{server}/{settings.project_id}/{node}/events",
                sock=opened,
                ssl=context,
                server_hostname=server.host,
                additional_headers=headers,
                user_agent_header=None,
                compression=None,
                proxy=None,
                ping_interval=None,
                open_timeout=settings.websocket.handshake_timeout,
                close_timeout=CLOSE_SECONDS,
                max_size=MESSAGE_BYTES,
                write_limit=WRITE_BUFFER,
                logger=_websocket_logger,
                create_connection=create,  # type: ignore[arg-type]  # any factory does
            )
        except BaseException:
            opened.close()
            raise
    except InvalidStatus as error:
        text = bytes(error.response.body or b"")[:300].decode(errors="replace").strip()
        raise RefusedError(f"the cloud at {server} refused the connection: {error.response.status_code} {text}".rstrip()) from error
    except (InvalidHandshake, OSError, EOFError, ValueError) as error:
        raise _translated(made[-1].lost or error if made else error, server) from error
    response = connection.response
    return connection, wireversion.agree(response.headers.get(wireversion.HEADER, "") if response is not None else "")


async def _connect(server: Endpoint) -> socket.socket:
    """A TCP connection, addresses tried in the resolver's order."""
    loop = asyncio.get_running_loop()
    failure: OSError = OSError("the name has no address")
    for family, kind, protocol, _, address in await loop.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM):
        opened = socket.socket(family, kind, protocol)
        try:
            opened.setblocking(False)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENCE_MS)
            async with asyncio.timeout(CONNECT_SECONDS):
                await loop.sock_connect(opened, address)
            return opened
        except OSError as error:  # a TimeoutError is one
            opened.close()
            failure = error
        except BaseException:
            opened.close()
            raise
    raise failure


def _translated(error: Exception, server: Endpoint) -> LinkError | RefusedError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return RefusedError(f"the certificate of the cloud at {server} is not accepted: {certificate_advice(error)}")
    if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
        return RefusedError(f"the cloud at {server} refused this node's certificate: {reason_of(error)}")
    if isinstance(error, TimeoutError):
        return LinkError(f"the cloud at {server} does not answer")
    if isinstance(error, socket.gaierror):
        return LinkError(f"the name {server.host} cannot be resolved: {error.strerror}")
    if isinstance(error, InvalidMessage | ConnectionResetError | BrokenPipeError):
        return LinkError(f"the cloud at {server} closed the connection before it answered; its log says why")
    return LinkError(f"the cloud at {server} cannot be reached: {reason_of(error)}")
