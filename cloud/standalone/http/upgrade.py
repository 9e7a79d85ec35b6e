"""Connections that stop being HTTP: after an upgrade their bytes are carried between the client and the node."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from aiohttp import web

from pinnace.core.base.tunnel.duplex import Duplex, StreamDuplex, join

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter


class _Done(web.StreamResponse):
    """The answer of a connection that was taken over: everything has been said."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        pass


async def carried(raw: web.BaseRequest, head: bytes, node: Duplex) -> web.StreamResponse:
    """Take over the connection of `raw`, send the answer's head, and carry bytes until either side ends."""
    loop = asyncio.get_running_loop()
    transport = raw.transport
    if transport is None or transport.is_closing():
        await node.close()
        raise ConnectionResetError("the client is gone")
    former = transport.get_protocol()
    reader = asyncio.StreamReader(loop=loop)
    protocol = _Taken(reader, loop)
    # A client sends nothing between its request and the answer's head, so nothing is lost between the two protocols.
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    client = StreamDuplex(reader, asyncio.StreamWriter(transport, protocol, reader, loop))
    try:
        await client.write(head)
        await join(client, node)
    finally:
        if protocol.is_lost:
            loop.call_soon(cast("asyncio.Protocol", former).connection_lost, None)
        else:
            transport.set_protocol(former)  # it hears of the connection's end, as it expects to
    done = _Done(status=101)
    done.force_close()
    return done


class _Taken(asyncio.StreamReaderProtocol):
    def __init__(self, reader: asyncio.StreamReader, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(reader, loop=loop)
        self.is_lost = False

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        super().connection_lost(exc)
