"""What either end of the link needs of a WebSocket."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final, Protocol

_REASON_BYTES: Final = 120


class Socket(Protocol):
    """`websockets` has it."""

    async def send(self, message: str | bytes) -> None: ...

    async def recv(self) -> str | bytes: ...

    async def ping(self, data: str | bytes | None = None) -> Awaitable[float]: ...

    async def close(self, code: int = 1000, reason: str = "") -> None: ...


def short_reason(text: str) -> str:
    """As much of it as a close frame holds (RFC 6455, 5.5.1)."""
    return text.encode()[:_REASON_BYTES].decode(errors="ignore")
