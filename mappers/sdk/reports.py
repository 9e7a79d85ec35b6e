"""What is still to be reported: the newest value of each property until the edge confirmed it; one message in flight. Pure."""

from __future__ import annotations

from collections.abc import Mapping


class Reports:
    """At most one report is under way, because an edge may process two that arrive together in either order; what is put meanwhile goes
    with the next one, the newest value of each property only."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._number = 0
        self._pending: dict[str, str] = {}
        self._flying: dict[str, str] = {}
        self._flight = ""

    def put(self, values: Mapping[str, str]) -> None:
        self._pending.update(values)

    def depart(self) -> tuple[str, dict[str, str]] | None:
        """The next report to publish as (event id, values), or None while one is under way or nothing is to be said."""
        if self._flight or not self._pending:
            return None
        self._number += 1
        self._flight = f"{self._prefix}-{self._number}"
        self._flying, self._pending = self._pending, {}
        return self._flight, self._flying

    def arrive(self, event_id: str) -> bool:
        """The edge answered; False when it is not the answer to the report under way."""
        if not event_id or event_id != self._flight:
            return False
        self._flight = ""
        self._flying = {}
        return True

    def lose(self) -> None:
        """The report under way was not answered: its values are to be said again unless newer ones are."""
        self._pending = {**self._flying, **self._pending}
        self._flight = ""
        self._flying = {}

    def clear(self) -> None:
        self._pending = {}
        self._flying = {}
        self._flight = ""

    def is_open(self, name: str, value: str) -> bool:
        """Whether this value of the property is on its way or waiting."""
        return self._pending.get(name, self._flying.get(name)) == value

    @property
    def is_flying(self) -> bool:
        return bool(self._flight)
