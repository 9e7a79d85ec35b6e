"""Forwarded ports: pairs of SPDY streams (data and error) joined to connections into a pod's network (kubelet API, /portForward)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Final

from pinnace.core.base.runtime import Connection, Runtime, RuntimeFailed
from pinnace.core.base.tunnel.duplex import Duplex
from pinnace.core.base.tunnel.spdystreams import SpdySession, SpdyStream

logger = logging.getLogger(__name__)

PROTOCOL: Final = "portforward.k8s.io"
TUNNELED: Final = f"SPDY/3.1+{PROTOCOL}"
"""The subprotocol of kubectl 1.31 and newer: the same SPDY within binary WebSocket messages."""


class Forwarding:
    """One client's forwarded ports of one pod. `run` until the client leaves."""

    def __init__(self, runtime: Runtime, sandbox_id: str, pod: str) -> None:
        self._runtime = runtime
        self._sandbox_id = sandbox_id
        self._pod = pod
        self._halves: dict[str, SpdyStream] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, duplex: Duplex) -> None:
        """Raises SpdyError."""
        session = SpdySession(duplex, self._opened)
        try:
            with contextlib.suppress(ConnectionError):
                await session.run()
        finally:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await duplex.close()

    async def _opened(self, stream: SpdyStream) -> None:
        """kubectl opens the error stream of a request first, then the one for data."""
        request, kind = stream.headers.get("requestid", ""), stream.headers.get("streamtype", "")
        if kind not in ("error", "data") or not request:
            await stream.close()
            return
        other = self._halves.pop(request, None)
        if other is None:
            self._halves[request] = stream
            return
        error, data = (stream, other) if kind == "error" else (other, stream)
        task = asyncio.create_task(self._forward(data, error))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _forward(self, data: SpdyStream, error: SpdyStream) -> None:
        text = data.headers.get("port", "")
        try:
            if not text.isascii() or not text.isdigit() or not 0 < int(text) < 1 << 16:
                raise RuntimeFailed(f"{text!r} is no port")
            async with self._runtime.port_forward(self._sandbox_id, int(text)) as connection:
                await _join(data, connection)
        except (RuntimeFailed, OSError) as fault:
            with contextlib.suppress(ConnectionError):
                await error.write(f"error forwarding port {text} to pod {self._pod}: {fault}".encode())
        except Exception:  # one connection's fault concerns it only
            logger.exception("stream.port-forward.failed pod=%s port=%s", self._pod, text)
        finally:
            await data.close()
            await error.close()


async def _join(stream: SpdyStream, connection: Connection) -> None:
    """Until the pod's side has said everything; the client's end of sending is passed on."""

    async def send() -> None:
        while data := await stream.read():
            await connection.write(data)
        if stream.is_closed:
            return  # reset: the client wants no more
        await connection.close_write()

    async def receive() -> None:
        while data := await connection.read():
            await stream.write(data)

    sending, receiving = asyncio.create_task(send()), asyncio.create_task(receive())
    try:
        await asyncio.wait({sending, receiving}, return_when=asyncio.FIRST_COMPLETED)
        if sending.done() and sending.exception() is None and not stream.is_closed:
            await receiving
        elif receiving.done():
            receiving.result()
    finally:
        for task in (sending, receiving):
            task.cancel()
        await asyncio.gather(sending, receiving, return_exceptions=True)
