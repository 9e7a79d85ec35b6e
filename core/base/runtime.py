"""The container runtime as the edge sees it: records and Protocols, shaped like CRI v1 and free of its encoding.

Two implementations, `core/pods/oci` (built in) and `core/pods/cri` (containerd, CRI-O), pass one suite, `tests/contract/runtime`. Sizes are
bytes, moments Unix seconds (0.0: not yet), durations seconds, unless a name says otherwise.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Final, Protocol

from pinnace.core.base.errors import PinnaceError


def _nothing() -> Mapping[str, str]:
    return MappingProxyType({})


POD_NAME_LABEL: Final = "io.kubernetes.pod.name"
POD_NAMESPACE_LABEL: Final = "io.kubernetes.pod.namespace"
POD_UID_LABEL: Final = "io.kubernetes.pod.uid"
CONTAINER_NAME_LABEL: Final = "io.kubernetes.container.name"
CONTAINER_HASH: Final = "io.kubernetes.container.hash"
CONTAINER_RESTARTS: Final = "io.kubernetes.container.restartCount"
TERMINATION_PATH: Final = "io.kubernetes.container.terminationMessagePath"
TERMINATION_POLICY: Final = "io.kubernetes.container.terminationMessagePolicy"
PRE_STOP: Final = "io.kubernetes.container.preStopHandler"
POD_GRACE: Final = "io.kubernetes.pod.terminationGracePeriod"
"""Labels and annotations by which pods are recognised after a restart; the kubelet's names, so that a node can be taken over."""


