"""A broker of our own: a mosquitto child with a generated configuration, started again when it ends, ended with us."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import logging
import os
import pwd
import secrets
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from pinnace.core.base.aio.backoff import Backoff
from pinnace.core.base.errors import LinkError
from pinnace.core.eventbus.settings import BrokerAddress

logger = logging.getLogger(__name__)

READY_SECONDS: Final = 3.0
"""When a mosquitto that does not say so (before 2.0) is taken to be listening."""
STOP_ATTEMPTS: Final = 10
STOP_SECONDS: Final = 0.5
ORPHAN_ATTEMPTS: Final = 100
STEADY_SECONDS: Final = 30.0
"""A broker that lived that long starts again at once; one that did not waits longer and longer."""
MIN_QUEUED: Final = 10_000
MAX_QUEUED_BYTES: Final = 16 << 20
MAX_MESSAGE: Final = 8 << 20
_HASH_ROUNDS: Final = 101
_PR_SET_PDEATHSIG: Final = 1
_PLACES: Final = "/usr/sbin:/usr/local/sbin:/usr/local/bin"


class Account(NamedTuple):
    """Whom the broker runs as when we are root."""

    name: str
    uid: int
    gid: int


def password_line(username: str, password: str, salt: bytes) -> str:
    """A line of mosquitto's password file (PBKDF2 with SHA-512, as mosquitto_passwd 2.0 writes it)."""
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _HASH_ROUNDS)
    return f"{username}:$7${_HASH_ROUNDS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}\n"


def configuration(address: BrokerAddress, *, guarded: bool, queue_size: int, verbose: bool) -> str:
    """mosquitto.conf; every path is relative to the folder the child runs in. `guarded` asks clients for the password."""
    lines = [
        f"listener {address.port} {address.host}",
        f"allow_anonymous {str(not guarded).lower()}",
        *(["password_file passwords"] if guarded else []),
        "set_tcp_nodelay true",
        "persistence true",
        "persistence_location ./data/",
        "autosave_interval 300",
        "max_inflight_messages 1000",
        f"max_queued_messages {max(queue_size, MIN_QUEUED)}",
        f"max_queued_bytes {MAX_QUEUED_BYTES}",
        f"message_size_limit {MAX_MESSAGE}",
        "log_dest stderr",
        "log_timestamp false",
        "log_type error",
        "log_type warning",
        "log_type information",
        *(["log_type notice"] if verbose else []),
        f"connection_messages {str(verbose).lower()}",
    ]
    return "\n".join([*lines, ""])


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
        account = _account()
        self._write(account)
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
        self._pid_file.write_text(f"{process.pid}\n")
        patience = asyncio.get_running_loop().call_later(READY_SECONDS, self._is_ready)
        try:
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
            os.kill(pid, signal.SIGTERM if attempt < ORPHAN_ATTEMPTS // 2 else signal.SIGKILL)
            logger.warning("broker.orphan-ended pid=%d", pid)
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

    def _write(self, account: Account | None) -> None:
        """The files of the folder: ours, readable by the child's group; only `data` belongs to the child."""
        data = self._folder / "data"
        self._folder.mkdir(parents=True, exist_ok=True)
        data.mkdir(exist_ok=True, mode=0o700)
        self._folder.chmod(0o750)
        if account is not None:
            os.chown(self._folder, -1, account.gid)
            os.chown(data, account.uid, account.gid, follow_symlinks=False)
        username, password = self._credentials
        guarded = bool(username and password)
        if guarded:
            self._write_file("passwords", password_line(username, password, secrets.token_bytes(12)), account)
        verbose = logger.isEnabledFor(logging.DEBUG)
        text = configuration(self.address, guarded=guarded, queue_size=self._queue_size, verbose=verbose)
        self._write_file("mosquitto.conf", text, account)

    def _write_file(self, name: str, text: str, account: Account | None) -> None:
        fresh = self._folder / f".{name}"
        fresh.unlink(missing_ok=True)
        number = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o640)
        with os.fdopen(number, "w") as file:
            if account is not None:
                os.fchown(number, -1, account.gid)
            file.write(text)
        fresh.replace(self._folder / name)


def _program() -> str:
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path=_PLACES)
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


def _account() -> Account | None:
    if os.geteuid() != 0:
        return None
    for name in ("mosquitto", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(name, entry.pw_uid, entry.pw_gid)
    return None


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
