"""A node that runs pods for real: crun or containerd, volumes, cgroups, probes and the store; only the cloud is in memory."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Protocol

from contract.runtime.pods import remove_cgroups
from fakes.podevents import FakeEvents
from fakes.uplink import FakeUplink

from pinnace.core.base.contract.keys import NodeName
from pinnace.core.base.ports import ObjectChange
from pinnace.core.base.runtime import Container, ContainerState, Runtime
from pinnace.core.base.settings.edged import BuiltinRuntimeSettings, EdgedSettings, KubeletSettings
from pinnace.core.meta.store import Store
from pinnace.core.pods.material import Host, PodMaterials
from pinnace.core.pods.probes import LifecycleHooks, ProbeRunner
from pinnace.core.pods.service import PodService
from pinnace.core.pods.upkeep import PodCgroups
from rig.pods import FakePodCloud, Object
from rig.waiting import until

NODE = NodeName("edge-1")
PATIENCE_SECONDS = 30.0


class Home(Protocol):
    """What of a runtime outlives the agent."""

    @property
    def settings(self) -> BuiltinRuntimeSettings: ...

    def adapter(self, *, boot: str = "") -> Runtime: ...

    def power_cut(self) -> None:
        """What a machine loses with its power."""
        ...

    def sweep(self) -> None:
        """End what is left of pods."""
        ...


class PodNode:
    """Over one home; `start` and `stop` are the agent's, containers go on between them. With the systemd driver its pods are in the
    machine's one kubepods.slice."""

    def __init__(self, home: Home, folder: Path, *, cgroup_driver: str = "cgroupfs") -> None:
        self.home = home
        self.folder = folder
        is_systemd = cgroup_driver == "systemd"
        self.cgroup = "/kubepods.slice" if is_systemd else f"/pinnace-test-{secrets.token_hex(4)}"
        root = "/" if is_systemd else self.cgroup
        kubelet = KubeletSettings(cgroup_root=root, cgroup_driver=cgroup_driver, static_pod_path=folder / "manifests")
        self.settings = EdgedSettings(
            root_directory=folder / "kubelet", pod_logs_dir=folder / "logs", tailored_kubelet_config=kubelet, builtin_runtime=home.settings
        )
        self.cloud = FakePodCloud()
        self.uplink = FakeUplink(self.cloud.answer)
        self.events = FakeEvents()
        self._stack = contextlib.AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, *, online: bool = True, boot: str = "") -> None:
        """The agent begins."""
        self.store = await self._stack.enter_async_context(Store(self.folder / "edge.db"))
        self.uplink = FakeUplink(self.cloud.answer)
        self.runtime: Runtime = self.home.adapter(boot=boot)
        self.cgroups = cgroups = PodCgroups(self.settings.tailored_kubelet_config, room={"cpu": 2000, "memory": 1 << 30})
        host = Host(NODE, 1 << 30, lambda: ("127.0.0.1",), lambda: {"cpu": "2", "memory": "1Gi"})
        self._materials = materials = PodMaterials(
            self.settings, host, objects=self.store, uplink=self.uplink, events=self.events, cgroups=cgroups
        )
        prober = ProbeRunner(self.runtime, self.events)
        self._stack.push_async_callback(prober.close)
        self.service = PodService(
            self.settings, NODE, objects=self.store, uplink=self.uplink, runtime=self.runtime, materials=materials, prober=prober,
            hooks=LifecycleHooks(self.runtime), events=self.events, cgroups=cgroups, host_ips=lambda: ("127.0.0.1",),
        )  # fmt: skip
        self.service.set_static(())
        self._tasks = [asyncio.create_task(self.service.run()), asyncio.create_task(self._deliver())]
        if online:
            await self.uplink.connect()

    async def stop(self) -> None:
        """The agent ends; so does the store. Containers do not."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        await self._stack.aclose()
        self._stack = contextlib.AsyncExitStack()

    async def close(self) -> None:
        await self.stop()
        await asyncio.to_thread(self.home.sweep)
        if self.settings.tailored_kubelet_config.cgroup_driver == "systemd":
            await self.cgroups.dissolve()
        remove_cgroups(self.cgroup)
        shutil.rmtree(self.folder, ignore_errors=True)

    async def apply(self, body: Object) -> None:
        await self._push(self.cloud.write(body))

    async def delete(self, name: str, grace: int = 2) -> None:
        self.cloud.downlink.append(self.cloud.begin_deletion(name, grace))  # behind what is on its way

    async def store_object(self, change: ObjectChange) -> None:
        """The cloud pushes something that pods are made of."""
        await self.store.apply([change])
        await self._materials.changed(change)
        await self.service.looked_for(change)

    async def _push(self, change: ObjectChange) -> None:
        await self.store.apply([change])
        await self.service.changed(change)

    async def _deliver(self) -> None:
        while True:
            while self.cloud.downlink and self.uplink.is_up:
                await self._push(self.cloud.downlink.pop(0))
            await asyncio.sleep(0.005)

    def status(self, name: str) -> Object:
        return next((each.status for each in self.service.pods() if each.name == name), {})

    def api(self, name: str) -> Object:
        status: Object = (self.cloud.pods.get(name) or {}).get("status") or {}
        return status

    async def running(self, uid: str = "") -> list[Container]:
        return [each for each in await self.runtime.containers(uid) if each.state is ContainerState.RUNNING]

    async def until(self, claim: Callable[[], Any], what: str, *, seconds: float = PATIENCE_SECONDS) -> None:
        await until(claim, what, seconds=seconds, more=self._told)

    def _told(self) -> str:
        return "\n".join(f"{each.about}: {each.reason} {each.message}" for each in self.events.told[-8:])

    async def until_phase(self, name: str, phase: str) -> None:
        await self.until(lambda: self.status(name).get("phase") == phase, f"{name} being {phase}")


@contextlib.asynccontextmanager
async def pod_node(home: Home, *, cgroup_driver: str = "cgroupfs") -> AsyncIterator[PodNode]:
    """A node in a folder of its own, its agent begun; nothing of it is left afterwards."""
    node = PodNode(home, Path(tempfile.mkdtemp(prefix="pin-pods-")), cgroup_driver=cgroup_driver)
    await node.start()
    try:
        yield node
    finally:
        await node.close()
