"""One HTTP/1.1 exchange on the edge: a request that was read, and the answer over whatever carries it (RFC 9112)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final
from urllib.parse import parse_qsl

from pinnace.core.base.tunnel.duplex import Duplex, WithRest
from pinnace.core.base.tunnel.heads import Head, answer_head

TEXT: Final = "text/plain; charset=utf-8"
JSON: Final = "application/json"


class Refusal(Exception):
    """An answer that is no success: the status, and the kubelet's own words where it has some."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class Exchange:
    """The answer goes out once: whole by `answer`, piece by piece by `begin` and `write`, or as another protocol by `switch`.

    `has_head` false is KubeEdge's tunnel for logs and metrics, which carries neither status nor headers.
    """

    def __init__(self, head: Head, duplex: Duplex, *, has_head: bool = True) -> None:
        self.head = head
        self.method = head.first[0]
        opening = head.opening
        self.path = opening.path
        self.arguments = parse_qsl(opening.query, keep_blank_values=True)
        self.has_begun = False
        self._duplex = duplex
        self._has_head = has_head

    def argument(self, name: str) -> str:
        """The first value of a query parameter, "" when it is not there."""
        return next((value for key, value in self.arguments if key == name), "")

    def flag(self, name: str) -> bool:
        return self.argument(name).lower() in {"1", "t", "true"}

    async def answer(self, status: int, body: bytes | str, content_type: str = TEXT) -> None:
        data = body.encode() if isinstance(body, str) else body
        await self._begin(status, (("Content-Type", content_type), ("Content-Length", str(len(data))), ("Connection", "close")))
        if self.method != "HEAD":
            await self._duplex.write(data)

    async def begin(self, content_type: str = TEXT) -> None:
        """Status 200; the body ends with the connection."""
        await self._begin(200, (("Content-Type", content_type), ("Connection", "close")))

    async def write(self, data: bytes) -> None:
        await self._duplex.write(data)

    async def switch(self, headers: tuple[tuple[str, str], ...]) -> Duplex:
        """Status 101; the bytes from here on."""
        await self._begin(101, (("Connection", "Upgrade"), *headers))
        return self._duplex

    async def switched(self, answer: bytes) -> Duplex:
        """The same with an answer that somebody else wrote."""
        self.has_begun = True
        await self._duplex.write(answer)
        return self._duplex

    @contextlib.asynccontextmanager
    async def until_left(self) -> AsyncIterator[None]:
        """End the block quietly when whoever asked goes away: for answers that may be silent for long."""
        owner = asyncio.current_task()
        assert owner is not None
        has_left = False

        async def watch() -> None:
            nonlocal has_left
            while await self._duplex.read():
                pass  # more requests on one connection are not served
            has_left = True
            owner.cancel()

        watching = asyncio.create_task(watch())
        try:
            yield
        except asyncio.CancelledError:
            if not has_left or owner.uncancel():
                raise
        finally:
            watching.cancel()

    async def _begin(self, status: int, headers: tuple[tuple[str, str], ...]) -> None:
        self.has_begun = True
        if self._has_head:
            await self._duplex.write(answer_head(status, headers))


def with_rest(duplex: Duplex, rest: bytes) -> Duplex:
    return WithRest(duplex, rest) if rest else duplex
