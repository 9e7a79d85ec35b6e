"""A pod for a test of a runtime: sandbox, containers, logs, with as little said as possible."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from contract.runtime.installations import BUSYBOX

from pinnace.core.base.runtime import Container, ContainerConfig, ContainerState, Namespaces, Runtime, SandboxConfig
from pinnace.core.pods.cri.runtime import CriRuntime

DEADLINE = 30.0
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)")
HOST_NETWORK = Namespaces(host_network=True)


async def until(claim: Callable[[], Awaitable[bool]], *, what: str = "it", seconds: float = DEADLINE) -> None:
    """Wait until a claim holds."""
    try:
        async with asyncio.timeout(seconds):
            while not await claim():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"{what} did not happen within {seconds:g} s") from None


@dataclass(frozen=True)
class LogLine:
    stream: str
    is_partial: bool
    text: str


def log_lines(path: Path) -> list[LogLine]:
    """A log in CRI's format: moment, stream, P or F, text."""
    found = []
    for line in path.read_text().splitlines():
        moment, stream, tag, text = line.split(" ", 3)
        assert MOMENT.fullmatch(moment), line
        found.append(LogLine(stream, tag.split(":")[0] == "P", text))
    return found


def _has_containerd_open(log: Path) -> bool:
    for comm in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):
            if comm.read_text() == "containerd\n" and str(log) in map(_target, comm.with_name("fd").iterdir()):
                return True
    return False


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:  # closed meanwhile
        return ""


class TestPod:
    """One pod on one runtime. Its sandbox uses the host's network unless `sandbox` is told otherwise: that is quicker."""

    __test__ = False

    def __init__(self, runtime: Runtime, folder: Path, cgroup: str) -> None:
        self.runtime = runtime
        self.uid = secrets.token_hex(8)
        self.folder = folder / self.uid
        self.logs = self.folder / "logs"
        self.logs.mkdir(parents=True)
        self.cgroup = f"{cgroup}/pod{self.uid}"
        self.config = SandboxConfig(
            name=f"pod-{self.uid}",
            namespace="default",
            uid=self.uid,
            attempt=0,
            hostname="test-host",
            log_directory=self.logs,
            cgroup_parent=self.cgroup,
            namespaces=HOST_NETWORK,
        )
        self.sandbox_id = ""
        self._count = 0

    async def sandbox(self, **changes: Any) -> str:
        """Run a sandbox that differs from the usual one in `changes`."""
        self.config = replace(self.config, **changes)
        self.sandbox_id = await self.runtime.run_sandbox(self.config)
        return self.sandbox_id

    async def create(self, command: Sequence[str] = (), *, image: str = BUSYBOX, **changes: Any) -> str:
        """A container, made but not started; of a fresh sandbox when there is none yet."""
        if not self.sandbox_id:
            await self.sandbox()
        known = await self.runtime.images.image(image)
        assert known is not None, image
        name = changes.pop("name", f"c{self._count}")
        self._count += 1
        (self.logs / name).mkdir(exist_ok=True)
        config = ContainerConfig(name=name, attempt=0, image=known.id, image_name=image, log_path=f"{name}/0.log", command=tuple(command))
        return await self.runtime.create_container(self.sandbox_id, replace(config, **changes), self.config)

    async def start(self, command: Sequence[str] = ("sleep", "1000"), **changes: Any) -> str:
        """A container that runs."""
        container_id = await self.create(command, **changes)
        await self.runtime.start_container(container_id)
        return container_id

    async def shell(self, text: str, **changes: Any) -> str:
        """A container that runs a shell script."""
        return await self.start(("/bin/sh", "-c", text), **changes)

    async def ended(self, container_id: str) -> Container:
        """The container after its end."""

        async def has_ended() -> bool:
            return (await self.runtime.container(container_id)).state is ContainerState.EXITED

        await until(has_ended, what="the container's end")
        found = await self.runtime.container(container_id)
        if isinstance(self.runtime, CriRuntime):
            # containerd writes the last of a log after it has told of the end, and closes it then.

            async def is_written() -> bool:
                return not _has_containerd_open(found.log_path)

            await until(is_written, what="the end of the log")
        return found

    async def run(self, command: Sequence[str] = (), **changes: Any) -> Container:
        """Start a container and wait for its end."""
        return await self.ended(await self.start(command, **changes))

    async def output(self, text: str, **changes: Any) -> str:
        """What a shell script says, both streams; it must end well."""
        container = await self.run(("/bin/sh", "-c", text), **changes)
        said = self.said(container)
        assert container.exit_code == 0, f"exit code {container.exit_code}, {container.reason}: {said}"
        return said

    async def until_said(self, container_id: str, text: str) -> None:
        """Wait for a text in the container's log."""
        log = (await self.runtime.container(container_id)).log_path

        async def has_said() -> bool:
            return log.exists() and text in log.read_text()

        await until(has_said, what=f"{text!r} in the log")

    def said(self, container: Container) -> str:
        return "".join(line.text + ("" if line.is_partial else "\n") for line in log_lines(container.log_path))

    async def exec(self, container_id: str, text: str) -> str:
        """What a shell script says in a container that runs; it must end well."""
        result = await self.runtime.exec_sync(container_id, ("/bin/sh", "-c", text), 30)
        assert result.exit_code == 0, result
        return result.stdout.decode()

    async def remove(self) -> None:
        for each in await self.runtime.sandboxes(self.uid):
            await self.runtime.stop_sandbox(each.id)
            await self.runtime.remove_sandbox(each.id)


async def listening(host: str, port: int) -> None:
    """Wait until something accepts there."""

    async def accepts() -> bool:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
            return True
        return False

    await until(accepts, what=f"a listener at {host}:{port}")


async def fetched(host: str, port: int, path: str = "/") -> bytes:
    """The body of an HTTP answer."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return answer.partition(b"\r\n\r\n")[2]


def remove_cgroups(path: str) -> None:
    """Of every hierarchy that is mounted, from the leaves up; what is killed takes a moment to leave its own."""
    root = Path("/sys/fs/cgroup")
    left = [top / path.strip("/") for top in (root, *(each for each in root.iterdir() if each.is_dir()))]
    deadline = time.monotonic() + DEADLINE
    while left := [each for each in left if not _is_removed(each)]:
        assert time.monotonic() < deadline, f"processes are left in {left}"
        time.sleep(0.02)


def _is_removed(cgroup: Path) -> bool:
    try:
        for each in sorted((one for one in cgroup.rglob("*") if one.is_dir()), key=lambda one: -len(one.parts)):
            each.rmdir()
        cgroup.rmdir()
    except FileNotFoundError:
        return not cgroup.exists()
    except OSError:
        return False
    return True
