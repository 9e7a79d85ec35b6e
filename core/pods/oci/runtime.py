"""The built-in runtime: `base.runtime.Runtime` over crun, one small supervisor a container, and no daemon."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from pinnace.core.base.bundle import program
from pinnace.core.base.runtime import (
    Connection,
    Container,
    ContainerConfig,
    ContainerState,
    ExecResult,
    Images,
    RuntimeFailed,
    RuntimeState,
    Sandbox,
    SandboxConfig,
    Stream,
    Usage,
)
from pinnace.core.base.settings.edged import BuiltinRuntimeSettings
from pinnace.core.pods.images.records import ImageStore
from pinnace.core.pods.oci import host, spec
from pinnace.core.pods.oci.bundles import Bundles
from pinnace.core.pods.oci.containers import Containers
from pinnace.core.pods.oci.network import BRIDGE, PodNetwork
from pinnace.core.pods.oci.sandboxes import Sandboxes
from pinnace.core.pods.oci.shims import Running, Shims
from pinnace.core.pods.oci.streams import PodConnection, ShimStream, collected
from pinnace.core.pods.oci.usage import Meter

logger = logging.getLogger(__name__)
_NETWORK_LOOK_SECONDS = 5.0
_RETRY_SECONDS = 60.0


def _crun(configured: str, is_systemd: bool) -> str:
    """The crun that is brought along does not speak with systemd; where that is wanted it is the system's."""
    return "crun" if is_systemd and configured == program("crun") else configured


