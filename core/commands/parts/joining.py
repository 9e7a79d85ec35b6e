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
from pinnace.core.commands.parts.joined import Joined
from pinnace.core.node.machine import Reader

REFUSED_SECONDS: Final = 120.0
"""After a refusal, which a person or time must change: the name is free again, the clock is right."""
LONGEST_SECONDS: Final = 60.0
"""At most between attempts to reach the cloud."""


class Joining:
    """One board's way into one cloud. Blocking: for a process that has nothing else to do."""

    def __init__(self, wishes: Wishes, name: str, *, root: Path, machine: str, sleep: Callable[[float], None] = time.sleep) -> None:
        """`name` is the node's; `machine` tells two cards of one name apart."""
        self.wishes = wishes
        self.name = name
        self._root = root
        self._machine = machine
        self._sleep = sleep
        self._joined = Joined(root / join.CONFIG, join.configuration(self._flags(), name))
        self._is_kept = False
        self.is_done = False
        self.is_changed = False
        """Whether the edge must start anew for what was done."""
        self.address = ""

    def flaw(self) -> str:
        """Why the cloud must be asked, and a token is needed; "" when this board is the wished node already."""
        return self._joined.flaw(self.wishes.token)

    def attempts(self, board: Board, *, limit: int = 0) -> Iterator[str]:
        """One sentence an attempt; the last one says that it is done, unless there are no more than `limit` attempts."""
        pause = Backoff(2.0, LONGEST_SECONDS)
        count = 0
        if self.flaw():
            yield f"{self.wishes.cloud}: joining"
        while True:
            count += 1
            try:
                done = self._attempt(board)
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
            yield f"{self.wishes.cloud}: {done}"
            return

    def _attempt(self, board: Board) -> str:
        """What was done. What is there is looked at each time: a clock that was set may make a certificate good. Raises PinnaceError."""
        self._is_kept = not self.flaw()
        if self._is_kept:
            self.is_changed = self._joined.follow()
            return f"joined before, {'labels or the tunnel are new' if self.is_changed else 'nothing has changed'}"
        join.join(self._flags(*(["--force"] if board.is_node else [])), machine=self._machine, set_clock=board.set_clock)
        self.is_changed = True
        return "joined"

    def _flags(self, *more: str) -> argparse.Namespace:
        parser = argparse.ArgumentParser()
        join.add_arguments(parser)
        args = parser.parse_args([*join_flags(self.wishes, self.name), "--root", str(self._root), *more])
        args.token = self.wishes.token
        return args

    def _sentence(self, error: PinnaceError) -> str:
        """The same for the same error: what differs is written to the card each time."""
        when = f"trying again within {LONGEST_SECONDS:.0f} s"
        if not error.retryable:
            when = f"trying again in {REFUSED_SECONDS:.0f} s, and when the board is switched on with another pinnace.yaml"
        is_cut_off = isinstance(error, LinkError) and not self.address
        network = "there is no network yet (cable, or wifi in pinnace.yaml); " if is_cut_off else ""
        outcome = "joined before, but what is new does not count:" if self._is_kept else "not joined:"
        return f"{self.wishes.cloud}: {outcome} {network}{error}; {when}"
