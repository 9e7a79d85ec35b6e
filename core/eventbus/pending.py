"""What waits for a broker that is away or slow."""

from __future__ import annotations

import logging
from collections import deque

logger = logging.getLogger(__name__)

BOUND = 4096
BYTES_BOUND = 4 << 20


class Publications:
    """First in, first out; beyond the bound in number or bytes the oldest goes, counted, one log line per burst.

    Dropping is safe for twins, whose deltas are published again after each connect; a rule's message downwards is lost then, as it is
    unconfirmed in KubeEdge too.
    """

    def __init__(self, name: str, *, bound: int = BOUND, bytes_bound: int = BYTES_BOUND) -> None:
        self._name = name
        self._bound = bound
        self._bytes_bound = bytes_bound
        self._items: deque[tuple[str, bytes]] = deque()
        self._size = 0
        self.dropped = 0

    def put(self, topic: str, payload: bytes) -> None:
        self._items.append((topic, payload))
        self._size += len(topic) + len(payload)
        while len(self._items) > self._bound or (self._size > self._bytes_bound and len(self._items) > 1):
            self.take()
            self.dropped += 1
            if self.dropped == 1:
                logger.warning("mqtt.queue-full server=%s bound=%d: the oldest publications are dropped", self._name, self._bound)

    def take(self) -> tuple[str, bytes]:
        """The oldest publication. Raises IndexError when there is none."""
        topic, payload = self._items.popleft()
        self._size -= len(topic) + len(payload)
        if not self._items and self.dropped:
            logger.warning("mqtt.queue-drained server=%s dropped=%d", self._name, self.dropped)
            self.dropped = 0
        return topic, payload

    def __len__(self) -> int:
        return len(self._items)
