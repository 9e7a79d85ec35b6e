"""The store's writer as the outbox sees it: rows on a disk that is a dict."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from pinnace.core.meta.database import Statement


class FakeRows:
    """Implements meta.outbox.Rows. `write` is the group commit; `disk` is seq → (class, subject, item, body)."""

    def __init__(self) -> None:
        self.batch = 0
        self.waiting: dict[Hashable, Statement] = {}
        self.disk: dict[int, tuple[str, str, str, bytes]] = {}
        self.written = 0

    def put(self, key: Hashable, statement: Statement) -> None:
        self.waiting.pop(key, None)
        self.waiting[key] = statement

    def drop(self, key: Hashable, deletion: Statement, batch: int) -> None:
        if batch == self.batch:
            self.waiting.pop(key, None)
        else:
            self.put(key, deletion)

    def write(self) -> None:
        self.batch += 1
        for sql, parameters in self.waiting.values():
            self._apply(sql, parameters)
        self.waiting.clear()

    def _apply(self, sql: str, parameters: tuple[Any, ...]) -> None:
        self.written += 1
        if sql.startswith("INSERT"):
            self.disk[parameters[0]] = parameters[1:]
        else:
            assert parameters[0] in self.disk, "a row that was never written is deleted"
            del self.disk[parameters[0]]
