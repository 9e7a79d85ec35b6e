"""TLS in front of a listener's protocols: every failed handshake is one log line with the peer and what to do, nothing else happens."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import Any, Final, cast

logger = logging.getLogger(__name__)

HANDSHAKE_SECONDS: Final = 10.0
SHUTDOWN_SECONDS: Final = 2.0
PENDING: Final = 512
"""Handshakes under way at once over which further connections are refused."""


class TlsGate:
    """Upgrades accepted connections of one listener."""

    def __init__(self, name: str, context: ssl.SSLContext) -> None:
        self._name = name
        self._context = context
        self._pending: set[asyncio.Task[None]] = set()

    def admit(self, transport: asyncio.Transport, factory: Callable[[], asyncio.Protocol]) -> None:
        """Shake hands on `transport`, then make a protocol and give it the TLS transport."""
        if len(self._pending) >= PENDING:
            logger.warning("%s.refused peer=%s: %d handshakes are under way already", self._name, peer_of(transport), PENDING)
            transport.abort()
            return
        early = _Early()
        transport.set_protocol(early)
        transport.pause_reading()  # asyncio does, uvloop begins to read after connection_made all the same
        task = asyncio.get_running_loop().create_task(self._shake(transport, early, _Late(factory)))
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    def close(self) -> None:
        for task in self._pending:
            task.cancel()

    async def _shake(self, transport: asyncio.Transport, early: _Early, protocol: _Late) -> None:
        peer = peer_of(transport)
        loop = asyncio.get_running_loop()
        if early.is_over:
            logger.debug("%s.left peer=%s: before the handshake", self._name, peer)
            transport.abort()
            return
        shaking = loop.create_task(
            loop.start_tls(
                transport,
                protocol,
                self._context,
                server_side=True,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=SHUTDOWN_SECONDS,
            )
        )
        # The task's first step stops reading and schedules the TLS protocol's start; `feed` comes right behind, before more is read.
        loop.call_soon(loop.call_soon, early.feed, transport)
        try:
            tls = await shaking
        except asyncio.CancelledError:
            transport.abort()
            raise
        except (OSError, EOFError, RuntimeError) as error:  # ssl.SSLError, a time-out and a lost connection are OSErrors
            logger.warning("%s.tls_refused peer=%s reason=%s", self._name, peer, _reason(error))
            transport.abort()
            return
        if tls is None:  # uvloop: the connection went away meanwhile
            return
        protocol.secured(tls)


class Gated(asyncio.Protocol):
    """For protocols that know nothing of the gate: stands in until the handshake is over."""

    def __init__(self, gate: TlsGate, factory: Callable[[], asyncio.Protocol]) -> None:
        self._gate = gate
        self._factory = factory

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's are no subclasses
        self._gate.admit(transport, self._factory)


class _Early(asyncio.Protocol):
    """Keeps what uvloop reads before the handshake begins, and hands it to the TLS protocol."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.is_over = False

    def data_received(self, data: bytes) -> None:
        self.data += data

    def eof_received(self) -> bool:
        self.is_over = True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_over = True

    def feed(self, transport: asyncio.Transport) -> None:
        current = transport.get_protocol()
        if current is self or not self.data:  # the handshake could not begin, or everything is still to be read
            return
        protocol = cast("asyncio.BufferedProtocol", current)
        data, self.data = memoryview(bytes(self.data)), bytearray()
        while data:
            buffer = memoryview(protocol.get_buffer(len(data)))
            count = min(len(buffer), len(data))
            buffer[:count] = data[:count]
            protocol.buffer_updated(count)
            data = data[count:]


class _Late(asyncio.Protocol):
    """Stands in until TLS is up: a refused connection never makes a protocol, and what came along with the handshake's end is kept."""

    def __init__(self, factory: Callable[[], asyncio.Protocol]) -> None:
        self._factory = factory
        self._early = bytearray()
        self._at_end = False
        self._is_lost = False
        self._inner: asyncio.Protocol | None = None

    def secured(self, transport: asyncio.Transport) -> None:
        if self._is_lost:
            return
        inner = self._inner = self._factory()
        inner.connection_made(transport)
        transport.set_protocol(inner)
        if self._early:
            inner.data_received(bytes(self._early))
        if self._at_end and not inner.eof_received():
            transport.close()

    def data_received(self, data: bytes) -> None:
        self._early += data

    def eof_received(self) -> bool:
        self._at_end = True
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True
        if self._inner is not None:  # TLS had addressed the news to us before the protocol was there
            self._inner.connection_lost(exc)


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"client certificate refused: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        if error.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
            return "no client certificate was presented; the node has to join first"
        return error.reason or "TLS failed"
    return str(error) or type(error).__name__


def peer_of(transport: asyncio.BaseTransport | None) -> str:
    """`address:port` of the other end."""
    name: Any = transport.get_extra_info("peername") if transport is not None else None
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) and len(name) >= 2 else "unknown"
