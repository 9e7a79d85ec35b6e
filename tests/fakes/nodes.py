"""A hub without sockets: who is connected is what the test says, and every push is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pinnace.cloud.ports import Downlink
from pinnace.core.base.contract.keys import NodeName


class FakeHub:
    """Implements cloud.ports.NodeHub."""

    def __init__(self, *connected: str) -> None:
        self.pushes: list[tuple[str, Downlink]] = []
        self.disconnected: list[tuple[str, str]] = []
        self.here = {NodeName(each) for each in connected}
        self._pushed = asyncio.Event()

    def push(self, node: NodeName, message: Downlink) -> None:
        self.pushes.append((node, message))
        self._pushed.set()

    def connected(self) -> frozenset[NodeName]:
        return frozenset(self.here)

    def disconnect(self, node: NodeName, reason: str) -> None:
        self.disconnected.append((node, reason))

    def resources(self, node: str = "") -> list[tuple[str, str]]:
        """Operation and address of each push, of one node or of all."""
        return [(message.operation, str(message.key)) for to, message in self.pushes if node in ("", to)]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return when the pushes satisfy `condition`."""
        async with asyncio.timeout(10):
            while not condition():
                self._pushed.clear()
                await self._pushed.wait()
