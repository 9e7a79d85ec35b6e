"""The connection to a runtime's streaming server, upgraded to SPDY/3.1.

Every CRI runtime's streaming server speaks it, it is what kubelets use, and unlike the WebSocket form of that server it can end one
direction of a stream, which `tar x` in a container and a forwarded port need.
"""

from __future__ import annotations

import asyncio
from typing import Final
from urllib.parse import urlsplit

from pinnace.core.base.runtime import RuntimeFailed
from pinnace.core.base.tunnel.spdystreams import PROTOCOL, VERSION_HEADER

_SECONDS: Final = 30.0
_LIMIT: Final = 64 << 10
_ANY_ADDRESS: Final = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 # what a runtime calls itself in the address it gives


async def connect(url: str, protocol: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """To the address that the runtime gave. Raises RuntimeFailed."""
    parts = urlsplit(url)
    if parts.scheme != "http":
        raise RuntimeFailed(
            f"the container runtime wants {parts.scheme} for exec, attach and port-forward;"
            " switch TLS streaming off in its configuration (it listens on loopback)"
        )
    host = "127.0.0.1" if (parts.hostname or "") in _ANY_ADDRESS else str(parts.hostname)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    request = (
        f"POST {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: Upgrade\r\nUpgrade: {PROTOCOL}\r\n"
        f"{VERSION_HEADER}: {protocol}\r\nContent-Length: 0\r\n\r\n"
    )
    try:
        async with asyncio.timeout(_SECONDS):
            reader, writer = await asyncio.open_connection(host, parts.port or 80, limit=_LIMIT)
            try:
                writer.write(request.encode())
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                status = head.split("\r\n", 1)[0]
                if " 101 " not in status + " ":
                    said = (await reader.read(512)).decode(errors="replace").strip()
                    raise RuntimeFailed(
                        f"the container runtime's streaming server refused {PROTOCOL} ({status}: {said});"
                        " exec, attach and port-forward need a runtime that serves it, as containerd and CRI-O do"
                    )
            except BaseException:
                writer.close()
                raise
    except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise RuntimeFailed(
            f"the container runtime's streaming server at {parts.netloc} does not answer: {str(error) or 'time-out'}"
        ) from error
    return reader, writer
