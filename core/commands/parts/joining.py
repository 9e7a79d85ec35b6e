"""Joining the cloud again and again until it is done, and what to say meanwhile."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from pinnace.core.appliance.board import Board
from pinnace.core.appliance.settling import join_flags
from pinnace.core.appliance.wishes import Wishes
from pinnace.core.base.aio.backoff import Backoff
from pinnace.core.base.errors import LinkError, PinnaceError
from pinnace.core.commands import join
from pinnace.core.node.machine import Reader

REFUSED_SECONDS: Final = 120.0
"""After a refusal, which a person or time must change: the name is free again, the clock is right."""
LONGEST_SECONDS: Final = 60.0
"""At most between attempts to reach the cloud."""


class Joining:
    """One board's way into one cloud. Blocking: for a process that has nothing else to do."""

    def __init__(
        self, wishes: Wishes, name: str, *, root: Path, machine: str, before: Wishes | None, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        """`before`: what this board was made of, None when it is new. `machine` tells two cards of one name apart."""
        self._wishes = wishes
        self._name = name
        self._root = root
        self._machine = machine
        self._before = before
        self._sleep = sleep
        self.is_done = False
        self.address = ""

    def is_due(self, *, is_node: bool) -> bool:
        """Whether anything that joining writes down is wished otherwise than before."""
        if not is_node or self._before is None:
            return True
        return self._essence(self._wishes) != self._essence(self._before)

    def _essence(self, wishes: Wishes) -> tuple[object, ...]:
        return wishes.token, join_flags(wishes, wishes.node or self._name)

    def attempts(self, board: Board, *, limit: int = 0) -> Iterator[str]:
        """One sentence an attempt; the last one says that it is done, unless there are no more than `limit` attempts."""
        pause = Backoff(2.0, LONGEST_SECONDS)
        count = 0
        yield f"{self._wishes.cloud}: joining"
        while True:
            count += 1
            try:
                self._attempt(board)
            except PinnaceError as error:
                seconds = pause.next() if error.retryable else REFUSED_SECONDS
                self.address = Reader().address()
                yield self._sentence(error)
                if count == limit:
                    return
                self._sleep(seconds)
                continue
            self.address = Reader().address()
            self.is_done = True
            yield f"{self._wishes.cloud}: joined"
            return

    def _attempt(self, board: Board) -> None:
        parser = argparse.ArgumentParser()
        join.add_arguments(parser)
        flags = [*join_flags(self._wishes, self._name), "--root", str(self._root)]
        if board.is_node:
            flags.append("--force")
        args = parser.parse_args(flags)
        args.token = self._wishes.token
        join.join(args, machine=self._machine, set_clock=board.set_clock)

    def _sentence(self, error: PinnaceError) -> str:
        """The same for the same error: what differs is written to the card each time."""
        when = f"trying again within {LONGEST_SECONDS:.0f} s"
        if not error.retryable:
            when = f"trying again in {REFUSED_SECONDS:.0f} s, and when the board is switched on with another pinnace.yaml"
        is_cut_off = isinstance(error, LinkError) and not self.address
        network = "there is no network yet (cable, or wifi in pinnace.yaml); " if is_cut_off else ""
        return f"{self._wishes.cloud}: not joined: {network}{error}; {when}"
