"""What comes from a client of SPDY, on a connection of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket

from pinnace.core.base.tunnel.duplex import StreamDuplex
from pinnace.core.base.tunnel.spdystreams import SpdySession
from pinnace.core.stream.remote import Resized, Wanted
from pinnace.core.stream.spdyremote import SpdyRemote


async def test_what_is_no_size_of_a_terminal_is_not_kept() -> None:
    ours, theirs = [StreamDuplex(*await asyncio.open_connection(sock=each)) for each in socket.socketpair()]
    client = SpdySession(theirs)
    running = asyncio.create_task(client.run())
    streams = {name: await client.open({"streamType": name}) for name in ("error", "stdout", "resize")}
    remote = SpdyRemote(ours, Wanted(stdin=False, stdout=True, stderr=False, tty=True))
    async with remote.open(), contextlib.aclosing(remote.events()) as events, asyncio.timeout(30):  # type: ignore[type-var]
        for text in (b'{"Width":1,', b'"Height":2}', b"x" * 2000, b'{"Width":80,"Height":24}'):
            await streams["resize"].write(text)
        assert [await anext(events), await anext(events)] == [Resized(1, 2), Resized(80, 24)]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await theirs.close()
