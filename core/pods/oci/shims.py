"""Calls of pinnace-shim, the small program beside each container (shim/), and what it needs to be called at all."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import socket
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from pinnace.core.base.aio import children
from pinnace.core.base.aio.whole import whole
from pinnace.core.base.files import write_whole
from pinnace.core.base.runtime import RuntimeFailed
from pinnace.core.pods.oci import files, orphans
from pinnace.core.pods.oci.frames import frame, read_frame
from pinnace.core.pods.oci.records import ContainerRecord

logger = logging.getLogger(__name__)
PROGRAM: Final = Path(__file__).with_name("shim") / "pinnace-shim"
OWN_CGROUP: Final = "/pinnace-shims"
"""Where shims live: outside the agent's cgroup, so that they outlive its service, and outside the pods', which are bounded."""
ANSWER_SECONDS: Final = 10.0
CALL_SECONDS: Final = 60.0
"""For a command that ends soon, on a machine that has much else to do."""
START_SECONDS: Final = 60
"""For crun until the container runs; then the shim ends it. It hangs where the server of a mount is away."""
LEAVE_SECONDS: Final = 1.0
FINISH_SECONDS: Final = 5.0
"""What a command that nobody waits for any more gets to end by itself: it takes milliseconds, and would leave namespaces half made."""
_AGAIN_SECONDS: Final = 0.02


class Shims:
    """Starts shims and speaks with them. `base` is a tmpfs folder of the runtime's own."""

    def __init__(self, base: Path, crun: str, *, is_systemd: bool = False, program: Path = PROGRAM) -> None:
        self._base = base
        self._crun = crun
        self._is_systemd = is_systemd
        self._program = program
        self._starting = asyncio.Semaphore(4 * (os.cpu_count() or 1))

    @property
    def root(self) -> str:
        """A container's root file system, in the mount namespace crun runs in."""
        return str(self._base / "mnt/root")

    def volume(self, number: int) -> str:
        """Where the image's volume of this number is in that namespace."""
        return str(self._base / f"mnt/v{number}")

    def folder(self, container_id: str) -> Path:
        return self._base / "containers" / container_id

    def problem(self) -> str:
        """Why no container can run here, and what to do; "" when they can."""
        if not self._program.exists():
            return f"{self._program} is missing; install Pinnace again, or run make dev in a checkout"
        if not os.access(self._program, os.X_OK):
            return f"{self._program} is not executable; chmod 755 it"
        if os.geteuid() != 0:
            return "pods need root; run the edge as root, or set modules.edged.enable to false"
        if shutil.which(self._crun) is None:
            return f"{self._crun} is not there; install crun, or set builtinRuntime.crun to its path"
        return ""

    async def prepare(self) -> None:
        """Make `base` ready. Raises RuntimeFailed."""
        await asyncio.to_thread(self._clear_execs)
        for each in ("", "containers", "sandboxes", "exec", "crun"):
            await asyncio.to_thread(files.make_private, self._base / each)
        await self.call("prepare", "--base", str(self._base))

    def _clear_execs(self) -> None:
        """Of an agent before us: its execs ended with it."""
        folder = self._base / "exec"
        if folder.is_dir() and any(folder.iterdir()):
            self._end_orphans(folder)
        shutil.rmtree(folder, ignore_errors=True)

    def _end_orphans(self, folder: Path) -> None:
        orphans.end(self._crun, self._base / "crun", folder)

    async def version(self) -> str:
        """Of crun; "" when it does not say."""
        try:
            process = await children.start(self._crun, "--version", stdout=PIPE)
            output, _ = await children.hear(process, seconds=CALL_SECONDS)
        except (OSError, TimeoutError):
            return ""
        first = output.decode(errors="replace").partition("\n")[0]
        return first.removeprefix("crun version ").strip()

    async def call(self, *words: str, seconds: float = CALL_SECONDS) -> bytes:
        """Run a command that ends soon, and has ended when the caller is cancelled; its output. Raises RuntimeFailed with what it says."""
        return await whole(self._call(words, seconds), seconds=FINISH_SECONDS)

    async def _call(self, words: Sequence[str], seconds: float) -> bytes:
        process = await self._spawn(words, stdout=PIPE, stderr=PIPE)
        try:
            output, errors = await children.hear(process, seconds=seconds)
        except TimeoutError as error:
            text = f"pinnace-shim {words[0]} did not end within {seconds:g} s; is a disk or server away, or the machine overloaded?"
            raise RuntimeFailed(text) from error
        if process.returncode != 0:
            raise RuntimeFailed(errors.decode(errors="replace").strip() or f"pinnace-shim {words[0]} failed")
        return output

    async def read_image_files(self, state: Path, names: Sequence[str]) -> list[str]:
        """Texts of files in the image whose layers are linked in `state`/l; "" for one that is not there."""
        reader = asyncio.StreamReader()
        reader.feed_data(await self.call("cat", "--base", str(self._base), "--state", str(state), "--", *names))
        reader.feed_eof()
        found = [await read_frame(reader) for _ in names]
        return [each[1].decode(errors="replace") if each else "" for each in found]

    async def start(self, record: ContainerRecord, state: Path) -> int:
        """Start the container and its shim; the shim's pid. Raises RuntimeFailed with crun's words: `state`/exit then tells the same."""
        words = [
            *("supervise", "--id", record.id, "--base", str(self._base), "--run", str(self.folder(record.id)), "--state", str(state)),
            *("--log", record.log_path, "--crun", self._crun, "--crun-root", str(self._base / "crun"), "--cgroup", record.cgroup),
            *("--own-cgroup", OWN_CGROUP, "--seconds", str(START_SECONDS)),
        ]
        for is_set, flag in (
            (record.tty, "--tty"),
            (record.stdin, "--stdin"),
            (record.stdin_once, "--stdin-once"),
            (record.kills_all, "--kill-all"),
            (self._is_systemd, "--systemd"),
        ):
            words += [flag] if is_set else []
        for path in record.volumes:
            words += ["--volume", path]
        for path in record.shared:
            words += ["--share", path]
        async with self._starting:
            said = (await self.call(*words, seconds=START_SECONDS + CALL_SECONDS)).decode(errors="replace").strip()
        status, _, rest = said.partition(" ")
        if status != "ok":
            raise RuntimeFailed(rest or "the container's shim ended before it was started")
        return int(rest.split()[0])

    def living(self, container_id: str) -> int:
        """The pid of a container's shim; 0 when there is none (any more)."""
        try:
            pid, started = (self.folder(container_id) / "shim").read_text().split()[:2]
        except (OSError, ValueError):
            return 0
        return int(pid) if files.start_time(int(pid)) == int(started) else 0

    async def ask(self, container_id: str, kind: bytes, body: bytes = b"") -> None:
        """Send an order and wait for its answer. Raises RuntimeFailed; ConnectionError or FileNotFoundError when no shim is there."""
        _, writer = await self._asked(container_id, kind, body)
        writer.close()

    async def connect(self, container_id: str, *, stdin: bool) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to attach on. Raises as `ask` does, RuntimeFailed also when as many as there may be are attached."""
        return await self._asked(container_id, b"A", b"i" if stdin else b"")

    async def _asked(self, container_id: str, kind: bytes, body: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                reader, writer = await self._reach(container_id)
                writer.write(frame(kind, body))
                await writer.drain()
                answer = await read_frame(reader)
            if answer is None:
                raise ConnectionResetError("the shim ended")
            if answer[1]:
                raise RuntimeFailed(answer[1].decode(errors="replace"))
        except BaseException as error:
            if writer is not None:
                writer.close()
            if isinstance(error, TimeoutError):
                raise RuntimeFailed(f"the shim of container {container_id} does not answer") from error
            raise
        return reader, writer

    async def _reach(self, container_id: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to a shim, also while more wait to be let in than the socket's queue takes."""
        while True:
            try:
                return await asyncio.open_unix_connection(str(self.folder(container_id) / "s"))
            except BlockingIOError:
                await asyncio.sleep(_AGAIN_SECONDS)

    async def exec(self, container_id: str, process: Mapping[str, Any], *, tty: bool, stdin: bool) -> Running:
        """Run a command in a container; it is killed with all it started when the connection is closed. `process` is a process.json."""
        folder = self._base / "exec" / os.urandom(8).hex()
        words = ["exec", "--id", container_id, "--run", str(folder), "--crun", self._crun, "--crun-root", str(self._base / "crun")]
        words += ["--oom-score", str(process.get("oomScoreAdj", 0))]
        words += ["--tty"] * tty + ["--stdin"] * (stdin or tty) + ["--systemd"] * self._is_systemd
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                await whole(asyncio.to_thread(_write_process, folder, process))
                child = await self._spawn(words, stdin=theirs.fileno(), stdout=DEVNULL)
            reader, writer = await asyncio.open_unix_connection(sock=ours)
        except BaseException:
            ours.close()
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
            raise
        return Running(reader, writer, child, folder, self._end_orphans)

    async def connect_into(self, netns: str, port: int) -> socket.socket:
        """A connection to a port on the loopback of a network namespace. Raises RuntimeFailed when nothing answers."""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                child = await self._spawn(("connect", "--net", netns, "--port", str(port)), stdin=theirs.fileno(), stderr=PIPE)
            _, errors = await children.hear(child)
            if child.returncode != 0:
                raise RuntimeFailed(errors.decode(errors="replace").strip())
            ours.setblocking(False)
            _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
        return socket.socket(fileno=descriptors[0])

    async def _spawn(
        self, words: Sequence[str], *, stdin: int = DEVNULL, stdout: int | None = None, stderr: int | None = None
    ) -> asyncio.subprocess.Process:
        path = os.environ.get("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        try:
            return await children.start(self._program, *words, stdin=stdin, stdout=stdout, stderr=stderr, env={"PATH": path})
        except OSError as error:
            raise RuntimeFailed(f"cannot run {self._program}: {error.strerror}") from error


def _write_process(folder: Path, process: Mapping[str, Any]) -> None:
    folder.mkdir(mode=0o700)
    write_whole(folder / "process.json", orjson.dumps(process))


async def leave(writer: asyncio.StreamWriter) -> None:
    """Close a connection to a shim. Input that the container does not take must not keep it open: it is thrown away."""
    writer.close()
    try:
        async with asyncio.timeout(LEAVE_SECONDS):
            await writer.wait_closed()
    except TimeoutError:
        writer.transport.abort()
    except OSError:
        pass  # the other side was faster


class Running:
    """One exec: a connection and the child process that serves it."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        child: asyncio.subprocess.Process,
        folder: Path,
        end_orphans: Callable[[Path], None],
    ) -> None:
        self.reader = reader
        self.writer = writer
        self._child = child
        self._folder = folder
        self._end_orphans = end_orphans

    async def end(self) -> None:
        """Let go: the command is killed if it runs still."""
        await leave(self.writer)
        if await self._child.wait() < 0:
            await asyncio.to_thread(self._end_orphans, self._folder)
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)


class Watch:
    """Says when processes end, by pidfd."""

    def __init__(self) -> None:
        self._open: dict[int, int] = {}

    def on_end(self, pid: int, call: Callable[[], None]) -> bool:
        """False when there is no such process."""
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            return False
        loop = asyncio.get_running_loop()

        def ended() -> None:
            loop.remove_reader(fd)
            self._open.pop(fd, None)
            os.close(fd)
            call()

        self._open[fd] = pid
        loop.add_reader(fd, ended)
        return True

    def close(self) -> None:
        loop = asyncio.get_running_loop()
        for fd in self._open:
            loop.remove_reader(fd)
            os.close(fd)
        self._open.clear()
