"""One worker per object that has something to do: what happens to an object meanwhile is one more round for the same worker, objects run
in parallel, and a worker that has nothing left ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from pinnace.core.base.aio.backoff import Backoff
from pinnace.core.base.errors import PinnaceError

logger = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)

Reconcile = Callable[[K], Awaitable[None]]


class KeyWorkers(Generic[K]):
    """Runs `reconcile(key)` for each touched key, never twice at a time for one key and at most `parallel` at once.

    `reconcile` reads the newest state itself, so any number of touches during a round make one more round. A round that raises is
    repeated with back-off, or at once when the key is touched again.
    """

    def __init__(
        self,
        name: str,
        reconcile: Reconcile[K],
        *,
        parallel: int = 32,
        linger: float = 0.0,
        first_retry: float = 0.2,
        last_retry: float = 30.0,
    ) -> None:
        """`linger` seconds pass between a touch and its round, so that many touches make one; waiting keys are not among the `parallel`."""
        self._name = name
        self._reconcile = reconcile
        self._slots = asyncio.Semaphore(parallel)
        self._linger = linger
        self._retry = (first_retry, last_retry)
        self._touched: dict[K, asyncio.Event] = {}
        self._tasks: dict[K, asyncio.Task[None]] = {}
        self._is_closed = False

    def touch(self, key: K) -> None:
        """There may be something to do for `key`."""
        if self._is_closed:
            return
        event = self._touched.get(key)
        if event is not None:
            event.set()
            return
        event = self._touched[key] = asyncio.Event()
        event.set()
        task = asyncio.create_task(self._work(key, event), name=f"{self._name}:{key}")
        self._tasks[key] = task

    def __len__(self) -> int:
        """How many keys have a worker at this moment."""
        return len(self._tasks)

    async def idle(self) -> None:
        """Return when no worker is left."""
        while self._tasks:
            await asyncio.wait(list(self._tasks.values()))

    async def close(self) -> None:
        """End all workers; what they had not done is left undone."""
        self._is_closed = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self, key: K, event: asyncio.Event) -> None:
        backoff: Backoff | None = None
        try:
            while event.is_set():
                if self._linger:
                    await asyncio.sleep(self._linger)
                event.clear()
                try:
                    async with self._slots:
                        await self._reconcile(key)
                    backoff = None
                except Exception as error:  # noqa: BLE001 - the border of one object's work
                    backoff = backoff or Backoff(*self._retry)
                    delay = backoff.next()
                    self._say(key, error, delay)
                    await self._wait(event, delay)
                    event.set()
        finally:
            del self._touched[key]
            del self._tasks[key]

    def _say(self, key: K, error: Exception, delay: float) -> None:
        expected = isinstance(error, PinnaceError)
        logger.log(
            logging.WARNING if expected else logging.ERROR,
            "%s.failed key=%s retry_in=%.1fs error=%s", self._name, key, delay, str(error) or type(error).__name__,
            exc_info=None if expected else error,
        )  # fmt: skip

    @staticmethod
    async def _wait(event: asyncio.Event, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            pass
