"""A runtime whose containers are plain processes of this machine: real pipes, terminals, sockets and log files, without images or
namespaces. For what lies between kubectl and a runtime; runtimes themselves have a suite of their own."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import signal
import struct
import termios
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

from pinnace.core.base.aio import children
from pinnace.core.base.pod import Object, Pod
from pinnace.core.base.runtime import (
    CONTAINER_NAME_LABEL,
    POD_NAME_LABEL,
    POD_NAMESPACE_LABEL,
    POD_UID_LABEL,
    Container,
    ContainerState,
    NoSuchContainer,
    RuntimeFailed,
    Sandbox,
    SandboxState,
    Usage,
)


class HostRuntime:
    """As much of `Runtime` as streams need. Containers are declared, not run; their logs are files that the test writes."""

    name = "host"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pods: list[Pod] = []
        self.open_streams = 0
        self._containers: dict[str, Container] = {}
        self._listeners: list[Callable[[str], None]] = []

    def add_pod(
        self, name: str, node: str, *containers: str, namespace: str = "default", uid: str = "", labels: Object | None = None
    ) -> Object:
        """A pod that runs; returns the object for the API. `follow_api` gives it its uid there."""
        body: Object = {
            "metadata": {"name": name, "namespace": namespace, "labels": labels or {}, **({"uid": uid} if uid else {})},
            "spec": {"nodeName": node, "containers": [{"name": each, "image": "none"} for each in containers or ("main",)]},
            "status": {"phase": "Running"},
        }
        return body

    def run_pod(self, body: Object) -> None:
        pod = Pod(body)
        self.pods.append(pod)
        for container in pod.containers:
            self.run_container(pod, container.name)

    def run_container(self, pod: Pod, name: str, attempt: int = 0) -> Container:
        """A container that runs from now on; its former run has ended."""
        for each in list(self._containers.values()):
            if each.labels[POD_UID_LABEL] == pod.uid and each.name == name:
                self._containers[each.id] = replace(each, state=ContainerState.EXITED, finished_at=time.time())
        path = self.folder / pod.uid / name / f"{attempt}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        labels = {POD_UID_LABEL: pod.uid, POD_NAME_LABEL: pod.name, POD_NAMESPACE_LABEL: pod.namespace, CONTAINER_NAME_LABEL: name}
        now = time.time()
        made = Container(
            id=f"{pod.uid}-{name}-{attempt}", sandbox_id=pod.uid, name=name, attempt=attempt, state=ContainerState.RUNNING, image="none",
            image_name="none", image_ref="none", created_at=now, started_at=now - 60, log_path=path, labels=labels,
        )  # fmt: skip
        self._containers[made.id] = made
        self.tell(pod.uid)
        return made

    def end_container(self, container_id: str, exit_code: int = 0) -> None:
        container = self._containers[container_id]
        self._containers[container_id] = replace(container, state=ContainerState.EXITED, exit_code=exit_code, finished_at=time.time())
        self.tell(container.labels[POD_UID_LABEL])

    def log(self, pod: str, name: str, *lines: str, stream: str = "stdout", attempt: int = 0) -> Path:
        """Write lines as a runtime does."""
        path = next(each.log_path for each in self._containers.values()
                    if each.labels[POD_NAME_LABEL] == pod and each.name == name and each.attempt == attempt)  # fmt: skip
        with path.open("a") as file:
            for line in lines:
                file.write(f"2024-01-31T12:00:00.5Z {stream} F {line}\n")
        return path

    def tell(self, uid: str) -> None:
        for listener in self._listeners:
            listener(uid)

    def on_change(self, listener: Callable[[str], None]) -> None:
        self._listeners.append(listener)

    async def sandboxes(self, pod_uid: str = "") -> Sequence[Sandbox]:
        return [
            Sandbox(pod.uid, pod.name, pod.namespace, pod.uid, 0, SandboxState.READY, 0.0) for pod in self.pods if pod_uid in ("", pod.uid)
        ]  # fmt: skip

    async def containers(self, pod_uid: str = "") -> Sequence[Container]:
        return [each for each in self._containers.values() if pod_uid in ("", each.labels[POD_UID_LABEL])]

    async def container(self, container_id: str) -> Container:
        if container_id not in self._containers:
            raise NoSuchContainer(container_id)
        return self._containers[container_id]

    async def usage(self) -> Sequence[Usage]:
        running = [each for each in self._containers.values() if each.state is ContainerState.RUNNING]
        return [Usage(each.id, each.started_at + 60, 30.0, 20 << 20, 10 << 20) for each in running]

    def exec(self, container_id: str, command: Sequence[str], *, tty: bool, stdin: bool) -> ProcessStream:
        return ProcessStream(self, command, tty=tty, stdin=stdin)

    def attach(self, container_id: str, *, stdin: bool) -> ProcessStream:
        return ProcessStream(self, ["cat"], tty=False, stdin=stdin)

    def port_forward(self, sandbox_id: str, port: int) -> LoopbackConnection:
        return LoopbackConnection(port)


class ProcessStream:
    """A process with pipes or a terminal."""

    def __init__(self, runtime: HostRuntime, command: Sequence[str], *, tty: bool, stdin: bool) -> None:
        self._runtime = runtime
        self._command = command
        self._tty = tty
        self._stdin = stdin
        self._terminal = -1

    async def __aenter__(self) -> Self:
        self._runtime.open_streams += 1
        try:
            if self._tty:
                self._terminal, end = pty.openpty()
                self._process = await asyncio.create_subprocess_exec(
                    *self._command, stdin=end, stdout=end, stderr=end, start_new_session=True
                )
                os.close(end)
            else:
                self._process = await asyncio.create_subprocess_exec(
                    *self._command,
                    stdin=asyncio.subprocess.PIPE if self._stdin else asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                    start_new_session=True,
                )
        except OSError as error:
            self._runtime.open_streams -= 1
            raise RuntimeFailed(f"{self._command[0]}: {error.strerror}") from error
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._runtime.open_streams -= 1
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await children.kill(self._process)
        if self._terminal >= 0:
            os.close(self._terminal)
            self._terminal = -1

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        if self._tty:
            while data := await asyncio.to_thread(self._read_terminal):
                yield 1, data
            return
        queue: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue(4)

        async def pump(channel: int, reader: asyncio.StreamReader) -> None:
            while data := await reader.read(65536):
                await queue.put((channel, data))
            await queue.put((channel, b""))

        assert self._process.stdout is not None
        assert self._process.stderr is not None
        tasks = [asyncio.create_task(pump(1, self._process.stdout)), asyncio.create_task(pump(2, self._process.stderr))]
        left = 2
        try:
            while left:
                channel, data = await queue.get()
                if data:
                    yield channel, data
                else:
                    left -= 1
        finally:
            for task in tasks:
                task.cancel()

    def _read_terminal(self) -> bytes:
        try:
            return os.read(self._terminal, 65536)
        except OSError:
            return b""

    async def write(self, data: bytes) -> None:
        if self._tty:
            os.write(self._terminal, data)
        elif self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.write(data)
                await self._process.stdin.drain()

    async def close_stdin(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()

    async def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    async def wait(self) -> int:
        code = await self._process.wait()
        return code if code >= 0 else 128 - code


class LoopbackConnection:
    def __init__(self, port: int) -> None:
        self._port = port

    async def __aenter__(self) -> Self:
        try:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError as error:
            raise RuntimeFailed(f"port {self._port}: {error.strerror}") from error
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._writer.close()

    async def read(self, most: int = 65536) -> bytes:
        return await self._reader.read(most)

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def close_write(self) -> None:
        self._writer.write_eof()
