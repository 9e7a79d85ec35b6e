"""A link whose other end is a function: what a service asks of the cloud, and what it gets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from pinnace.core.base.errors import LinkError
from pinnace.ext.records import Envelope


class FakeUplink:
    """Implements base.ports.Uplink. `answer` gets every request and may raise; `asked` and `posted` keep what was sent."""

    def __init__(self, answer: Callable[[Envelope], Envelope], *, peer_wire: int = 0) -> None:
        self.answer = answer
        self.peer_wire = peer_wire
        self.is_up = False
        self.asked: list[Envelope] = []
        self.posted: list[Envelope] = []
        self._listeners: list[Callable[[], Awaitable[None]]] = []

    @property
    def connected(self) -> bool:
        return self.is_up

    async def connect(self) -> None:
        self.is_up = True
        for listener in self._listeners:
            await listener()

    def disconnect(self) -> None:
        self.is_up = False

    async def request(self, envelope: Envelope, *, timeout_seconds: float = 60.0) -> Envelope:
        if not self.is_up:
            raise LinkError("not connected to the cloud")
        self.asked.append(envelope)
        return self.answer(envelope)

    def post(self, envelope: Envelope) -> None:
        if self.is_up:
            self.posted.append(envelope)

    def on_connected(self, listener: Callable[[], Awaitable[None]]) -> None:
        self._listeners.append(listener)
