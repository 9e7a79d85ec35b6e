"""Child processes that say when they are ready, end with their parent, and whose end is noticed."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

from pinnace.cloud.local.record import Process, start_time
from pinnace.core.base.errors import PinnaceError

READY_SECONDS = 60.0
STOP_SECONDS = 15.0
_PR_SET_PDEATHSIG = 1  # prctl(2)
_IN_USE = os.strerror(errno.EADDRINUSE).lower()
_LIBC = ctypes.CDLL(None, use_errno=True)


class ChildFailed(PinnaceError):
    """A child ended or is not ready; the message names its log and shows the last lines."""


class PortLost(ChildFailed):
    """It ended because a port it was given is somebody else's by now."""


class Child:
    """One process; its output goes to `log`. With `says_ready` it is handed `--ready-fd`; without, `is_ready` is asked until it says so."""

    def __init__(
        self, name: str, command: Sequence[str], log: Path, *, says_ready: bool = True, is_ready: Callable[[], bool] = lambda: True
    ) -> None:
        self.name = name
        self.log = log
        self._command = list(command)
        self._says_ready = says_ready
        self._is_ready = is_ready
        self._process: asyncio.subprocess.Process | None = None
        self.identity: Process | None = None
        self._log_begin = 0

    async def start(self) -> None:
        """Start it and return when it is ready. Raises ChildFailed."""
        read, write = os.pipe()
        parent = os.getpid()

        def die_with_parent() -> None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(1)

        ready = ["--ready-fd", str(write)] if self._says_ready else []
        try:
            with self.log.open("ab") as out:
                self._log_begin = out.tell()
                self._process = await asyncio.create_subprocess_exec(
                    *self._command,
                    *ready,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    pass_fds=[write] if self._says_ready else [],
                    start_new_session=True,  # Ctrl-C is for us alone: we end the children in order
                    preexec_fn=die_with_parent,
                )
        except OSError as error:
            os.close(read)
            raise ChildFailed(f"{self.name}: {self._command[0]} cannot be started: {error.strerror}") from error
        finally:
            os.close(write)
        self.identity = Process(self.name, self._process.pid, start_time(self._process.pid) or 0, str(self.log))
        try:
            async with asyncio.timeout(READY_SECONDS):
                await (self._until_said(read) if self._says_ready else self._until_true())
        except TimeoutError:
            raise ChildFailed(f"{self.name} is not ready after {READY_SECONDS:g} s; {self._last_words()}") from None
        finally:
            os.close(read)

    async def _until_said(self, descriptor: int) -> None:
        loop = asyncio.get_running_loop()
        said: asyncio.Future[bytes] = loop.create_future()

        def readable() -> None:
            loop.remove_reader(descriptor)
            if not said.done():
                said.set_result(os.read(descriptor, 16))

        loop.add_reader(descriptor, readable)
        try:
            if not await said:
                await self.failed()
        finally:
            loop.remove_reader(descriptor)

    async def _until_true(self) -> None:
        assert self._process is not None
        while not self._is_ready():
            if self._process.returncode is not None:
                await self.failed()
            await asyncio.sleep(0.02)

    async def failed(self) -> None:
        """Wait for the end, which nobody asked for, and raise ChildFailed."""
        assert self._process is not None
        code = await self._process.wait()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        lost = any(_IN_USE in line.lower() for line in self.tail(8))
        raise (PortLost if lost else ChildFailed)(f"{self.name} {how}; {self._last_words()}")

    async def stop(self) -> None:
        """SIGTERM, later SIGKILL; returns when it is gone."""
        if self._process is None or self._process.returncode is not None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_SECONDS):
                    await self._process.wait()
                    return

    def tail(self, lines: int) -> list[str]:
        """The last lines that this process, no earlier one, wrote into its log."""
        try:
            return self.log.read_bytes()[self._log_begin :].decode(errors="replace").splitlines()[-lines:]
        except OSError:
            return []

    def _last_words(self) -> str:
        return "\n  ".join([f"its log is {self.log}", *self.tail(8)])
