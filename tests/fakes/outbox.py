"""An outbox in memory: what waits for the cloud, in order, for the link's tests."""

from __future__ import annotations

from collections.abc import Callable

from pinnace.core.base.ports import Departure
from pinnace.ext.records import Envelope


class FakeDepartures:
    """Implements base.ports.Departures: first in, first out, nothing coalesced. `confirmed` lists ids in the order of confirmation."""

    def __init__(self, *, resend_seconds: float = 5.0) -> None:
        self.waiting: list[Departure] = []
        self.in_flight: dict[str, tuple[Departure, float]] = {}
        self.confirmed: list[str] = []
        self.recalls = 0
        self._resend_seconds = resend_seconds
        self._wake: Callable[[], None] = lambda: None

    def put(self, envelope: Envelope, *, confirmed: bool = True) -> None:
        self.waiting.append(Departure(envelope, confirmed))
        self._wake()

    def next(self, now: float) -> Departure | None:
        if not self.waiting:
            return None
        departure = self.waiting.pop(0)
        self.in_flight[departure.envelope.msg_id] = (departure, now + self._resend_seconds)
        return departure

    def confirm(self, msg_id: str) -> bool:
        if self.in_flight.pop(msg_id, None) is None:
            return False
        self.confirmed.append(msg_id)
        return True

    def recall(self) -> None:
        self.recalls += 1
        self.waiting[:0] = [departure for departure, _ in self.in_flight.values()]
        self.in_flight.clear()

    def expire(self, now: float) -> float | None:
        late = [msg_id for msg_id, (_, due) in self.in_flight.items() if due <= now]
        self.waiting[:0] = [self.in_flight.pop(msg_id)[0] for msg_id in late]
        return min((due for _, due in self.in_flight.values()), default=None)

    def on_waiting(self, wake: Callable[[], None]) -> None:
        self._wake = wake
