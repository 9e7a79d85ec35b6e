"""Delays between attempts: exponential with full jitter, pure, the random source injected."""

from __future__ import annotations

from collections.abc import Callable
from random import random


class Backoff:
    """Delays in seconds that grow from `first` to `limit`; `reset` after a success.

    Each delay is drawn uniformly from the upper half of the current step, so that many nodes do not return at the same instant and
    none returns at once.
    """

    def __init__(self, first: float, limit: float, *, factor: float = 2.0, draw: Callable[[], float] = random) -> None:
        if not 0 < first <= limit:
            raise ValueError("back-off needs 0 < first <= limit")
        self._first = first
        self._limit = limit
        self._factor = factor
        self._draw = draw
        self._step = first

    def next(self) -> float:
        step = self._step
        self._step = min(step * self._factor, self._limit)
        return step * (0.5 + 0.5 * self._draw())

    def reset(self) -> None:
        self._step = self._first
