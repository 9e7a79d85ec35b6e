"""A CRI runtime of the tests: its own folders, socket, network and configuration, and nothing of it left afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from pinnace.core.base.imagefiles import BuiltImage
from pinnace.core.base.runtime import RuntimeFailed
from pinnace.core.base.settings.edged import BuiltinRuntimeSettings
from pinnace.core.pods.cri.runtime import CriRuntime
from rig.images import busybox
from rig.processes import children_of

T = TypeVar("T")
PAUSE = "pinnace.test/pause:1"
DEADLINE = 30.0


def network_config(name: str, bridge: str, subnet: str, state: Path) -> str:
    """A CNI network of the Debian plugins: a bridge, addresses from `subnet`, host ports."""
    plugins = [
        {
            "type": "bridge",
            "bridge": bridge,
            "isGateway": True,
            "ipMasq": False,
            "hairpinMode": True,
            "ipam": {"type": "host-local", "ranges": [[{"subnet": subnet}]], "routes": [{"dst": "0.0.0.0/0"}], "dataDir": str(state)},
        },
        {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True},
    ]
    return json.dumps({"cniVersion": "0.4.0", "name": name, "plugins": plugins})


def apart(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end in a loop and thread of its own, also while this thread's loop runs."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


class CriDaemon(ABC):
    """Starts in `with`. `stop` and `start` again keep what it has."""

    prefix: ClassVar[str]
    """Of its folder."""

    def __init__(self) -> None:
        self.tag = secrets.token_hex(3)
        self.folder = Path(tempfile.mkdtemp(prefix=f"{self.prefix}-", dir="/tmp"))
        self.socket = self.folder / "c.sock"
        self.bridge = f"ct{self.tag}"
        self.subnet = f"10.{100 + secrets.randbelow(100)}.{secrets.randbelow(255)}.0/24"
        self.log = self.folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"unix://{self.socket}"

    @abstractmethod
    def _configure(self) -> None:
        """Write its configuration."""

    @abstractmethod
    def _command(self) -> list[str]:
        """The daemon."""

    @abstractmethod
    def _is_holder(self, command: list[bytes]) -> bool:
        """Whether a process of this command line is one that stays beside a container of this daemon."""

    @abstractmethod
    def _import(self, images: Mapping[str, BuiltImage]) -> None:
        """Bring images in."""

    @property
    @abstractmethod
    def _volatile(self) -> Path:
        """What a reboot empties."""

    def __enter__(self) -> Self:
        try:
            networks = self.folder / "net.d"
            networks.mkdir()
            (networks / "10-test.conflist").write_text(network_config(f"net-{self.tag}", self.bridge, self.subnet, self.folder / "ipam"))
            self._configure()
            self.start()
            self.add({PAUSE: busybox({"Entrypoint": ["/bin/tail", "-f", "/dev/null"], "Cmd": []})})
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Return when it answers."""
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(self._command(), stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        deadline = time.monotonic() + DEADLINE
        while apart(self._problem()):
            assert self._process.poll() is None, self.log.read_text()[-4000:]
            assert time.monotonic() < deadline, self.log.read_text()[-4000:]
            time.sleep(0.05)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End the daemon; containers go on."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            try:
                process.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def add(self, images: Mapping[str, BuiltImage]) -> None:
        """Bring in images under their names; returns when the CRI side knows them."""
        self._import(images)
        apart(self._until_known(list(images)))

    async def _problem(self) -> str:
        runtime = CriRuntime(self.endpoint)
        try:
            return (await runtime.state()).problem
        finally:
            await runtime.close()

    async def _until_known(self, names: list[str]) -> None:
        runtime = CriRuntime(self.endpoint)
        try:
            async with asyncio.timeout(DEADLINE):
                for name in names:
                    while await runtime.images.image(name) is None:
                        await asyncio.sleep(0.02)
        finally:
            await runtime.close()

    def close(self) -> None:
        """Take down every pod and the daemon, then whatever is left of either."""
        with contextlib.suppress(Exception):  # the rest is swept up below
            self.sweep()
        self._crash()
        subprocess.run(["ip", "link", "delete", self.bridge], check=False, capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def sweep(self) -> None:
        """Take down every pod."""
        if self._process is not None and self._process.poll() is None:
            apart(asyncio.wait_for(self._remove_pods(), 60))

    def power_cut(self) -> None:
        """End every process, unmount everything, empty what a reboot empties, and let the daemon start again."""
        self._crash()
        shutil.rmtree(self._volatile, ignore_errors=True)
        self.start()

    def _crash(self) -> None:
        held = self.holders()  # while there is a daemon, none of them is in the making
        self.stop(signal.SIGKILL)
        for pid in (*held, *self.holders(), *(child for each in held for child in children_of(each))):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
            point = line.split()[4]
            if point.startswith(f"{self.folder}/"):
                subprocess.run(["umount", "-l", point], check=False, capture_output=True)

    async def _remove_pods(self) -> None:
        runtime = CriRuntime(self.endpoint)
        try:
            for each in await runtime.sandboxes():
                await _removed(runtime, each.id)
        finally:
            await runtime.close()

    def holders(self) -> list[int]:
        """The pids of the processes that hold its containers."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                with contextlib.suppress(OSError):
                    if self._is_holder((entry / "cmdline").read_bytes().split(b"\0")):
                        found.append(int(entry.name))
        return found


async def _removed(runtime: CriRuntime, sandbox_id: str) -> None:
    """containerd 1.6 may lose its line to a shim that has just ended, and succeeds when asked again."""
    for left in reversed(range(10)):
        try:
            await runtime.remove_sandbox(sandbox_id)
            break
        except RuntimeFailed:
            if not left:
                raise
            await asyncio.sleep(0.2)


class CriHome:
    """A CRI runtime as `rig.podnode.PodNode` wants it."""

    settings = BuiltinRuntimeSettings()

    def __init__(self, daemon: CriDaemon) -> None:
        self._daemon = daemon

    def adapter(self, *, boot: str = "") -> CriRuntime:
        return CriRuntime(self._daemon.endpoint, request_seconds=30)

    def power_cut(self) -> None:
        self._daemon.power_cut()

    def sweep(self) -> None:
        self._daemon.sweep()
