"""One property's dealings between what is wanted and what the device does: the decisions, without the waiting. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Slot:
    """`wanted` is the newest desired text not yet applied, `refused` the one the device has no such value for, `actual` the text last
    seen on the device ("" when unknown)."""

    wanted: str | None = None
    refused: str | None = None
    actual: str = ""
    fault: str = ""

    def want(self, value: str) -> bool:
        """A desired value arrived; True when there is something new to do."""
        if value in {self.wanted, self.refused}:
            return False
        if self.wanted is None and value == self.actual:
            self.fault = ""
            self.refused = None
            return False
        self.wanted = value
        self.refused = None
        return True

    def applied(self, value: str) -> None:
        """`value` was written. A newer wanted one stays."""
        if self.wanted == value:
            self.wanted = None
        self.fault = ""

    def refuse(self, value: str, reason: str) -> None:
        """The device has no such value; it is left as it is."""
        if self.wanted == value:
            self.wanted = None
        self.refused = value
        self.fault = reason

    def failed(self, reason: str) -> bool:
        """An attempt failed and will be repeated; True when this is news."""
        is_news = self.fault != reason
        self.fault = reason
        return is_news

    def seen(self, value: str) -> bool:
        """The device shows `value`; True when it changed."""
        has_changed = value != self.actual
        self.actual = value
        return has_changed
