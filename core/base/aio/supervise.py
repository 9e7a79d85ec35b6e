"""Keeping a service's `run()` alive: restart with back-off, one log line per failure."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from pinnace.core.base.aio.backoff import Backoff

logger = logging.getLogger(__name__)


async def supervise(name: str, run: Callable[[], Awaitable[None]], backoff: Backoff) -> None:
    """Run `run` for ever. Ending is a failure too: a service that returns is started again after the back-off's delay."""
    while True:
        try:
            await run()
            logger.error("service.ended name=%s: it should run for ever; starting it again", name)
        except asyncio.CancelledError:
            raise
        except Exception:  # the supervision border
            logger.exception("service.failed name=%s", name)
            current = asyncio.current_task()
            if current is not None and current.cancelling():  # it failed while it was being stopped
                raise asyncio.CancelledError from None
        await asyncio.sleep(backoff.next())
