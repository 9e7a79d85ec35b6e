"""The edge's end of the tunnel: dials the cloud, serves what comes through it, dials again (docs/protocol.md, Tunnel)."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Final

from websockets.asyncio.client import connect
from websockets.exceptions import InvalidHandshake, InvalidStatus

from pinnace.core.base.aio.backoff import Backoff
from pinnace.core.base.aio.clock import Clock, LoopClock
from pinnace.core.base.contract.keys import NodeName
from pinnace.core.base.errors import ConfigError, LinkError, RefusedError
from pinnace.core.base.tunnel import frames
from pinnace.core.base.tunnel.frames import Opening
from pinnace.core.base.tunnel.heads import head_of
from pinnace.core.base.tunnel.mux import Channel, Tunnel
from pinnace.core.stream.api import TUNNEL, KubeletApi
from pinnace.core.stream.http import Exchange
from pinnace.core.stream.settings import EdgeStreamSettings

logger = logging.getLogger(__name__)
_websocket_logger = logging.getLogger(f"{__name__}.websocket")
_websocket_logger.setLevel(logging.ERROR)  # each reason is told once, by us

CLOSE_SECONDS: Final = 2.0
_STEADY_SECONDS: Final = 5.0
_QUEUE: Final = 4
"""Messages read ahead of the one being handled: of up to 1 MiB each."""
_WRITE_BUFFER: Final = 64 << 10


class EdgeTunnel:
    """`run` for ever. Trouble is logged when it begins and when it is over, and never disturbs anything else on the node."""

    def __init__(
        self,
        settings: EdgeStreamSettings,
        node: NodeName,
        *,
        hub_host: str,
        api: KubeletApi,
        certificate: Callable[[], Awaitable[ssl.SSLContext]],
        address: Callable[[], str] = lambda: "",
        clock: Clock | None = None,
    ) -> None:
        """`certificate` gives TLS towards the cloud as soon as the node has joined; `address` is the node's own."""
        self._settings = settings
        self._node = node
        self._host, self._port = settings.endpoint(hub_host)
        self._api = api
        self._certificate = certificate
        self._address = address
        self._clock = clock or LoopClock()
        self._hurry = asyncio.Event()
        self._problem = ""
        self.is_connected = False

    async def cloud_connected(self) -> None:
        """The hub's link is up: the tunnel's cloud is likely to be there as well."""
        self._hurry.set()

    async def run(self) -> None:
        backoff = Backoff(0.5, 30.0)
        while True:
            self._hurry.clear()
            began = self._clock.now()
            try:
                reason = await self._serve()
            except (LinkError, RefusedError, ConfigError) as error:
                reason = str(error)
            if self._clock.now() - began >= _STEADY_SECONDS:
                backoff.reset()
            if reason != self._problem:
                logger.warning(
                    "stream.tunnel.down node=%s server=%s:%d reason=%s: trying again", self._node, self._host, self._port, reason
                )
                self._problem = reason
            await self._pause(backoff.next())

    async def _pause(self, seconds: float) -> None:
        sleeping = asyncio.ensure_future(self._clock.sleep(seconds))
        hurrying = asyncio.ensure_future(self._hurry.wait())
        try:
            await asyncio.wait({sleeping, hurrying}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            hurrying.cancel()

    async def _serve(self) -> str:
        """One connection from its beginning to its end; returns why it ended. Raises LinkError, RefusedError, ConfigError before."""
        context = await self._certificate()
        host = f"[{self._host}]" if ":" in self._host else self._host
        headers = [
            (frames.NODE_HEADER, self._node),
            (frames.ADDRESS_HEADER, self._address()),
            (frames.OURS_HEADER, frames.VERSION),
        ]
        try:
            socket = await connect(
                f"wss://{host}:{self._port}{frames.PATH}",
                ssl=context,
                additional_headers=headers,
                user_agent_header=None,
                compression=None,
                proxy=None,
                ping_interval=self._settings.read_deadline,
                ping_timeout=self._settings.read_deadline,
                open_timeout=self._settings.handshake_timeout,
                close_timeout=CLOSE_SECONDS,
                max_size=frames.MESSAGE_BYTES,
                max_queue=_QUEUE,
                write_limit=_WRITE_BUFFER,
                logger=_websocket_logger,
            )
        except InvalidStatus as error:
            text = bytes(error.response.body or b"")[:300].decode(errors="replace").strip()
            raise RefusedError(f"the cloud refused the tunnel: {error.response.status_code} {text}".rstrip()) from error
        except (InvalidHandshake, OSError, EOFError, ValueError) as error:  # ssl.SSLError and a time-out are OSErrors
            raise LinkError(f"the tunnel cannot be opened: {str(error) or type(error).__name__}") from error
        answer = socket.response
        is_paced = answer is not None and answer.headers.get(frames.OURS_HEADER, "") == frames.VERSION
        tunnel = Tunnel(_Deadline(socket, self._settings.write_deadline), is_paced=is_paced, accept=self._accept(is_paced=is_paced))
        logger.info("stream.tunnel.up node=%s server=%s:%d ours=%s", self._node, self._host, self._port, is_paced)
        self._problem = ""
        self.is_connected = True
        try:
            return await tunnel.run()
        finally:
            self.is_connected = False
            await socket.close()

    def _accept(self, *, is_paced: bool) -> Callable[[Channel, int, Opening], Awaitable[None]]:
        async def accept(channel: Channel, kind: int, opening: Opening) -> None:
            """KubeEdge's cloud has answered logs and metrics with 200 already and wants the body alone."""
            is_body = not is_paced and kind in (frames.LOGS, frames.METRICS)
            await self._api.serve(Exchange(head_of(opening), channel, has_head=not is_body), TUNNEL)

        return accept


class _Deadline:
    """A socket whose writes may take so long and no longer."""

    def __init__(self, socket: Any, seconds: float) -> None:
        self._socket = socket
        self._seconds = seconds

    async def send(self, message: bytes, text: bool | None = None) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                await self._socket.send(message, text=text)
        except TimeoutError:
            self._socket.transport.abort()
            raise ConnectionResetError("the cloud reads nothing") from None

    async def recv(self, decode: bool | None = None) -> bytes:
        message: bytes = await self._socket.recv(decode=decode)
        return message
