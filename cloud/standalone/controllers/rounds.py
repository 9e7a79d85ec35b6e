"""What a controller has to look at: keys in line, each once, worked through one after the other."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from pinnace.cloud.standalone.status import ApiError

logger = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)

FIRST_RETRY_SECONDS = 0.05
LAST_RETRY_SECONDS = 30.0


class Rounds(Generic[K]):
    """Any number of touches of a key that waits make one round. `reconcile` reads the newest state itself, and may return after how many
    seconds it wants to look again. One that fails comes again, later each time, and holds up no other; a touch in the midst of a round that
    fails waits as long, for what the round wrote touches its key as well."""

    def __init__(self, name: str, reconcile: Callable[[K], Awaitable[float | None]]) -> None:
        self._name = name
        self._reconcile = reconcile
        self._due: OrderedDict[K, None] = OrderedDict()
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._delays: dict[K, float] = {}
        self._wake = asyncio.Event()

    def touch(self, key: K) -> None:
        """There may be something to do for `key`."""
        self._due[key] = None
        self._wake.set()

    async def run(self) -> None:
        """For ever, or until a round fails with what is no answer of the API; run again, it goes on with the next key."""
        while True:
            while self._due:
                key, _ = self._due.popitem(last=False)
                await self._round(key)
            self._wake.clear()
            await self._wake.wait()

    async def _round(self, key: K) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        again: float | None = None
        try:
            again = await self._reconcile(key)
            self._delays.pop(key, None)
        except ApiError as error:
            again = self._delay(key)
            if error.code not in {404, 409}:
                logger.warning("api.%s.failed key=%s retry_in=%.2fs error=%s", self._name, key, again, error.message)
        except Exception:
            again = self._delay(key)
            raise
        finally:
            if again is not None and key not in self._due:
                self._timers[key] = asyncio.get_running_loop().call_later(max(0.0, again), self._timed, key)

    def _delay(self, key: K) -> float:
        """Seconds until a key that failed once more comes again, and not before, whatever its round touched."""
        self._due.pop(key, None)
        self._delays[key] = min(LAST_RETRY_SECONDS, 2 * self._delays.get(key, FIRST_RETRY_SECONDS / 2))
        return self._delays[key]

    def _timed(self, key: K) -> None:
        self._timers.pop(key, None)
        self.touch(key)