class OciRuntime:
    """Sandboxes are folders with kept namespaces, containers are crun's, each below a shim that outlives the agent. What must survive a
    reboot is below `settings.root_dir`, what ends with it below `settings.run_dir`."""

    name = "pinnace"

    def __init__(
        self,
        settings: BuiltinRuntimeSettings,
        images: ImageStore,
        *,
        cgroup_driver: str = "cgroupfs",
        bridge: str = BRIDGE,
        boot: str = "",
    ) -> None:
        root, base = settings.root_dir / "oci", settings.run_dir / "oci"
        is_systemd = cgroup_driver == "systemd"
        self._images = images
        self._listeners: list[Callable[[str], None]] = []
        self._network = PodNetwork(settings, bridge=bridge)
        self._shims = Shims(base, _crun(settings.crun, is_systemd), is_systemd=is_systemd)
        self._sandboxes = Sandboxes(root, base, self._shims, self._network, boot or host.boot_id())
        self._bundles = Bundles(base, self._shims, self._sandboxes, images, host.survey(), is_systemd=is_systemd)
        self._containers = Containers(root, self._shims, images, self._bundles, changed=self._change)
        self._meter = Meter()
        self._version = ""
        self._problem = "the runtime was not started yet"
        self._ready = asyncio.Lock()
        self._is_loaded = False

    @property
    def images(self) -> Images:
        return self._images

    async def start(self) -> None:
        await self._take_up()

    async def _take_up(self) -> None:
        """Once; what stands in the way is told by `state`, and tried again."""
        async with self._ready:
            if self._is_loaded:
                return
            self._problem = self._shims.problem()
            if self._problem:
                return
            try:
                await self._images.start()
                await self._shims.prepare()
                await asyncio.to_thread(self._sandboxes.load)
                await self._containers.load()
                self._version = await self._shims.version()
            except (RuntimeFailed, OSError) as error:
                self._problem = str(error)
                return
            self._is_loaded = True
        await self._sandboxes.clear()
        logger.info(
            "pods.oci.started crun=%s sandboxes=%d running=%d",
            self._version,
            len(self._sandboxes.records()),
            len(self._containers.running()),
        )

    async def run(self) -> None:
        """Ends are seen by pidfd as they come; this waits for what was missing at the start, lets the images run, and once a minute takes
        down the sandboxes that could not be undone."""
        while not self._is_loaded:
            await self._take_up()
            if not self._is_loaded:
                await asyncio.sleep(_NETWORK_LOOK_SECONDS)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._images.run(), name="images")
            group.create_task(self._retry(), name="half-made sandboxes")

    async def _retry(self) -> None:
        while True:
            await asyncio.sleep(_RETRY_SECONDS)
            await self._sandboxes.retry()

    async def close(self) -> None:
        await self._images.close()
        self._containers.close()
        self._meter.close()

    def on_change(self, listener: Callable[[str], None]) -> None:
        self._listeners.append(listener)

    def _change(self, pod_uid: str) -> None:
        for listener in self._listeners:
            listener(pod_uid)

    async def state(self) -> RuntimeState:
        return RuntimeState(self.name, self._version, self._problem, await asyncio.to_thread(self._network.problem))

    def _check(self) -> None:
        if self._problem:
            raise RuntimeFailed(self._problem)

    async def run_sandbox(self, config: SandboxConfig) -> str:
        self._check()
        return await self._sandboxes.run(config)

    async def stop_sandbox(self, sandbox_id: str) -> None:
        stops = (self._containers.stop(each.id, 0) for each in self._containers.of(sandbox_id=sandbox_id))
        for failed in await asyncio.gather(*stops, return_exceptions=True):
            if failed is not None:
                raise failed  # one word to the caller, when every container was tried
        await self._sandboxes.stop(sandbox_id)

    async def remove_sandbox(self, sandbox_id: str) -> None:
        await self.stop_sandbox(sandbox_id)
        for each in self._containers.of(sandbox_id=sandbox_id):
            await self._containers.remove(each.id)
        await self._sandboxes.remove(sandbox_id)

    async def sandboxes(self, pod_uid: str = "") -> Sequence[Sandbox]:
        return [each.shown(self._sandboxes.state(each)) for each in self._sandboxes.records() if pod_uid in ("", each.uid)]

    async def create_container(self, sandbox_id: str, config: ContainerConfig, sandbox: SandboxConfig) -> str:
        self._check()
        return await self._containers.create(sandbox_id, config, sandbox)

    async def start_container(self, container_id: str) -> None:
        self._check()
        await self._containers.start(container_id)

    async def stop_container(self, container_id: str, grace_seconds: float) -> None:
        await self._containers.stop(container_id, grace_seconds)

    async def remove_container(self, container_id: str) -> None:
        await self._containers.remove(container_id)

    async def containers(self, pod_uid: str = "") -> Sequence[Container]:
        wanted = {each.id for each in self._containers.of(pod_uid=pod_uid)}
        return [each for each in self._containers.all() if each.id in wanted]

    async def container(self, container_id: str) -> Container:
        return self._containers.shown(container_id)

    async def reopen_log(self, container_id: str) -> None:
        record = self._containers.running_record(container_id)
        try:
            await self._shims.ask(record.id, b"R")
        except OSError as error:
            raise RuntimeFailed(f"the log of container {record.name} cannot be opened anew: its shim is gone") from error

    async def exec_sync(self, container_id: str, command: Sequence[str], timeout_seconds: float) -> ExecResult:
        async with asyncio.timeout(timeout_seconds if timeout_seconds > 0 else None):
            return await collected(self._exec(container_id, command, tty=False, stdin=False))

    def exec(self, container_id: str, command: Sequence[str], *, tty: bool, stdin: bool) -> Stream:
        return self._exec(container_id, command, tty=tty, stdin=stdin)

    def _exec(self, container_id: str, command: Sequence[str], *, tty: bool, stdin: bool) -> ShimStream:
        async def open_() -> Running:
            record = self._containers.running_record(container_id)
            process = await asyncio.to_thread(self._bundles.process, record.id)
            return await self._shims.exec(record.id, spec.exec_process(process, command, tty=tty), tty=tty, stdin=stdin)

        return ShimStream(open_, is_exec=True, tty=tty)

    def attach(self, container_id: str, *, stdin: bool) -> Stream:
        async def open_() -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
            if self._containers.shown(container_id).state is ContainerState.EXITED:
                return None
            record = self._containers.running_record(container_id)
            try:
                return await self._shims.connect(record.id, stdin=stdin)
            except OSError:
                return None  # it ended just now

        return ShimStream(open_, is_exec=False)

    def port_forward(self, sandbox_id: str, port: int) -> Connection:
        async def open_() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            record = self._sandboxes.record(sandbox_id)
            netns = self._sandboxes.netns(record)
            try:
                if not netns:
                    return await asyncio.open_connection("localhost", port)
                return await asyncio.open_connection(sock=await self._shims.connect_into(netns, port))
            except OSError as error:
                raise RuntimeFailed(f"nothing answers on port {port} in the pod: {error.strerror or error}") from error

        return PodConnection(open_)

    async def usage(self) -> Sequence[Usage]:
        running = self._containers.running()
        return await self._meter.usage([(each.id, each.cgroup, self._containers.folder(each.id) / "upper") for each in running])
