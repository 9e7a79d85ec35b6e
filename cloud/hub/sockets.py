"""WebSocket connections that start with TLS on their own, so that a failed handshake can be told to somebody."""

from __future__ import annotations

import asyncio
from typing import cast

from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers

from pinnace.cloud.hub.tls import TlsGate


class GatedConnection(ServerConnection):
    """Made by `websockets.serve(create_connection=...)` of a subclass whose `gate` is set."""

    gate: TlsGate

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if transport.get_extra_info("sslcontext") is not None:
            super().connection_made(transport)
            return
        transport = cast("asyncio.Transport", transport)  # uvloop's are no subclasses
        self.gate.admit(transport, lambda: self)


def first(headers: Headers, name: str) -> str:
    """The first of a header's values: an upstream edge repeats a header with each attempt to connect."""
    values = headers.get_all(name)
    return values[0] if values else ""
