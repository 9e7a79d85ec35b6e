"""What applications publish for the cloud, on its way into the outbox, and the acknowledgements that wait for the disk."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from pinnace.core.base.aio.backoff import Backoff
from pinnace.core.base.contract import envelopes
from pinnace.core.base.contract.classes import USER_DATA
from pinnace.core.base.contract.envelopes import Envelope, Group, Operation, Source
from pinnace.core.base.errors import StoreError
from pinnace.core.base.ports import Outbox

logger = logging.getLogger(__name__)

MAX_PAYLOAD: Final = 4 << 20
"""Bytes of one upload. As JSON text it may grow sixfold, and a frame carries 32 MiB (docs/protocol.md)."""
REFUSED_BOUND: Final = 1000
REFUSED_BYTES_BOUND: Final = 4 << 20

Acknowledge = Callable[[], None]


def compose(subject: str, items: Mapping[str, bytes]) -> Envelope:
    """The user message of one upload: `subject` is its id, so that the cloud can tell a repetition; the item is topic → payload.

    As in KubeEdge the content is a JSON string: bytes that are no UTF-8 become U+FFFD.
    """
    ((topic, payload),) = items.items()
    envelope = envelopes.new(Source.BUS, Group.USER, Operation.UPLOAD, topic, payload.decode(errors="replace"))
    envelope.msg_id = subject
    return envelope


class Uploads:
    """Puts uploads into the outbox in order and acknowledges those of QoS 1 once `committed` says that they are on disk.

    While the store refuses, uploads wait here, up to a bound; beyond it the newest are left to the broker (QoS 1) or dropped (QoS 0).
    `redeliver` is called when the store takes some again: the broker is to send what was left to it. Without `committed` the
    acknowledgement leaves at once, ahead of the group commit.
    """

    def __init__(
        self,
        outbox: Outbox,
        *,
        committed: Callable[[], Awaitable[None]] | None,
        redeliver: Callable[[], None],
        backoff: Backoff | None = None,
    ) -> None:
        self._outbox = outbox
        self._committed = committed
        self._redeliver = redeliver
        self._backoff = backoff or Backoff(0.5, 10.0)
        self._unacknowledged: list[Acknowledge] = []
        self._refused: deque[tuple[str, bytes, Acknowledge | None]] = deque()
        self._refused_bytes = 0
        self._skipped = 0
        self._left_to_broker = False
        self._wake = asyncio.Event()
        outbox.compose_with(USER_DATA, compose)

    def put(self, topic: str, payload: bytes, acknowledge: Acknowledge | None) -> None:
        """Take one message. Never waits."""
        if len(payload) > MAX_PAYLOAD:
            logger.warning("eventbus.upload-too-large topic=%s bytes=%d bound=%d: dropped", topic[:256], len(payload), MAX_PAYLOAD)
            if acknowledge is not None:
                acknowledge()
            return
        if self._refused or not self._store(topic, payload, acknowledge):
            self._keep(topic, payload, acknowledge)

    def _store(self, topic: str, payload: bytes, acknowledge: Acknowledge | None) -> bool:
        try:
            self._outbox.put(USER_DATA, envelopes.new_id(), topic, payload)
        except StoreError as error:
            if not self._refused:
                logger.warning("eventbus.upload-refused topic=%s: %s; trying on", topic[:256], error)
            return False
        if acknowledge is None:
            return True
        if self._committed is None:
            acknowledge()
        else:
            self._unacknowledged.append(acknowledge)
            self._wake.set()
        return True

    def _keep(self, topic: str, payload: bytes, acknowledge: Acknowledge | None) -> None:
        if len(self._refused) >= REFUSED_BOUND or self._refused_bytes >= REFUSED_BYTES_BOUND:
            self._skipped += 1
            self._left_to_broker |= acknowledge is not None
            if self._skipped == 1:
                logger.error("eventbus.uploads-full bound=%d: new ones of QoS 0 are lost until the store takes some", REFUSED_BOUND)
            return
        self._refused.append((topic, payload, acknowledge))
        self._refused_bytes += len(payload)
        self._wake.set()

    async def run(self) -> None:
        """Wait for the disk, acknowledge, try again what was refused; for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._retry() and await self._acknowledge():
                self._backoff.reset()
            else:
                await asyncio.sleep(self._backoff.next())
                self._wake.set()

    def _retry(self) -> bool:
        while self._refused:
            topic, payload, acknowledge = self._refused[0]
            if not self._store(topic, payload, acknowledge):
                return False
            self._refused.popleft()
            self._refused_bytes -= len(payload)
        if self._skipped:
            logger.warning("eventbus.uploads-resumed skipped=%d", self._skipped)
            self._skipped = 0
        if self._left_to_broker:
            self._left_to_broker = False
            self._redeliver()
        return True

    async def _acknowledge(self) -> bool:
        if self._committed is None or not self._unacknowledged:
            return True
        batch, self._unacknowledged = self._unacknowledged, []
        try:
            await self._committed()
        except BaseException as error:
            self._unacknowledged[:0] = batch
            if not isinstance(error, StoreError):
                raise
            return False
        for acknowledge in batch:
            acknowledge()
        return True
