"""WebSocket on a duplex, and Kubernetes' channel protocols on that: one byte of channel, then the data (`v5.channel.k8s.io` and older).

The WebSocket itself is `websockets`' sans-I/O state machine; nothing here knows what the channels carry but their numbers.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Final

import orjson
from websockets.exceptions import InvalidState
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from pinnace.core.base.tunnel import heads
from pinnace.core.base.tunnel.duplex import Duplex
from pinnace.core.stream.http import Exchange, Refusal
from pinnace.core.stream.remote import ERROR, STDIN, Event, InputEnded, Resized, Typed

_websocket_logger = logging.getLogger(f"{__name__}.websocket")
_websocket_logger.setLevel(logging.ERROR)  # who comes and goes is of no interest

MESSAGE_BYTES: Final = 4 << 20
RESIZE: Final = 4
_CLOSE_CHANNEL: Final = 255
"""v5: the channel whose number follows has ended."""
CHANNEL_PROTOCOLS: Final = (
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v3.channel.k8s.io",
    "channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "base64.channel.k8s.io",
)


class WebSocket:
    """One open WebSocket. A `Duplex` of whole messages: what is written is one binary message."""

    def __init__(self, protocol: ServerProtocol, duplex: Duplex, subprotocol: str) -> None:
        self._protocol = protocol
        self._duplex = duplex
        self.subprotocol = subprotocol
        self._pieces: list[bytes] = []
        self._messages: deque[bytes] = deque()  # of one read: bounded by what a duplex gives at once
        self.is_over = False

    @classmethod
    async def accept(cls, exchange: Exchange, subprotocols: tuple[str, ...]) -> WebSocket:
        """Answer the upgrade; the first of `subprotocols` that was offered is chosen. Raises Refusal."""
        offered = exchange.head.all("Sec-WebSocket-Protocol")
        chosen = next((each for each in subprotocols if each in offered), "")
        if offered and not chosen:
            raise Refusal(400, f"none of the subprotocols {', '.join(offered)} is spoken here; known are {', '.join(subprotocols)}")
        protocol = ServerProtocol(max_size=MESSAGE_BYTES, logger=_websocket_logger)
        # Kubernetes has a subprotocol with a slash, which is no token of HTTP: it is agreed on here
        others = tuple(pair for pair in exchange.head.headers if pair[0].lower() != "sec-websocket-protocol")
        protocol.receive_data(heads.encode(heads.Head(exchange.head.first, others)))
        request = next(iter(protocol.events_received()), None)
        if not isinstance(request, Request):
            raise Refusal(400, f"no WebSocket upgrade: {protocol.handshake_exc or 'the request cannot be read'}")
        response = protocol.accept(request)
        if chosen:
            response.headers["Sec-WebSocket-Protocol"] = chosen
        protocol.send_response(response)
        if response.status_code != 101:
            raise Refusal(response.status_code, bytes(response.body or b"").decode(errors="replace").strip())
        duplex = await exchange.switched(b"".join(protocol.data_to_send()))
        return cls(protocol, duplex, chosen)

    async def read(self) -> bytes:
        """The next whole message that is not empty; b"" at the end."""
        while not self._messages:
            if self.is_over or self._protocol.close_expected():
                return b""
            data = await self._duplex.read()
            if data:
                self._protocol.receive_data(data)
            else:
                self._protocol.receive_eof()
                self.is_over = True
            self._take()
            await self._flush()
        return self._messages.popleft()

    def _take(self) -> None:
        for event in self._protocol.events_received():
            if not isinstance(event, Frame) or event.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                continue
            self._pieces.append(bytes(event.data))
            if event.fin:
                message, self._pieces = b"".join(self._pieces), []
                if message:
                    self._messages.append(message)

    async def write(self, data: bytes, *, is_text: bool = False) -> None:
        try:
            (self._protocol.send_text if is_text else self._protocol.send_binary)(data)
        except InvalidState as error:
            raise ConnectionResetError("the WebSocket is closing") from error
        await self._flush()

    async def close(self) -> None:
        if not self.is_over:
            self.is_over = True
            with contextlib.suppress(InvalidState, ConnectionError):
                self._protocol.send_close(CloseCode.NORMAL_CLOSURE)
                await self._flush()
        await self._duplex.close()

    async def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                await self._duplex.write(data)


class Channels:
    """Implements remote.Remote in one of CHANNEL_PROTOCOLS."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._is_base64 = "base64" in socket.subprotocol
        self._says_status = socket.subprotocol.startswith(("v4.", "v5."))

    async def events(self) -> AsyncIterator[Event]:
        while message := await self._socket.read():
            channel, data = self._decode(message)
            if channel == STDIN and data:
                yield Typed(data)
            elif channel == RESIZE and (event := resized(data)) is not None:
                yield event
            elif channel == _CLOSE_CHANNEL and data[:1] == bytes([STDIN]):
                yield InputEnded()

    async def send(self, channel: int, data: bytes) -> None:
        if self._is_base64:
            await self._socket.write(b"%d" % channel + base64.b64encode(data), is_text=True)
        else:
            await self._socket.write(bytes([channel]) + data)

    async def finish(self, status: dict[str, Any]) -> None:
        """The oldest protocols say nothing of success, and only the words of a failure."""
        with contextlib.suppress(ConnectionError):
            if self._says_status:
                await self.send(ERROR, orjson.dumps(status))
            elif status.get("status") != "Success":
                await self.send(ERROR, str(status.get("message", "")).encode())
            await self._socket.close()

    def _decode(self, message: bytes) -> tuple[int, bytes]:
        if not self._is_base64:
            return message[0], message[1:]
        try:
            return message[0] - ord("0"), base64.b64decode(message[1:], validate=True)
        except binascii.Error:
            return -1, b""


def resized(data: bytes) -> Resized | None:
    """`{"Width":80,"Height":24}`; None for what is no size."""
    try:
        size = orjson.loads(data)
        columns, rows = int(size["Width"]), int(size["Height"])
    except (KeyError, TypeError, ValueError):
        return None
    return Resized(columns, rows) if 0 < columns < 1 << 16 and 0 < rows < 1 << 16 else None