class RuntimeFailed(PinnaceError):
    """The runtime could not do it; `reason` is Kubernetes' word for it when there is one (StartError, ContainerCannotRun, ...)."""

    retryable = True

    def __init__(self, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class NoSuchContainer(RuntimeFailed):
    """There is no such container or sandbox."""


class PullFailed(PinnaceError):
    """An image could not be had. `reason` is InvalidImageName, ErrImagePull, ImageInspectError or RegistryUnavailable; `is_unreachable`
    says that no answer came from the registry, so that a local image may do."""

    retryable = True

    def __init__(self, message: str, *, reason: str = "ErrImagePull", is_unreachable: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.is_unreachable = is_unreachable


class SandboxState(Enum):
    READY = "ready"
    NOT_READY = "not ready"


class ContainerState(Enum):
    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"
    UNKNOWN = "unknown"


class Propagation(Enum):
    """mountPropagation of a volume mount: None, HostToContainer, Bidirectional."""

    PRIVATE = "private"
    HOST_TO_CONTAINER = "rslave"
    BIDIRECTIONAL = "rshared"


class Profile(Enum):
    """A seccomp or AppArmor profile's type."""

    RUNTIME_DEFAULT = "RuntimeDefault"
    UNCONFINED = "Unconfined"
    LOCALHOST = "Localhost"


@dataclass(frozen=True, slots=True)
class SecurityProfile:
    """`path` is the host's file for LOCALHOST."""

    kind: Profile = Profile.UNCONFINED
    path: str = ""


@dataclass(frozen=True, slots=True)
class Namespaces:
    """Which namespaces are the host's; otherwise net, uts and ipc are the pod's, and pid is the container's or, with `share_pid`, the
    pod's."""

    host_network: bool = False
    host_pid: bool = False
    host_ipc: bool = False
    share_pid: bool = False


@dataclass(frozen=True, slots=True)
class PortMapping:
    """A hostPort. `protocol` is TCP, UDP or SCTP; `host_ip` "" means every address."""

    container_port: int
    host_port: int
    protocol: str = "TCP"
    host_ip: str = ""


@dataclass(frozen=True, slots=True)
class Dns:
    """What resolv.conf says; a sandbox without it has the host's."""

    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SandboxConfig:
    """A pod's shared surroundings. `cgroup_parent` is the pod's cgroup, a path below each controller's root such as
    /kubepods/burstable/pod<uid>; `log_directory` the pod's folder for logs. The network plugins find the pod by the labels."""

    name: str
    namespace: str
    uid: str
    attempt: int
    hostname: str
    log_directory: Path
    dns: Dns | None = None
    ports: tuple[PortMapping, ...] = ()
    labels: Mapping[str, str] = field(default_factory=_nothing)
    annotations: Mapping[str, str] = field(default_factory=_nothing)
    cgroup_parent: str = ""
    sysctls: Mapping[str, str] = field(default_factory=_nothing)
    namespaces: Namespaces = field(default_factory=Namespaces)
    privileged: bool = False


@dataclass(frozen=True, slots=True)
class Sandbox:
    """One sandbox, running or not. `ips` is empty for the host's network."""

    id: str
    name: str
    namespace: str
    uid: str
    attempt: int
    state: SandboxState
    created_at: float
    ips: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=_nothing)
    annotations: Mapping[str, str] = field(default_factory=_nothing)


@dataclass(frozen=True, slots=True)
class Mount:
    """A host path in a container."""

    container_path: str
    host_path: str
    readonly: bool = False
    propagation: Propagation = Propagation.PRIVATE


@dataclass(frozen=True, slots=True)
class Device:
    """A device node for a container; `permissions` are letters of rwm."""

    container_path: str
    host_path: str
    permissions: str = "rwm"


@dataclass(frozen=True, slots=True)
class Resources:
    """cgroup settings; 0 means none. `unified` holds cgroup v2 files beyond these."""

    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_shares: int = 0
    memory_limit: int = 0
    oom_score_adj: int = 0
    hugepages: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    unified: Mapping[str, str] = field(default_factory=_nothing)


@dataclass(frozen=True, slots=True)
class Security:
    """`run_as_user` None takes the image's user; a name only comes from the image. Paths None mean the runtime's defaults
    (procMount: Unmasked gives empty ones)."""

    privileged: bool = False
    add_capabilities: tuple[str, ...] = ()
    drop_capabilities: tuple[str, ...] = ()
    run_as_user: int | None = None
    run_as_group: int | None = None
    supplemental_groups: tuple[int, ...] = ()
    readonly_root: bool = False
    no_new_privileges: bool = False
    masked_paths: tuple[str, ...] | None = None
    readonly_paths: tuple[str, ...] | None = None
    seccomp: SecurityProfile = field(default_factory=SecurityProfile)
    apparmor: SecurityProfile = field(default_factory=SecurityProfile)


@dataclass(frozen=True, slots=True)
class ContainerConfig:
    """One container. `command` and `args` () take the image's entrypoint and cmd as Kubernetes says; `image` is an Image.id and
    `image_name` what the pod calls it; `log_path` is relative to the sandbox's `log_directory`."""

    name: str
    attempt: int
    image: str
    image_name: str
    log_path: str
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    working_dir: str = ""
    env: tuple[tuple[str, str], ...] = ()
    mounts: tuple[Mount, ...] = ()
    devices: tuple[Device, ...] = ()
    labels: Mapping[str, str] = field(default_factory=_nothing)
    annotations: Mapping[str, str] = field(default_factory=_nothing)
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    resources: Resources = field(default_factory=Resources)
    security: Security = field(default_factory=Security)


@dataclass(frozen=True, slots=True)
class Container:
    """One container's state. `reason` of an exited one is Completed, Error, OOMKilled, StartError, ContainerCannotRun, or
    ContainerStatusUnknown with exit code 137 or 255 when its end was not seen (the machine went down)."""

    id: str
    sandbox_id: str
    name: str
    attempt: int
    state: ContainerState
    image: str
    image_name: str
    image_ref: str
    created_at: float
    started_at: float = 0.0
    finished_at: float = 0.0
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    log_path: Path = Path()
    labels: Mapping[str, str] = field(default_factory=_nothing)
    annotations: Mapping[str, str] = field(default_factory=_nothing)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a container or a sandbox uses now. `cpu_seconds` counts from its start."""

    id: str
    at: float
    cpu_seconds: float
    memory_working_set: int
    memory_rss: int
    disk_bytes: int = 0
    disk_inodes: int = 0


@dataclass(frozen=True, slots=True)
class ExecResult:
    """What a command in a container said; each stream at most 16 MiB. Exit code 128 + n for signal n."""

    exit_code: int
    stdout: bytes
    stderr: bytes


@dataclass(frozen=True, slots=True)
class RuntimeState:
    """`problem` and `network_problem` say what is wrong and what to do; "" when all is well."""

    name: str
    version: str
    problem: str = ""
    network_problem: str = ""


@dataclass(frozen=True, slots=True)
class Image:
    """One image. `id` is the digest of its configuration (sha256:...), `tags` full names such as docker.io/library/busybox:1.36, `digests`
    name@sha256:... of manifests; `user` is what the image sets ("", "1000", "app:app")."""

    id: str
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    size: int
    user: str = ""
    is_pinned: bool = False
    used_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Credential:
    """For a registry; a secret, never in a representation. `server` is the registry it is for ("" for any)."""

    server: str = ""
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class DiskUsage:
    """A file system: what images take of it, and the whole of it."""

    path: Path
    used_by_images: int
    capacity: int
    available: int
    inodes: int
    inodes_free: int


class Stream(Protocol):
    """A running exec or attach. Several may be open on one container. An async context manager; leaving it lets go, and ends an exec."""

    async def __aenter__(self) -> Stream: ...

    async def __aexit__(self, *exc: object) -> None: ...

    def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """(1, stdout) and (2, stderr) as they come; with a terminal all is 1. Ends when the process or, for attach, the container does."""
        ...

    async def write(self, data: bytes) -> None:
        """To stdin; waits for room. Nothing happens after the process ended."""
        ...

    async def close_stdin(self) -> None: ...

    async def resize(self, columns: int, rows: int) -> None: ...

    async def wait(self) -> int:
        """The exit code, once `output` has been read to its end; 0 for an attach."""
        ...


class Connection(Protocol):
    """A byte stream into a pod's network, for port-forward. Leaving it closes it."""

    async def __aenter__(self) -> Connection: ...

    async def __aexit__(self, *exc: object) -> None: ...

    async def read(self, most: int = 65536) -> bytes:
        """b"" at the end."""
        ...

    async def write(self, data: bytes) -> None: ...

    async def close_write(self) -> None: ...


Progress = Callable[[int, int], None]
"""(bytes had, bytes of the whole image; 0 while unknown)."""


class Images(Protocol):
    """The images of a runtime."""

    async def images(self) -> Sequence[Image]: ...

    async def image(self, reference: str) -> Image | None:
        """By name, name@digest or id. Raises PullFailed(reason="InvalidImageName")."""
        ...

    async def pull(self, reference: str, credentials: Sequence[Credential] = (), *, progress: Progress | None = None) -> Image:
        """Fetch, verify and unpack; waits for a pull of the same image that is under way. Those of `credentials` that are for the
        image's registry (or a mirror of it) are tried, the most particular first, then none. Raises PullFailed."""
        ...

    async def remove(self, image_id: str) -> None:
        """Raises RuntimeFailed when a container uses it."""
        ...

    async def disk(self) -> DiskUsage: ...


class Runtime(Protocol):
    """Sandboxes and containers. Every call may raise RuntimeFailed; calls about one sandbox may come at the same time as those of others.

    All state is the runtime's own and survives the agent: after a restart `sandboxes` and `containers` tell what there is.
    """

    name: str
    """What stands before :// in a containerID."""

    @property
    def images(self) -> Images: ...

    async def start(self) -> None:
        """Take up what is there. Does not raise for what may get better: `state` tells it."""
        ...

    async def run(self) -> None:
        """For ever: see what ends."""
        ...

    async def close(self) -> None:
        """Let go; containers go on."""
        ...

    def on_change(self, listener: Callable[[str], None]) -> None:
        """Call `listener(pod uid)` soon after a container of that pod ended or appeared; plain, must not block."""
        ...

    async def state(self) -> RuntimeState: ...

    async def run_sandbox(self, config: SandboxConfig) -> str: ...

    async def stop_sandbox(self, sandbox_id: str) -> None:
        """End its containers and its network; nothing happens when it is stopped or gone."""
        ...

    async def remove_sandbox(self, sandbox_id: str) -> None: ...

    async def sandboxes(self, pod_uid: str = "") -> Sequence[Sandbox]: ...

    async def create_container(self, sandbox_id: str, config: ContainerConfig, sandbox: SandboxConfig) -> str: ...

    async def start_container(self, container_id: str) -> None:
        """Raises RuntimeFailed(reason="StartError") and the like; the container is then EXITED (code 128) with that reason."""
        ...

    async def stop_container(self, container_id: str, grace_seconds: float) -> None:
        """The image's stop signal or SIGTERM, then SIGKILL after the grace; returns when it ended. Nothing happens when it has ended or is
        gone."""
        ...

    async def remove_container(self, container_id: str) -> None:
        """Kills it first if need be; its log stays. Nothing happens when it is gone."""
        ...

    async def containers(self, pod_uid: str = "") -> Sequence[Container]: ...

    async def container(self, container_id: str) -> Container:
        """Raises NoSuchContainer."""
        ...

    async def reopen_log(self, container_id: str) -> None:
        """The log file was renamed: write to a new one."""
        ...

    async def exec_sync(self, container_id: str, command: Sequence[str], timeout_seconds: float) -> ExecResult:
        """Raises TimeoutError; the command is then killed."""
        ...

    def exec(self, container_id: str, command: Sequence[str], *, tty: bool, stdin: bool) -> Stream: ...

    def attach(self, container_id: str, *, stdin: bool) -> Stream: ...

    def port_forward(self, sandbox_id: str, port: int) -> Connection: ...

    async def usage(self) -> Sequence[Usage]:
        """Of every running container."""
        ...
