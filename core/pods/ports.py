"""How the parts of the pods meet; `service.py` wires them. No part imports another; all may import `rules`, this module and core.base."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from enum import Enum
from pathlib import Path
from typing import Protocol

from pinnace.core.base.contract.keys import ResourceKey
from pinnace.core.base.errors import PinnaceError
from pinnace.core.base.pod import Container, Object, Pod
from pinnace.core.base.runtime import ContainerConfig, Credential, Image, SandboxConfig


class SpecRefused(PinnaceError):
    """The pod or container cannot be made as it is; `reason` is Kubernetes' (CreateContainerConfigError, CreatePodSandboxError, ...).
    Tried again with back-off: what it lacks may come."""

    retryable = True

    def __init__(self, message: str, *, reason: str = "CreateContainerConfigError") -> None:
        super().__init__(message)
        self.reason = reason


class VolumesNotReady(PinnaceError):
    """A volume cannot be set up now; the message names it and says why. The pod waits in ContainerCreating (event FailedMount)."""

    retryable = True


class HookFailed(PinnaceError):
    """A lifecycle hook failed; the message says how."""


class Materials(Protocol):
    """Turns a pod's spec and what is stored into what the runtime wants. Calls about one pod never overlap."""

    async def mount(self, pod: Pod) -> None:
        """Set up its volumes, folders and /etc/hosts, or bring them up to date (config maps, secrets, tokens, downward API): called before
        the first container and about once a minute. Raises VolumesNotReady; what could be set up stays."""
        ...

    def sandbox_config(self, pod: Pod, attempt: int) -> SandboxConfig:
        """Raises SpecRefused."""
        ...

    async def container_config(
        self, pod: Pod, container: Container, *, attempt: int, image: Image, pod_ips: Sequence[str], sandbox: SandboxConfig
    ) -> ContainerConfig:
        """Everything of a container, /etc/hosts, /etc/hostname's and the termination log's mounts included. Raises SpecRefused."""
        ...

    async def pull_credentials(self, pod: Pod) -> Sequence[Credential]:
        """All of its imagePullSecrets; whose they are for an image is the images' choice (rules/credentials.py). A missing secret is passed
        over with a warning event."""
        ...

    def uses(self, pod: Pod) -> Collection[ResourceKey]:
        """The stored objects whose change makes a look at the pod worth while."""
        ...

    def termination_log(self, pod: Pod, container: Container, attempt: int) -> Path:
        """The host's file behind terminationMessagePath."""
        ...

    async def abandon(self, pod_uid: str) -> None:
        """Something of the pod was killed and does not end. Where a server of its volumes is away and nobody but such pods has mounted it,
        all that waits for that server fails; what was not on it yet is lost."""
        ...

    async def unmount(self, pod_uid: str) -> None:
        """Unmount and remove all of a pod but its logs. Raises VolumesNotReady when something is still busy; then it is tried again."""
        ...

    async def leftovers(self) -> Collection[str]:
        """The uids of pods that something is left of on the disk."""
        ...


class ProbeKind(Enum):
    STARTUP = "startup"
    LIVENESS = "liveness"
    READINESS = "readiness"


class ProbeResult(Enum):
    SUCCESS = "success"
    FAILURE = "failure"
    UNKNOWN = "unknown"


class Prober(Protocol):
    """Runs the probes of running containers."""

    def watch(
        self, pod: Pod, container: Container, container_id: str, pod_ip: str, *, is_restart: bool = False, started_at: float = 0.0
    ) -> None:
        """Probe a container that runs, from now on; nothing happens when it is watched already. `is_restart`: it was running before the
        agent was, so the first look comes at a random moment of a period, and not before what is left of its initial delay since
        `started_at` (Unix seconds)."""
        ...

    def forget(self, container_id: str) -> None: ...

    def result(self, container_id: str, kind: ProbeKind) -> ProbeResult:
        """The verdict after thresholds; before the first one SUCCESS for liveness, FAILURE for readiness, UNKNOWN for startup; SUCCESS
        where the container has no such probe."""
        ...

    def on_change(self, listener: Callable[[str], None]) -> None:
        """Call `listener(pod uid)` when a verdict changed."""
        ...


class Hooks(Protocol):
    """Runs lifecycle handlers (exec, httpGet, tcpSocket, sleep)."""

    async def run(self, pod: Pod, container: Container, handler: Object, container_id: str, pod_ip: str, *, timeout_seconds: float) -> None:
        """Raises HookFailed."""
        ...


class Events(Protocol):
    """Tells people what happened."""

    def pod(self, pod: Pod, kind: str, reason: str, message: str, *, container: str = "", is_init: bool = False) -> None:
        """`kind` is Normal or Warning. Repeats are counted up in one Event; never waits."""
        ...

    def node(self, kind: str, reason: str, message: str) -> None: ...


class Cgroups(Protocol):
    """The pods' part of the cgroup tree, v1 or v2. Blocking only for microseconds: files of a kernel file system. Where systemd has to be
    asked it is waited for."""

    def parent(self, pod: Pod) -> str:
        """/kubepods[/burstable|/besteffort]/pod<uid>; with the systemd driver the path of the slice, /kubepods.slice/..."""
        ...

    async def ensure(self, pod: Pod) -> None:
        """Make the pod's cgroup with the limits of the pod. Raises SpecRefused(reason="FailedCreatePodContainer")."""
        ...

    async def remove(self, pod_uid: str) -> None:
        """What cannot be removed yet stays among the leftovers."""
        ...

    def leftovers(self) -> Collection[str]:
        """The uids of pods that have a cgroup."""
        ...

    def working_set(self, pod_uid: str) -> int:
        """Bytes of memory the pod cannot give back; 0 when unknown."""
        ...


class PodControl(Protocol):
    """The pods of this node, for what looks after them."""

    def pods(self) -> Sequence[Pod]:
        """Those that are to be here and those on their way out; `status` is the newest."""
        ...

    async def evict(self, pod_uid: str, *, reason: str, message: str, grace_seconds: float) -> None:
        """End a pod for good: phase Failed with this reason. Returns when its containers have ended."""
        ...

    async def rest(self, pod_uid: str, *, grace_seconds: float) -> None:
        """End what runs of a pod but not the pod: it goes on with `wake`, or with the agent's next start. Returns when its containers have
        ended."""
        ...

    def wake(self) -> None:
        """Let all pods that rest go on."""
        ...

    def look(self, pod_uid: str) -> None:
        """Have the pod's worker look at it now."""
        ...

    def set_static(self, pods: Sequence[Pod]) -> None:
        """The pods that files on this node describe now."""
        ...


Listener = Callable[[Pod], Awaitable[None]]
