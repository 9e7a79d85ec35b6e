"""CriRuntime: `Runtime` over CRI v1, for containerd and CRI-O."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from pinnace.core.base.runtime import (
    POD_UID_LABEL,
    Connection,
    Container,
    ContainerConfig,
    ContainerState,
    ExecResult,
    NoSuchContainer,
    RuntimeFailed,
    RuntimeState,
    Sandbox,
    SandboxConfig,
    Stream,
    Usage,
)
from pinnace.core.pods.cri import messages, translation
from pinnace.core.pods.cri.changes import Changes
from pinnace.core.pods.cri.failures import failure, is_gone, is_timeout
from pinnace.core.pods.cri.grpc import UNIMPLEMENTED, CallFailed, Channel, Unreachable
from pinnace.core.pods.cri.images import CriImages
from pinnace.core.pods.cri.protobuf import M, Message
from pinnace.core.pods.cri.streams import CommandStream, PortStream

logger = logging.getLogger(__name__)

_STATE_SECONDS: Final = 10.0
_EXEC_EXTRA: Final = 10.0
"""How much longer than the command's own time-out the runtime gets to answer."""


class CriRuntime:
    """`endpoint` and `image_endpoint` ("" is the same) are unix:// addresses; `cgroup_driver` counts only with runtimes that do not tell
    theirs."""

    def __init__(self, endpoint: str, image_endpoint: str = "", *, request_seconds: float = 120.0, cgroup_driver: str = "cgroupfs") -> None:
        path = Path(endpoint.removeprefix("unix://"))
        image_path = Path(image_endpoint.removeprefix("unix://")) if image_endpoint else path
        self.name = "cri-o" if "crio" in path.name else "containerd"
        self._version = ""
        self._request_seconds = request_seconds
        self._cgroup_driver = cgroup_driver
        self._channel = Channel(path)
        self._image_channel = self._channel if image_path == path else Channel(image_path)
        self._listeners: list[Callable[[str], None]] = []
        self._ended: dict[str, Container] = {}
        self._ips: dict[str, tuple[str, ...]] = {}
        self._sandbox_image: frozenset[str] | None = None
        self._is_known = False
        self._changes = Changes(self._channel, request_seconds=request_seconds, changed=self._tell, came_back=self._forget)
        self._images = CriImages(
            self._image_channel,
            request_seconds=request_seconds,
            in_use=self._images_in_use,
            pinned=self._pinned,
            wants_bare_ids=lambda: self._is_crio,
        )

    @property
    def _is_crio(self) -> bool:
        return self.name == "cri-o"

    @property
    def images(self) -> CriImages:
        return self._images

    async def start(self) -> None:
        with suppress(RuntimeFailed):
            await self._introduce()

    async def run(self) -> None:
        await self._changes.run()

    async def close(self) -> None:
        await self._images.close()
        self._channel.close()
        self._image_channel.close()

    def on_change(self, listener: Callable[[str], None]) -> None:
        self._listeners.append(listener)

    def _tell(self, uid: str) -> None:
        for each in self._listeners:
            each(uid)

    def _forget(self) -> None:
        """The runtime was away and may be another one now."""
        self._is_known = False
        self._sandbox_image = None
        self._ips.clear()

    async def _call(self, method: str, request: Message, answer: type[M], *, seconds: float | None = None, reason: str = "") -> M:
        try:
            return await self._channel.call(
                f"/runtime.v1.RuntimeService/{method}", request, answer, timeout=self._request_seconds if seconds is None else seconds
            )
        except (CallFailed, Unreachable) as error:
            raise failure(error, reason=reason) from error

    async def _introduce(self) -> None:
        """Ask who it is and how it names cgroups, once per connection."""
        if self._is_known:
            return
        said = await self._call("Version", messages.VersionRequest(), messages.VersionResponse, seconds=_STATE_SECONDS)
        self.name, self._version = said.runtime_name or self.name, said.runtime_version
        try:
            config = await self._channel.call(
                "/runtime.v1.RuntimeService/RuntimeConfig", messages.Empty(), messages.RuntimeConfigResponse, timeout=_STATE_SECONDS
            )
        except Unreachable as error:
            raise failure(error) from error
        except CallFailed as error:
            if error.code != UNIMPLEMENTED:
                logger.warning("pods.cri.config.unknown reason=%s: cgroupDriver of the settings is used", error)
        else:
            if config.linux is not None and 0 <= config.linux.cgroup_driver < len(messages.CGROUP_DRIVERS):
                self._cgroup_driver = messages.CGROUP_DRIVERS[config.linux.cgroup_driver]
        self._is_known = True

    async def state(self) -> RuntimeState:
        try:
            await self._introduce()
            said = await self._call("Status", messages.StatusRequest(), messages.StatusResponse, seconds=_STATE_SECONDS)
        except RuntimeFailed as error:
            problem = f"{error}; see to it that {self.name} runs and that containerRuntimeEndpoint names its socket"
            return RuntimeState(self.name, self._version, problem=problem)
        problems = {"RuntimeReady": "", "NetworkReady": ""}
        for each in said.status.conditions if said.status else ():
            if each.type in problems and not each.status:
                problems[each.type] = f"{self.name} says: {each.message or each.reason or each.type + ' is false'}"
        network = problems["NetworkReady"]
        if network:
            network += "; put a CNI configuration into /etc/cni/net.d (pods with hostNetwork run without)"
        return RuntimeState(self.name, self._version, problem=problems["RuntimeReady"], network_problem=network)

    # Sandboxes

    async def run_sandbox(self, config: SandboxConfig) -> str:
        await self._introduce()
        request = messages.RunPodSandboxRequest(config=translation.sandbox_config(config, self._cgroup_driver))
        return (await self._call("RunPodSandbox", request, messages.SandboxId, reason="CreatePodSandboxError")).pod_sandbox_id

    async def stop_sandbox(self, sandbox_id: str) -> None:
        await self._kill(messages.ContainerFilter(pod_sandbox_id=sandbox_id))
        with suppress(NoSuchContainer):
            await self._call("StopPodSandbox", messages.SandboxId(pod_sandbox_id=sandbox_id), messages.Empty)

    async def remove_sandbox(self, sandbox_id: str) -> None:
        await self.stop_sandbox(sandbox_id)
        with suppress(NoSuchContainer):
            await self._call("RemovePodSandbox", messages.SandboxId(pod_sandbox_id=sandbox_id), messages.Empty)
        self._ips.pop(sandbox_id, None)

    async def sandboxes(self, pod_uid: str = "") -> Sequence[Sandbox]:
        wanted = messages.PodSandboxFilter(label_selector={POD_UID_LABEL: pod_uid}) if pod_uid else None
        said = await self._call("ListPodSandbox", messages.ListPodSandboxRequest(filter=wanted), messages.ListPodSandboxResponse)
        found = []
        for each in said.items:
            with suppress(NoSuchContainer):
                found.append(translation.sandbox(each, await self._addresses(each)))
        if not pod_uid:
            self._ips = {each.id: self._ips[each.id] for each in said.items if each.id in self._ips}
        return found

    async def _addresses(self, listed: messages.PodSandbox) -> tuple[str, ...]:
        """They stay while the sandbox is ready, so they are asked for once."""
        if listed.state != messages.SANDBOX_READY:
            self._ips.pop(listed.id, None)
            return ()
        if listed.id not in self._ips:
            said = await self._call("PodSandboxStatus", messages.SandboxId(pod_sandbox_id=listed.id), messages.PodSandboxStatusResponse)
            network = said.status.network if said.status else None
            own = (network.ip, *(each.ip for each in network.additional_ips)) if network and network.ip else ()
            self._ips[listed.id] = own
        return self._ips[listed.id]

    # Containers

    async def create_container(self, sandbox_id: str, config: ContainerConfig, sandbox: SandboxConfig) -> str:
        await self._introduce()
        image = await self.images.image(config.image) if config.security.run_as_user is None else None
        user = image.user if image else ""
        request = messages.CreateContainerRequest(
            pod_sandbox_id=sandbox_id,
            config=translation.container_config(config, sandbox, image=self.images.spec(config.image).image, user=user),
            sandbox_config=translation.sandbox_config(sandbox, self._cgroup_driver),
        )
        return (await self._call("CreateContainer", request, messages.ContainerId, reason="CreateContainerError")).container_id

    async def start_container(self, container_id: str) -> None:
        await self._call("StartContainer", messages.ContainerId(container_id=container_id), messages.Empty, reason="StartError")

    async def stop_container(self, container_id: str, grace_seconds: float) -> None:
        grace = max(0, math.ceil(grace_seconds))
        request = messages.StopContainerRequest(container_id=container_id, timeout=grace)
        with suppress(NoSuchContainer):
            await self._call("StopContainer", request, messages.Empty, seconds=grace + self._request_seconds)

    async def remove_container(self, container_id: str) -> None:
        await self._kill(messages.ContainerFilter(id=container_id))
        with suppress(NoSuchContainer):
            await self._call("RemoveContainer", messages.ContainerId(container_id=container_id), messages.Empty)
        self._ended.pop(container_id, None)

    async def _kill(self, wanted: messages.ContainerFilter) -> None:
        """What still runs when it is to go. containerd does so itself; CRI-O asks it to end and waits for as long as the call may take."""
        await self._introduce()
        if self._is_crio:
            running = [each.id for each in await self._listed(wanted) if each.state == messages.CONTAINER_RUNNING]
            await asyncio.gather(*(self.stop_container(each, 0) for each in running))

    async def containers(self, pod_uid: str = "") -> Sequence[Container]:
        wanted = messages.ContainerFilter(label_selector={POD_UID_LABEL: pod_uid}) if pod_uid else None
        listed = await self._listed(wanted)
        found = []
        for each in listed:
            with suppress(NoSuchContainer):
                found.append(await self._described(each))
        if not pod_uid:
            self._ended = {each.id: self._ended[each.id] for each in listed if each.id in self._ended}
        return found

    async def container(self, container_id: str) -> Container:
        listed = await self._listed(messages.ContainerFilter(id=container_id))
        if not listed:
            raise NoSuchContainer(f"there is no container {container_id}")
        return await self._described(listed[0])

    async def _listed(self, wanted: messages.ContainerFilter | None) -> tuple[messages.Container, ...]:
        request = messages.ListContainersRequest(filter=wanted)
        return (await self._call("ListContainers", request, messages.ListContainersResponse)).containers

    async def _described(self, listed: messages.Container) -> Container:
        known = self._ended.get(listed.id)
        if known is not None:
            return known
        request = messages.ContainerId(container_id=listed.id)
        said = await self._call("ContainerStatus", request, messages.ContainerStatusResponse)
        if said.status is None:
            raise NoSuchContainer(f"there is no container {listed.id}")
        container = translation.container(listed, said.status)
        if container.state is ContainerState.EXITED:
            self._ended[listed.id] = container
        return container

    async def reopen_log(self, container_id: str) -> None:
        await self._call("ReopenContainerLog", messages.ContainerId(container_id=container_id), messages.Empty)

    # Commands and connections

    async def exec_sync(self, container_id: str, command: Sequence[str], timeout_seconds: float) -> ExecResult:
        seconds = max(1, math.ceil(timeout_seconds))
        request = messages.ExecSyncRequest(container_id=container_id, cmd=tuple(command), timeout=seconds)
        try:
            said = await self._channel.call(
                "/runtime.v1.RuntimeService/ExecSync", request, messages.ExecSyncResponse, timeout=seconds + _EXEC_EXTRA
            )
        except (CallFailed, Unreachable) as error:
            if is_timeout(error) and not is_gone(error):
                raise TimeoutError(f"the command took longer than {seconds} s") from error
            raise failure(error) from error
        if said.exit_code == -1:  # CRI-O answers so, in place of a status
            raise TimeoutError(f"the command took longer than {seconds} s")
        return ExecResult(said.exit_code, said.stdout, said.stderr)

    def exec(self, container_id: str, command: Sequence[str], *, tty: bool, stdin: bool) -> Stream:
        async def address() -> tuple[str, bool]:
            request = messages.ExecRequest(container_id=container_id, cmd=tuple(command), tty=tty, stdin=stdin, stdout=True, stderr=not tty)
            return (await self._call("Exec", request, messages.StreamingUrl)).url, tty

        return CommandStream(address, stdin=stdin, is_attach=False)

    def attach(self, container_id: str, *, stdin: bool) -> Stream:
        async def address() -> tuple[str, bool]:
            tty = await self._has_terminal(container_id)
            request = messages.AttachRequest(container_id=container_id, stdin=stdin, tty=tty, stdout=True, stderr=not tty)
            return (await self._call("Attach", request, messages.StreamingUrl)).url, tty

        return CommandStream(address, stdin=stdin, is_attach=True)

    async def _has_terminal(self, container_id: str) -> bool:
        listed = await self._listed(messages.ContainerFilter(id=container_id))
        if not listed:
            raise NoSuchContainer(f"there is no container {container_id}")
        return listed[0].annotations.get(translation.TERMINAL) == "true"

    def port_forward(self, sandbox_id: str, port: int) -> Connection:
        async def address() -> str:
            request = messages.PortForwardRequest(pod_sandbox_id=sandbox_id, port=(port,))
            return (await self._call("PortForward", request, messages.StreamingUrl)).url

        return PortStream(address, port)

    async def usage(self) -> Sequence[Usage]:
        said = await self._call("ListContainerStats", messages.Empty(), messages.ListContainerStatsResponse)
        return [translation.usage(each) for each in said.stats if each.cpu is not None or each.memory is not None]

    # For the images

    async def _images_in_use(self) -> frozenset[str]:
        listed = await self._listed(None)
        return frozenset(translation.image_id(each.image_id or each.image_ref) for each in listed)

    async def _pinned(self) -> frozenset[str]:
        """The names of the sandboxes' own image, which an older runtime does not mark as pinned."""
        if self._sandbox_image is None:
            said = await self._call("Status", messages.StatusRequest(verbose=True), messages.StatusResponse, seconds=_STATE_SECONDS)
            self._sandbox_image = sandbox_image(said.info.get("config", ""))
        return self._sandbox_image


def sandbox_image(config: str) -> frozenset[str]:
    """From the configuration that containerd and CRI-O tell in their verbose status; empty with others."""
    try:
        known: Any = json.loads(config)
        name = known.get("sandboxImage") or known.get("pauseImage")
    except (ValueError, AttributeError):
        return frozenset()
    return frozenset({name}) if isinstance(name, str) and name else frozenset()
