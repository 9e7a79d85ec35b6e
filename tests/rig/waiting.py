"""Waiting for what only asking again, or looking again, can tell."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any


async def eventually(
    ask: Callable[[], Awaitable[Any]],
    wanted: Callable[[Any], object],
    *,
    seconds: float = 20.0,
    pause: float = 0.02,
    what: str = "",
    more: Callable[[], str] = str,
) -> Any:
    """Ask until the answer satisfies `wanted`: that answer. Raises AssertionError after `seconds`, with `what` was waited for, the last
    answer's beginning and what `more` has to say."""
    answer: Any = None
    try:
        async with asyncio.timeout(seconds):
            while True:
                answer = await ask()
                if wanted(answer):
                    return answer
                await asyncio.sleep(pause)
    except TimeoutError:
        raise AssertionError(f"not seen within {seconds:g} s: {what or 'as wanted'}; last: {str(answer)[:4000]}\n{more()}") from None


async def until(
    condition: Callable[[], object],
    what: str = "what was waited for",
    *,
    seconds: float = 20.0,
    pause: float = 0.005,
    more: Callable[[], str] = str,
) -> None:
    """Look until `condition` holds; the loop goes on meanwhile. Raises AssertionError after `seconds`: with `what`, and what `more` has
    to say."""
    try:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(pause)
    except TimeoutError:
        raise AssertionError(f"{what} did not happen within {seconds:g} s\n{more()}") from None
