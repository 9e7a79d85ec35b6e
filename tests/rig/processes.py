"""Child processes that say when they are ready, and that a test may stop, kill and start again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

READY_SECONDS = 60.0


def pinnace(*arguments: str) -> list[str]:
    """The command line of a Pinnace sub-command in this interpreter."""
    return [sys.executable, "-m", "pinnace.core.base.cli", *arguments]


def children_of(pid: int | str = "self") -> set[int]:
    """Those of all its threads, of which one may end meanwhile: another has its children then. None when there is no such process."""
    tasks = Path(f"/proc/{pid}/task")
    while tasks.exists():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            return {int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()}
    return set()


def free_port() -> int:
    """A TCP port of loopback that nobody has right now. The kernel gives none of these to others (ip_local_port_range): whoever was told of
    one finds it free, also after a restart."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


async def until_listening(port: int, *, seconds: float = READY_SECONDS) -> None:
    """Return when something accepts on a port of loopback."""
    async with asyncio.timeout(seconds):
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.01)


class Child:
    """One process. Its output goes to `log`; with `says_ready` it is handed `--ready-fd` and `start` waits for it."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        *,
        says_ready: bool = True,
        port: int = 0,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.command = list(command)
        self.log = log
        self._says_ready = says_ready
        self._port = port
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    async def start(self, *, wait: bool = True) -> None:
        """Start it and, unless told otherwise, wait until it is ready. Raises AssertionError with the log's end when it is not."""
        assert not self.is_running, f"{self.name} runs already"
        read, write = os.pipe()
        extra = ["--ready-fd", str(write)] if self._says_ready else []
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                [*self.command, *extra],
                pass_fds=[write] if self._says_ready else [],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=self._environment,
            )
        os.close(write)
        try:
            if wait and self._says_ready:
                said = await asyncio.wait_for(asyncio.to_thread(os.read, read, 16), READY_SECONDS)
                assert said, f"{self.name} ended at once:\n{self.tail()}"
            elif wait and self._port:
                await until_listening(self._port)
        except TimeoutError:
            raise AssertionError(f"{self.name} is not ready after {READY_SECONDS:g} s:\n{self.tail()}") from None
        finally:
            os.close(read)

    async def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """SIGTERM, and wait for its end; gives the exit code."""
        return await self._end(signal.SIGTERM)

    async def _end(self, number: int) -> int:
        process = self._process
        if process is None:
            return 0
        if process.poll() is None:
            process.send_signal(number)
        try:
            return await asyncio.to_thread(process.wait, 20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"{self.name} did not end within 20 s:\n{self.tail()}") from None

    def tail(self, lines: int = 25) -> str:
        if not self.log.exists():
            return "(no log)"
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
