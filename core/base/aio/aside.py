"""Blocking calls that may never come back: what they touch waits for a server or a disk that is away."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import errno
import threading
from collections.abc import Callable, Hashable
from typing import Any, Final, TypeVar

T = TypeVar("T")

SECONDS: Final = 10.0


class Aside:
    """Each call has a daemon thread of its own, so that one that hangs takes none from the loop's pool and does not hold up the end of the
    process. There is one call at a time for a key, thus never more threads than keys. Nobody waits longer than `seconds`."""

    def __init__(self, *, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._running: dict[Hashable, asyncio.Future[Any]] = {}

    async def call(self, key: Hashable, what: str, function: Callable[..., T], *args: object) -> T:
        """What the function returns or raises. Raises TimeoutError, which tells `what`, when it does not come back in time, or an earlier
        one of this key has not yet."""
        limit = asyncio.timeout(self._seconds)
        try:
            async with limit:
                while (before := self._running.get(key)) is not None:
                    await asyncio.wait([before])
                return await asyncio.shield(self._begin(key, function, args))
        except TimeoutError as error:
            if not limit.expired():
                raise
            text = f"{what}: no answer within {self._seconds:g} s; is the server or disk behind it there?"
            raise TimeoutError(errno.ETIMEDOUT, text) from error

    def _begin(self, key: Hashable, function: Callable[..., T], args: tuple[object, ...]) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        context = contextvars.copy_context()

        def settle(result: T | None, error: BaseException | None) -> None:
            del self._running[key]
            if error is not None:
                done.set_exception(error)
            else:
                done.set_result(result)  # type: ignore[arg-type]

        def work() -> None:
            result, problem = None, None
            try:
                result = context.run(function, *args)
            except BaseException as error:  # noqa: BLE001 - it is the caller's
                problem = error
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(settle, result, problem)

        thread = threading.Thread(target=work, name=f"aside {key}", daemon=True)
        thread.start()
        self._running[key] = done
        return done
