"""A broker of our own: a mosquitto child with a generated configuration, started again when it ends, ended with us."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pinnace.core.base import bundle
from pinnace.core.base.aio.backoff import Backoff
from pinnace.core.base.errors import LinkError
from pinnace.core.eventbus.brokerfiles import Account, BrokerFiles, own_account
from pinnace.core.eventbus.settings import BrokerAddress

logger = logging.getLogger(__name__)

READY_SECONDS: Final = 3.0
"""When a mosquitto that does not say so (before 2.0) is taken to be listening."""
STOP_ATTEMPTS: Final = 10
STOP_SECONDS: Final = 0.5
ORPHAN_ATTEMPTS: Final = 100
STEADY_SECONDS: Final = 30.0
"""A broker that lived that long starts again at once; one that did not waits longer and longer."""
_PR_SET_PDEATHSIG: Final = 1
_PLACES: Final = "/usr/sbin:/usr/local/sbin:/usr/local/bin"


class Broker:
    """One mosquitto; `run` for ever. `folder` keeps its configuration and what it persists; `report` is told what keeps it from
    running, "" once it does. With `username` and `password` it refuses everybody else.

    When we are root it runs as the user mosquitto, or nobody. The kernel ends it when we die, however we die.
    """

    def __init__(
        self,
        address: BrokerAddress,
        *,
        folder: Path,
        report: Callable[[str], None],
        username: str = "",
        password: str = "",
        queue_size: int = 100,
        backoff: Backoff | None = None,
    ) -> None:
        self.address = address
        self.ready = asyncio.Event()
        """Set while the child accepts connections."""
        self.pid = 0
        """The child's process id, 0 when there is none."""
        self._folder = folder
        self._report = report
        self._credentials = (username, password)
        self._queue_size = queue_size
        self._backoff = backoff or Backoff(0.1, 10.0)
        self._fault = ""

    async def run(self) -> None:
        """Keep the child running, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            self._fault = ""
            try:
                await self._run_once()
            except (OSError, LinkError) as error:
                self._report(str(error))
            if loop.time() - started > STEADY_SECONDS:
                self._backoff.reset()
            await asyncio.sleep(self._backoff.next())

    async def _run_once(self) -> None:
        program = _program()
        account = own_account()
        files = BrokerFiles(self._folder, account)
        files.write(self.address, *self._credentials, queue_size=self._queue_size, verbose=logger.isEnabledFor(logging.DEBUG))
        await self._end_orphan()
        process = await asyncio.create_subprocess_exec(
            program,
            "-c",
            "mosquitto.conf",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={"PATH": os.defpath},  # a frozen program's library path is not for its children
            start_new_session=True,  # a Ctrl-C in our terminal is ours to answer
            preexec_fn=_preparation(self._folder, os.getpid(), account),
        )
        self.pid = process.pid
        patience = asyncio.get_running_loop().call_later(READY_SECONDS, self._is_ready)
        try:
            with contextlib.suppress(OSError):  # a full disk: then an orphan is not recognised
                self._pid_file.write_text(f"{process.pid}\n")
            assert process.stderr is not None
            await self._read_log(process.stderr)
            status = await process.wait()
            logger.warning("broker.ended pid=%d status=%d", process.pid, status)
            raise LinkError(f"mosquitto ended with status {status}{': ' if self._fault else ''}{self._fault}")
        finally:
            patience.cancel()
            self.ready.clear()
            self.pid = 0
            await _end(process)

    @property
    def _pid_file(self) -> Path:
        return self._folder / "pid"

    async def _end_orphan(self) -> None:
        """End a child of an earlier run that overlooked the kernel's signal: it holds the port and the database."""
        try:
            pid = int(self._pid_file.read_text())
        except (OSError, ValueError):
            return
        for attempt in range(ORPHAN_ATTEMPTS):
            if not _is_mosquitto_in(pid, self._folder):
                return
            if attempt == 0:
                logger.warning("broker.orphan pid=%d: a broker of an earlier run is ended first", pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM if attempt < ORPHAN_ATTEMPTS // 2 else signal.SIGKILL)
            await asyncio.sleep(STOP_SECONDS / 10)

    def _is_ready(self) -> None:
        if not self.ready.is_set():
            logger.info("broker.running pid=%d address=%s:%d", self.pid, self.address.host, self.address.port)
            self._report("")
            self.ready.set()

    async def _read_log(self, stream: asyncio.StreamReader) -> None:
        while True:
            try:
                line = await stream.readline()
            except ValueError:  # longer than the stream's bound; the rest of it is read as the next line
                continue
            if not line:
                return
            self._log(line.decode(errors="replace").strip())

    def _log(self, line: str) -> None:
        text = line if line.isprintable() else ascii(line)
        if text.startswith("Error:"):
            self._fault = text.removeprefix("Error:").strip()
            logger.error("broker.said %s", text)
        elif text.startswith("Warning:"):
            logger.warning("broker.said %s", text)
        else:
            logger.debug("broker.said %s", text)
            if text.endswith(" running"):
                self._is_ready()


def _program() -> str:
    found = shutil.which(bundle.program("mosquitto")) or shutil.which("mosquitto", path=_PLACES)
    if found is None:
        raise LinkError("mosquitto is not installed; install it (apt install mosquitto) or set mqttMode: 2 and run a broker elsewhere")
    return found


def _is_mosquitto_in(pid: int, folder: Path) -> bool:
    """Is that process, its number perhaps used again, a mosquitto of this folder?"""
    process = Path(f"/proc/{pid}")
    try:
        return (process / "comm").read_text().strip() == "mosquitto" and (process / "cwd").samefile(folder)
    except OSError:
        return False


def _preparation(folder: Path, parent: int, account: Account | None) -> Callable[[], None]:
    """What the child does between fork and exec. The order matters: only root may be able to enter the folder, and who changes users
    is no longer ended with the parent."""
    import ctypes  # only who runs a broker pays for it

    prctl = ctypes.CDLL(None).prctl

    def prepare() -> None:
        os.chdir(folder)
        if account is not None:
            os.setgroups([])
            os.setgid(account.gid)
            os.setuid(account.uid)
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))
        if os.getppid() != parent:
            os._exit(1)  # we died meanwhile

    return prepare


async def _end(process: asyncio.subprocess.Process) -> None:
    """SIGTERM, so that it writes down what must survive; SIGKILL if it takes too long. One that starts just now overlooks a SIGTERM."""
    for _ in range(STOP_ATTEMPTS):
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError, TimeoutError):
            process.terminate()
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()
