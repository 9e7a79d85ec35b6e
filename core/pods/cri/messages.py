"""The messages of CRI v1 (package runtime.v1) as far as they are used, with their field numbers."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from pinnace.core.pods.cri.protobuf import Message, blob, flag, pairs, part, parts, signed, signeds, text, texts, unsigned


class NamespaceMode(IntEnum):
    POD = 0
    CONTAINER = 1
    NODE = 2


class ProfileType(IntEnum):
    RUNTIME_DEFAULT = 0
    UNCONFINED = 1
    LOCALHOST = 2


class ContainerEventType(IntEnum):
    CREATED = 0
    STARTED = 1
    STOPPED = 2
    DELETED = 3


PROTOCOLS = {"TCP": 0, "UDP": 1, "SCTP": 2}
PROPAGATIONS = {"private": 0, "rslave": 1, "rshared": 2}
SANDBOX_READY = 0
CONTAINER_RUNNING = 1
CONTAINER_STATES = ("created", "running", "exited", "unknown")
CGROUP_DRIVERS = ("systemd", "cgroupfs")


class Empty(Message):
    """A request or an answer that says nothing."""


class VersionRequest(Message):
    version: str = text(1)


class VersionResponse(Message):
    version: str = text(1)
    runtime_name: str = text(2)
    runtime_version: str = text(3)
    runtime_api_version: str = text(4)


class RuntimeCondition(Message):
    type: str = text(1)
    status: bool = flag(2)
    reason: str = text(3)
    message: str = text(4)


class RuntimeStatus(Message):
    conditions: tuple[RuntimeCondition, ...] = parts(1, RuntimeCondition)


class StatusRequest(Message):
    verbose: bool = flag(1)


class StatusResponse(Message):
    status: RuntimeStatus | None = part(1, RuntimeStatus)
    info: Mapping[str, str] = pairs(2)


class LinuxRuntimeConfiguration(Message):
    cgroup_driver: int = signed(1)


class RuntimeConfigResponse(Message):
    linux: LinuxRuntimeConfiguration | None = part(1, LinuxRuntimeConfiguration)


class DNSConfig(Message):
    servers: tuple[str, ...] = texts(1)
    searches: tuple[str, ...] = texts(2)
    options: tuple[str, ...] = texts(3)


class PortMapping(Message):
    protocol: int = signed(1)
    container_port: int = signed(2)
    host_port: int = signed(3)
    host_ip: str = text(4)


class Mount(Message):
    container_path: str = text(1)
    host_path: str = text(2)
    readonly: bool = flag(3)
    selinux_relabel: bool = flag(4)
    propagation: int = signed(5)


class Device(Message):
    container_path: str = text(1)
    host_path: str = text(2)
    permissions: str = text(3)


class NamespaceOption(Message):
    network: int = signed(1)
    pid: int = signed(2)
    ipc: int = signed(3)
    target_id: str = text(4)


class Int64Value(Message):
    value: int = signed(1)


class UInt64Value(Message):
    value: int = unsigned(1)


class SecurityProfile(Message):
    profile_type: int = signed(1)
    localhost_ref: str = text(2)


class LinuxSandboxSecurityContext(Message):
    namespace_options: NamespaceOption | None = part(1, NamespaceOption)
    privileged: bool = flag(6)
    seccomp: SecurityProfile | None = part(9, SecurityProfile)


class HugepageLimit(Message):
    page_size: str = text(1)
    limit: int = unsigned(2)


class LinuxContainerResources(Message):
    cpu_period: int = signed(1)
    cpu_quota: int = signed(2)
    cpu_shares: int = signed(3)
    memory_limit_in_bytes: int = signed(4)
    oom_score_adj: int = signed(5)
    hugepage_limits: tuple[HugepageLimit, ...] = parts(8, HugepageLimit)
    unified: Mapping[str, str] = pairs(9)


class LinuxPodSandboxConfig(Message):
    cgroup_parent: str = text(1)
    security_context: LinuxSandboxSecurityContext | None = part(2, LinuxSandboxSecurityContext)
    sysctls: Mapping[str, str] = pairs(3)


class PodSandboxMetadata(Message):
    name: str = text(1)
    uid: str = text(2)
    namespace: str = text(3)
    attempt: int = unsigned(4)


class PodSandboxConfig(Message):
    metadata: PodSandboxMetadata | None = part(1, PodSandboxMetadata)
    hostname: str = text(2)
    log_directory: str = text(3)
    dns_config: DNSConfig | None = part(4, DNSConfig)
    port_mappings: tuple[PortMapping, ...] = parts(5, PortMapping)
    labels: Mapping[str, str] = pairs(6)
    annotations: Mapping[str, str] = pairs(7)
    linux: LinuxPodSandboxConfig | None = part(8, LinuxPodSandboxConfig)


class RunPodSandboxRequest(Message):
    config: PodSandboxConfig | None = part(1, PodSandboxConfig)
    runtime_handler: str = text(2)


class SandboxId(Message):
    """StopPodSandboxRequest, RemovePodSandboxRequest, PodSandboxStatusRequest, RunPodSandboxResponse."""

    pod_sandbox_id: str = text(1)


class PodIP(Message):
    ip: str = text(1)


class PodSandboxNetworkStatus(Message):
    ip: str = text(1)
    additional_ips: tuple[PodIP, ...] = parts(2, PodIP)


class PodSandboxStatus(Message):
    id: str = text(1)
    metadata: PodSandboxMetadata | None = part(2, PodSandboxMetadata)
    state: int = signed(3)
    created_at: int = signed(4)
    network: PodSandboxNetworkStatus | None = part(5, PodSandboxNetworkStatus)
    labels: Mapping[str, str] = pairs(7)
    annotations: Mapping[str, str] = pairs(8)


class PodSandboxStatusResponse(Message):
    status: PodSandboxStatus | None = part(1, PodSandboxStatus)


class PodSandboxFilter(Message):
    id: str = text(1)
    label_selector: Mapping[str, str] = pairs(3)


class ListPodSandboxRequest(Message):
    filter: PodSandboxFilter | None = part(1, PodSandboxFilter)


class PodSandbox(Message):
    id: str = text(1)
    metadata: PodSandboxMetadata | None = part(2, PodSandboxMetadata)
    state: int = signed(3)
    created_at: int = signed(4)
    labels: Mapping[str, str] = pairs(5)
    annotations: Mapping[str, str] = pairs(6)


class ListPodSandboxResponse(Message):
    items: tuple[PodSandbox, ...] = parts(1, PodSandbox)


class ImageSpec(Message):
    image: str = text(1)
    annotations: Mapping[str, str] = pairs(2)
    user_specified_image: str = text(18)


class KeyValue(Message):
    key: str = text(1)
    value: str = text(2)


class Capability(Message):
    add_capabilities: tuple[str, ...] = texts(1)
    drop_capabilities: tuple[str, ...] = texts(2)


class LinuxContainerSecurityContext(Message):
    capabilities: Capability | None = part(1, Capability)
    privileged: bool = flag(2)
    namespace_options: NamespaceOption | None = part(3, NamespaceOption)
    run_as_user: Int64Value | None = part(5, Int64Value)
    run_as_group: Int64Value | None = part(12, Int64Value)
    run_as_username: str = text(6)
    readonly_rootfs: bool = flag(7)
    supplemental_groups: tuple[int, ...] = signeds(8)
    no_new_privs: bool = flag(11)
    masked_paths: tuple[str, ...] = texts(13)
    readonly_paths: tuple[str, ...] = texts(14)
    seccomp: SecurityProfile | None = part(15, SecurityProfile)
    apparmor: SecurityProfile | None = part(16, SecurityProfile)
    apparmor_profile: str = text(9)
    seccomp_profile_path: str = text(10)


class LinuxContainerConfig(Message):
    resources: LinuxContainerResources | None = part(1, LinuxContainerResources)
    security_context: LinuxContainerSecurityContext | None = part(2, LinuxContainerSecurityContext)


class ContainerMetadata(Message):
    name: str = text(1)
    attempt: int = unsigned(2)


class ContainerConfig(Message):
    metadata: ContainerMetadata | None = part(1, ContainerMetadata)
    image: ImageSpec | None = part(2, ImageSpec)
    command: tuple[str, ...] = texts(3)
    args: tuple[str, ...] = texts(4)
    working_dir: str = text(5)
    envs: tuple[KeyValue, ...] = parts(6, KeyValue)
    mounts: tuple[Mount, ...] = parts(7, Mount)
    devices: tuple[Device, ...] = parts(8, Device)
    labels: Mapping[str, str] = pairs(9)
    annotations: Mapping[str, str] = pairs(10)
    log_path: str = text(11)
    stdin: bool = flag(12)
    stdin_once: bool = flag(13)
    tty: bool = flag(14)
    linux: LinuxContainerConfig | None = part(15, LinuxContainerConfig)


class CreateContainerRequest(Message):
    pod_sandbox_id: str = text(1)
    config: ContainerConfig | None = part(2, ContainerConfig)
    sandbox_config: PodSandboxConfig | None = part(3, PodSandboxConfig)


class ContainerId(Message):
    """Start-, Remove-, Status- and ReopenLog-requests, CreateContainerResponse."""

    container_id: str = text(1)


class StopContainerRequest(Message):
    container_id: str = text(1)
    timeout: int = signed(2)


class ContainerFilter(Message):
    id: str = text(1)
    pod_sandbox_id: str = text(3)
    label_selector: Mapping[str, str] = pairs(4)


class ListContainersRequest(Message):
    filter: ContainerFilter | None = part(1, ContainerFilter)


class Container(Message):
    id: str = text(1)
    pod_sandbox_id: str = text(2)
    metadata: ContainerMetadata | None = part(3, ContainerMetadata)
    image: ImageSpec | None = part(4, ImageSpec)
    image_ref: str = text(5)
    state: int = signed(6)
    created_at: int = signed(7)
    labels: Mapping[str, str] = pairs(8)
    annotations: Mapping[str, str] = pairs(9)
    image_id: str = text(10)


class ListContainersResponse(Message):
    containers: tuple[Container, ...] = parts(1, Container)


class ContainerStatus(Message):
    id: str = text(1)
    metadata: ContainerMetadata | None = part(2, ContainerMetadata)
    state: int = signed(3)
    created_at: int = signed(4)
    started_at: int = signed(5)
    finished_at: int = signed(6)
    exit_code: int = signed(7)
    image: ImageSpec | None = part(8, ImageSpec)
    image_ref: str = text(9)
    reason: str = text(10)
    message: str = text(11)
    labels: Mapping[str, str] = pairs(12)
    annotations: Mapping[str, str] = pairs(13)
    log_path: str = text(15)
    image_id: str = text(17)


class ContainerStatusResponse(Message):
    status: ContainerStatus | None = part(1, ContainerStatus)


class ExecSyncRequest(Message):
    container_id: str = text(1)
    cmd: tuple[str, ...] = texts(2)
    timeout: int = signed(3)


class ExecSyncResponse(Message):
    stdout: bytes = blob(1)
    stderr: bytes = blob(2)
    exit_code: int = signed(3)


class ExecRequest(Message):
    container_id: str = text(1)
    cmd: tuple[str, ...] = texts(2)
    tty: bool = flag(3)
    stdin: bool = flag(4)
    stdout: bool = flag(5)
    stderr: bool = flag(6)


class AttachRequest(Message):
    container_id: str = text(1)
    stdin: bool = flag(2)
    tty: bool = flag(3)
    stdout: bool = flag(4)
    stderr: bool = flag(5)


class PortForwardRequest(Message):
    pod_sandbox_id: str = text(1)
    port: tuple[int, ...] = signeds(2)


class StreamingUrl(Message):
    """ExecResponse, AttachResponse, PortForwardResponse."""

    url: str = text(1)


class FilesystemIdentifier(Message):
    mountpoint: str = text(1)


class FilesystemUsage(Message):
    timestamp: int = signed(1)
    fs_id: FilesystemIdentifier | None = part(2, FilesystemIdentifier)
    used_bytes: UInt64Value | None = part(3, UInt64Value)
    inodes_used: UInt64Value | None = part(4, UInt64Value)


class ContainerAttributes(Message):
    id: str = text(1)


class CpuUsage(Message):
    timestamp: int = signed(1)
    usage_core_nano_seconds: UInt64Value | None = part(2, UInt64Value)


class MemoryUsage(Message):
    timestamp: int = signed(1)
    working_set_bytes: UInt64Value | None = part(2, UInt64Value)
    usage_bytes: UInt64Value | None = part(4, UInt64Value)
    rss_bytes: UInt64Value | None = part(5, UInt64Value)


class ContainerStats(Message):
    attributes: ContainerAttributes | None = part(1, ContainerAttributes)
    cpu: CpuUsage | None = part(2, CpuUsage)
    memory: MemoryUsage | None = part(3, MemoryUsage)
    writable_layer: FilesystemUsage | None = part(4, FilesystemUsage)


class ListContainerStatsResponse(Message):
    stats: tuple[ContainerStats, ...] = parts(1, ContainerStats)


class ContainerEventResponse(Message):
    container_id: str = text(1)
    container_event_type: int = signed(2)
    created_at: int = signed(3)
    pod_sandbox_status: PodSandboxStatus | None = part(4, PodSandboxStatus)


class Image(Message):
    id: str = text(1)
    repo_tags: tuple[str, ...] = texts(2)
    repo_digests: tuple[str, ...] = texts(3)
    size: int = unsigned(4)
    uid: Int64Value | None = part(5, Int64Value)
    username: str = text(6)
    pinned: bool = flag(8)


class ListImagesResponse(Message):
    images: tuple[Image, ...] = parts(1, Image)


class ImageRequest(Message):
    """ImageStatusRequest, RemoveImageRequest."""

    image: ImageSpec | None = part(1, ImageSpec)


class ImageStatusResponse(Message):
    image: Image | None = part(1, Image)


class AuthConfig(Message):
    username: str = text(1)
    password: str = text(2)
    auth: str = text(3)
    server_address: str = text(4)
    identity_token: str = text(5)
    registry_token: str = text(6)


class PullImageRequest(Message):
    image: ImageSpec | None = part(1, ImageSpec)
    auth: AuthConfig | None = part(2, AuthConfig)


class PullImageResponse(Message):
    image_ref: str = text(1)


class ImageFsInfoResponse(Message):
    image_filesystems: tuple[FilesystemUsage, ...] = parts(1, FilesystemUsage)
