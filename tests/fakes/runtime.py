"""A container runtime in memory: nothing runs, but the books are kept as real ones keep them. Tests say when containers end."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from pinnace.core.base.aio.clock import Clock, LoopClock
from pinnace.core.base.runtime import (
    POD_UID_LABEL,
    Connection,
    Container,
    ContainerConfig,
    ContainerState,
    Credential,
    DiskUsage,
    ExecResult,
    Image,
    NoSuchContainer,
    Progress,
    PullFailed,
    RuntimeFailed,
    RuntimeState,
    Sandbox,
    SandboxConfig,
    SandboxState,
    Stream,
    Usage,
)


class FakeImages:
    """Implements Images. `local` is what is there, `remote` what a registry has: an Image, or why it cannot be had. `gate`, when set, is
    waited for by every pull."""

    def __init__(self) -> None:
        self.local: dict[str, Image] = {}
        self.remote: dict[str, Image | PullFailed] = {}
        self.pulled: list[str] = []
        self.credentials: list[Sequence[Credential]] = []
        self.gate: asyncio.Event | None = None
        self.under_way = 0
        self.most_under_way = 0

    def add(self, name: str, *, is_pinned: bool = False) -> Image:
        image = self.local[name] = make_image(name, is_pinned=is_pinned)
        return image

    async def images(self) -> Sequence[Image]:
        return list(self.local.values())

    async def image(self, reference: str) -> Image | None:
        if reference != reference.lower():
            raise PullFailed(f"{reference}: repository name must be lower-case", reason="InvalidImageName")
        return self.local.get(reference) or next((each for each in self.local.values() if each.id == reference), None)

    async def pull(self, reference: str, credentials: Sequence[Credential] = (), *, progress: Progress | None = None) -> Image:
        self.pulled.append(reference)
        self.credentials.append(credentials)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            if self.gate is not None:
                await self.gate.wait()
            found = self.remote.get(reference, PullFailed(f"{reference}: not found"))
            if isinstance(found, PullFailed):
                raise found
            self.local[reference] = found
            return found
        finally:
            self.under_way -= 1

    async def remove(self, image_id: str) -> None:
        self.local = {name: each for name, each in self.local.items() if each.id != image_id}

    async def disk(self) -> DiskUsage:
        return DiskUsage(Path("/"), 0, 1 << 30, 1 << 29, 1000, 500)


def make_image(name: str, *, is_pinned: bool = False) -> Image:
    return Image(f"sha256:{name.encode().hex()}", (name,), (f"{name}@sha256:{name.encode().hex()}",), 1000, is_pinned=is_pinned)


class FakeRuntime:
    """Implements Runtime. `failures` are raised by the named call, each once; `exits` are exit codes with which containers of a name end
    as soon as they are started, one for each start (None: goes on); `deaf` names end by SIGKILL only."""

    def __init__(self, clock: Clock | None = None, *, name: str = "fake") -> None:
        self.name = name
        self.clock = clock or LoopClock()
        self._images = FakeImages()
        self.boxes: dict[str, Sandbox] = {}
        self.instances: dict[str, Container] = {}
        self.failures: dict[str, list[Exception]] = {}
        self.exits: dict[str, list[int | None]] = {}
        self.deaf: set[str] = set()
        self.calls: list[tuple[str, str]] = []
        """(call, name of the container or pod) of everything that changes something."""
        self.problem = ""
        self._listeners: list[Callable[[str], None]] = []
        self._ends: dict[str, asyncio.Event] = {}
        self._numbers = itertools.count(1)

    @property
    def images(self) -> FakeImages:
        return self._images

    async def start(self) -> None:
        return

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def close(self) -> None:
        return

    def on_change(self, listener: Callable[[str], None]) -> None:
        self._listeners.append(listener)

    async def state(self) -> RuntimeState:
        return RuntimeState(self.name, "1", self.problem)

    async def run_sandbox(self, config: SandboxConfig) -> str:
        self._call("run_sandbox", config.name)
        sandbox_id = f"s{next(self._numbers)}"
        ips = () if config.namespaces.host_network else (f"10.88.0.{len(self.boxes) + 2}",)
        self.boxes[sandbox_id] = Sandbox(
            sandbox_id, config.name, config.namespace, config.uid, config.attempt, SandboxState.READY, self.clock.wall(), ips,
            config.labels, config.annotations,
        )  # fmt: skip
        return sandbox_id

    async def stop_sandbox(self, sandbox_id: str) -> None:
        sandbox = self.boxes.get(sandbox_id)
        if sandbox is None:
            return
        if sandbox.state is SandboxState.READY:
            self._call("stop_sandbox", sandbox.name)
        for each in list(self.instances.values()):
            if each.sandbox_id == sandbox_id and each.state is ContainerState.RUNNING:
                self.exit(each.id, 137)
        self.boxes[sandbox_id] = replace(sandbox, state=SandboxState.NOT_READY, ips=())

    async def remove_sandbox(self, sandbox_id: str) -> None:
        await self.stop_sandbox(sandbox_id)
        for each in [each.id for each in self.instances.values() if each.sandbox_id == sandbox_id]:
            await self.remove_container(each)
        sandbox = self.boxes.pop(sandbox_id, None)
        if sandbox is not None:
            self._call("remove_sandbox", sandbox.name)

    async def sandboxes(self, pod_uid: str = "") -> Sequence[Sandbox]:
        self._fail("sandboxes")
        return [each for each in self.boxes.values() if pod_uid in ("", each.uid)]

    async def create_container(self, sandbox_id: str, config: ContainerConfig, sandbox: SandboxConfig) -> str:
        self._call("create_container", config.name)
        box = self.boxes.get(sandbox_id)
        if box is None or box.state is not SandboxState.READY:
            raise NoSuchContainer(f"{sandbox_id}: no such sandbox")
        container_id = f"c{next(self._numbers)}"
        self.instances[container_id] = Container(
            container_id, sandbox_id, config.name, config.attempt, ContainerState.CREATED, config.image, config.image_name,
            f"{config.image_name}@{config.image}", self.clock.wall(), log_path=sandbox.log_directory / config.log_path,
            labels={**config.labels, POD_UID_LABEL: box.uid}, annotations=config.annotations,
        )  # fmt: skip
        return container_id

    async def start_container(self, container_id: str) -> None:
        container = await self.container(container_id)
        try:
            self._call("start_container", container.name)
        except RuntimeFailed as error:
            self.exit(container_id, 128, reason=error.reason or "StartError", message=str(error))
            raise
        self.instances[container_id] = replace(container, state=ContainerState.RUNNING, started_at=self.clock.wall())
        self._ends[container_id] = asyncio.Event()
        planned = self.exits.get(container.name)
        code = planned.pop(0) if planned else None
        if code is not None:
            self.exit(container_id, code)
        else:
            self._tell(container_id)

    async def stop_container(self, container_id: str, grace_seconds: float) -> None:
        container = self.instances.get(container_id)
        if container is None or container.state is not ContainerState.RUNNING:
            return
        self._call("stop_container", f"{container.name}:{grace_seconds:g}")
        if container.name not in self.deaf:
            self.exit(container_id, 143)
            return
        ended = asyncio.ensure_future(self._ends[container_id].wait())
        patience = asyncio.ensure_future(self.clock.sleep(grace_seconds))
        try:
            await asyncio.wait([ended, patience], return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
            patience.cancel()
        if self.instances[container_id].state is ContainerState.RUNNING:
            self.exit(container_id, 137)

    async def remove_container(self, container_id: str) -> None:
        container = self.instances.pop(container_id, None)
        if container is not None:
            self._call("remove_container", container.name)

    async def containers(self, pod_uid: str = "") -> Sequence[Container]:
        self._fail("containers")
        return [each for each in self.instances.values() if pod_uid in ("", each.labels[POD_UID_LABEL])]

    async def container(self, container_id: str) -> Container:
        if container_id not in self.instances:
            raise NoSuchContainer(f"{container_id}: no such container")
        return self.instances[container_id]

    async def reopen_log(self, container_id: str) -> None:
        return

    async def exec_sync(self, container_id: str, command: Sequence[str], timeout_seconds: float) -> ExecResult:
        return ExecResult(0, b"", b"")

    def exec(self, container_id: str, command: Sequence[str], *, tty: bool, stdin: bool) -> Stream:
        raise NotImplementedError

    def attach(self, container_id: str, *, stdin: bool) -> Stream:
        raise NotImplementedError

    def port_forward(self, sandbox_id: str, port: int) -> Connection:
        raise NotImplementedError

    async def usage(self) -> Sequence[Usage]:
        return []

    def exit(self, container_id: str, code: int, *, reason: str = "", message: str = "") -> None:
        """A container ends by itself."""
        container = self.instances[container_id]
        self.instances[container_id] = replace(
            container, state=ContainerState.EXITED, exit_code=code, finished_at=self.clock.wall(), message=message,
            reason=reason or ("Error" if code else "Completed"),
        )  # fmt: skip
        if container_id in self._ends:
            self._ends.pop(container_id).set()
        self._tell(container_id)

    def running(self, name: str = "") -> list[Container]:
        return [each for each in self.instances.values() if each.state is ContainerState.RUNNING and name in ("", each.name)]

    def one(self, name: str) -> Container:
        """The one of that name that runs."""
        (found,) = self.running(name)
        return found

    def reboot(self) -> None:
        """The machine went down: nothing runs any more, the books are still there."""
        for each in self.running():
            self.instances[each.id] = replace(
                each, state=ContainerState.EXITED, exit_code=255, reason="ContainerStatusUnknown", finished_at=self.clock.wall()
            )
        self.boxes = {key: replace(each, state=SandboxState.NOT_READY, ips=()) for key, each in self.boxes.items()}

    def _call(self, name: str, about: str) -> None:
        self.calls.append((name, about))
        self._fail(name)

    def _fail(self, name: str) -> None:
        waiting = self.failures.get(name)
        if waiting:
            raise waiting.pop(0)

    def _tell(self, container_id: str) -> None:
        for listener in self._listeners:
            listener(self.instances[container_id].labels[POD_UID_LABEL])
