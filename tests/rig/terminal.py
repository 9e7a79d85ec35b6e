"""`pinnace up` as a person sees it: a terminal, what it prints, and other commands beside it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pinnace.core.base.cli import command_line
from rig.processes import free_port

PINNACE = command_line()
SECONDS = 100


class Terminal:
    """A `pinnace up` in the foreground, and the lines it has printed. `mapper` is how the mapper runs: process or pod."""

    def __init__(self, folder: Path, *arguments: str, mapper: str = "process") -> None:
        self.lines: list[str] = []
        usual = ["--port", "simulated", "--mapper", mapper, "--mqtt-port", str(free_port())]
        self.process = subprocess.Popen(
            [*PINNACE, "up", "--dir", str(folder), *usual, *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def until(self, pattern: str) -> re.Match[str]:
        """The first line that matches, waited for."""
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            for line in self.lines:
                if found := re.search(pattern, line):
                    return found
            assert self.process.poll() is None, f"{pattern}: ended before\n{self.text}"
            time.sleep(0.02)
        raise AssertionError(f"{pattern}: not printed\n{self.text}")

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def children(self) -> dict[str, int]:
        return {name: int(pid) for name, pid in re.findall(r"^(\w+) +process (\d+), ready after", self.text, re.MULTILINE)}

    def wait(self) -> int:
        code = self.process.wait(SECONDS)
        self._reader.join()
        return code


@contextlib.contextmanager
def up(folder: Path, *arguments: str, mapper: str = "process") -> Iterator[Terminal]:
    terminal = Terminal(folder, *arguments, mapper=mapper)
    try:
        yield terminal
    finally:
        if terminal.process.poll() is None:
            terminal.process.send_signal(signal.SIGTERM)
        terminal.wait()


def pinnace(*arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PINNACE, *arguments], capture_output=True, text=True, timeout=SECONDS, env={**os.environ, **(environment or {})}, check=False
    )


def until(condition: Callable[[], Any], *, more: Callable[[], str] = str) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, more()
        time.sleep(0.02)
