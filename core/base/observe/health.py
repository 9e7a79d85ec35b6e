"""Health facts: what is wrong right now, by name. A service states a fact; the Node's conditions and the log are where people see it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

logger = logging.getLogger(__name__)

REPORTED: Final = "reported"
"""Milestone: the cloud took this run's report of the node's status."""


class Health:
    """Problems by fact name; a fact without one is fine. For one event loop."""

    def __init__(self) -> None:
        self._problems: dict[str, str] = {}
        self._listeners: list[Callable[[], None]] = []
        self._reached: set[str] = set()

    def set(self, name: str, problem: str = "") -> None:
        """State a fact: `problem` says what is wrong and what to do, "" that all is well. Logged when it changes."""
        if self._problems.get(name, "") == problem:
            return
        if problem:
            self._problems[name] = problem
            logger.error("health.degraded fact=%s: %s", name, problem)
        else:
            del self._problems[name]
            logger.info("health.recovered fact=%s", name)
        for listener in self._listeners:
            listener()

    def reach(self, milestone: str) -> None:
        """Something that this process waits for in its life happened: the cloud knows that the node is Ready, say."""
        self._reached.add(milestone)

    def has_reached(self, milestone: str) -> bool:
        return milestone in self._reached

    def problem(self, name: str) -> str:
        return self._problems.get(name, "")

    @property
    def problems(self) -> dict[str, str]:
        return dict(self._problems)

    def on_change(self, listener: Callable[[], None]) -> None:
        self._listeners.append(listener)
