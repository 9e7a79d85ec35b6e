"""Our records to CRI's messages, and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from pinnace.core.base.runtime import (
    CONTAINER_NAME_LABEL,
    POD_NAME_LABEL,
    POD_NAMESPACE_LABEL,
    POD_UID_LABEL,
    Container,
    ContainerConfig,
    ContainerState,
    Image,
    Namespaces,
    Profile,
    Resources,
    Sandbox,
    SandboxConfig,
    SandboxState,
    Security,
    SecurityProfile,
    Usage,
)
from pinnace.core.pods.cri import messages

IMAGE_NAME: Final = "pinnace/image-name"
TERMINAL: Final = "pinnace/tty"
"""Annotations of containers in the runtime: what it does not tell again. They are taken off when reading."""

_OWN: Final = frozenset({IMAGE_NAME, TERMINAL})
_STATES: Final = (ContainerState.CREATED, ContainerState.RUNNING, ContainerState.EXITED, ContainerState.UNKNOWN)

MASKED_PATHS: Final = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
READONLY_PATHS: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
"""Sent when a container asks for nothing else: to CRI an empty list means no such paths."""


def sandbox_config(config: SandboxConfig, cgroup_driver: str) -> messages.PodSandboxConfig:
    """For a sandbox and, again, for each of its containers."""
    own = {POD_NAME_LABEL: config.name, POD_NAMESPACE_LABEL: config.namespace, POD_UID_LABEL: config.uid}
    dns = config.dns
    security = messages.LinuxSandboxSecurityContext(
        namespace_options=_namespaces(config.namespaces),
        privileged=config.privileged,
        seccomp=messages.SecurityProfile(profile_type=messages.ProfileType.RUNTIME_DEFAULT),
    )
    linux = messages.LinuxPodSandboxConfig(
        cgroup_parent=cgroup_parent(config.cgroup_parent, cgroup_driver), security_context=security, sysctls=config.sysctls
    )
    is_hosts = config.namespaces.host_network
    return messages.PodSandboxConfig(
        metadata=messages.PodSandboxMetadata(name=config.name, uid=config.uid, namespace=config.namespace, attempt=config.attempt),
        hostname="" if is_hosts else config.hostname,
        log_directory=str(config.log_directory),
        dns_config=None if dns is None else messages.DNSConfig(servers=dns.servers, searches=dns.searches, options=dns.options),
        port_mappings=()
        if is_hosts
        else tuple(
            messages.PortMapping(
                protocol=messages.PROTOCOLS.get(each.protocol, 0),
                container_port=each.container_port,
                host_port=each.host_port,
                host_ip=each.host_ip,
            )
            for each in config.ports
        ),
        labels={**config.labels, **own},
        annotations=config.annotations,
        linux=linux,
    )


def cgroup_parent(path: str, driver: str) -> str:
    """The pod's cgroup as the runtime's driver names it: systemd knows /kubepods/burstable/pod1-2 as kubepods-burstable-pod1_2.slice."""
    if path.endswith(".slice"):
        return path.rpartition("/")[2]
    if driver != "systemd" or not path.strip("/"):
        return path
    return "-".join(part.replace("-", "_") for part in path.strip("/").split("/")) + ".slice"


def _namespaces(wish: Namespaces) -> messages.NamespaceOption:
    mode = messages.NamespaceMode
    pid = mode.NODE if wish.host_pid else mode.POD if wish.share_pid else mode.CONTAINER
    return messages.NamespaceOption(
        network=mode.NODE if wish.host_network else mode.POD, pid=pid, ipc=mode.NODE if wish.host_ipc else mode.POD
    )


def container_config(config: ContainerConfig, sandbox: SandboxConfig, *, image: str, user: str = "") -> messages.ContainerConfig:
    """`image` is what the runtime calls it; `user` the image's, which is named where the pod names none: unasked, containerd leaves away
    the groups that the user has in the image, and refuses a wish for a group."""
    own = {
        CONTAINER_NAME_LABEL: config.name,
        POD_NAME_LABEL: sandbox.name,
        POD_NAMESPACE_LABEL: sandbox.namespace,
        POD_UID_LABEL: sandbox.uid,
    }
    return messages.ContainerConfig(
        metadata=messages.ContainerMetadata(name=config.name, attempt=config.attempt),
        image=messages.ImageSpec(image=image, user_specified_image=config.image_name),
        command=config.command,
        args=config.args,
        working_dir=config.working_dir,
        envs=tuple(messages.KeyValue(key=key, value=value) for key, value in config.env),
        mounts=tuple(
            messages.Mount(
                container_path=each.container_path,
                host_path=each.host_path,
                readonly=each.readonly,
                propagation=messages.PROPAGATIONS[each.propagation.value],
            )
            for each in config.mounts
        ),
        devices=tuple(
            messages.Device(container_path=each.container_path, host_path=each.host_path, permissions=each.permissions)
            for each in config.devices
        ),
        labels={**config.labels, **own},
        annotations={**config.annotations, IMAGE_NAME: config.image_name, TERMINAL: str(config.tty).lower()},
        log_path=config.log_path,
        stdin=config.stdin,
        stdin_once=config.stdin_once,
        tty=config.tty,
        linux=messages.LinuxContainerConfig(
            resources=_resources(config.resources), security_context=_security(config.security, sandbox.namespaces, user)
        ),
    )


def _resources(wish: Resources) -> messages.LinuxContainerResources:
    return messages.LinuxContainerResources(
        cpu_period=wish.cpu_period,
        cpu_quota=wish.cpu_quota,
        cpu_shares=wish.cpu_shares,
        memory_limit_in_bytes=wish.memory_limit,
        oom_score_adj=wish.oom_score_adj,
        hugepage_limits=tuple(
            messages.HugepageLimit(page_size=size.replace("i", "").removesuffix("B") + "B", limit=limit)
            for size, limit in wish.hugepages.items()
        ),
        unified=wish.unified,
    )


def _security(wish: Security, namespaces: Namespaces, user: str) -> messages.LinuxContainerSecurityContext:
    uid, username = wish.run_as_user, ""
    if uid is None and user.isdecimal():
        uid = int(user)
    elif uid is None and user:
        username = user
    elif uid is None and wish.run_as_group is not None:
        uid = 0
    apparmor = wish.apparmor.kind
    return messages.LinuxContainerSecurityContext(
        capabilities=messages.Capability(add_capabilities=wish.add_capabilities, drop_capabilities=wish.drop_capabilities),
        privileged=wish.privileged,
        namespace_options=_namespaces(namespaces),
        run_as_user=None if uid is None else messages.Int64Value(value=uid),
        run_as_group=None if wish.run_as_group is None else messages.Int64Value(value=wish.run_as_group),
        run_as_username=username,
        readonly_rootfs=wish.readonly_root,
        supplemental_groups=wish.supplemental_groups,
        no_new_privs=wish.no_new_privileges,
        masked_paths=MASKED_PATHS if wish.masked_paths is None else wish.masked_paths,
        readonly_paths=READONLY_PATHS if wish.readonly_paths is None else wish.readonly_paths,
        seccomp=_profile(wish.seccomp),
        # The runtime's default is what it takes unasked, and asking for it is refused where the kernel has no AppArmor.
        apparmor=None if apparmor is Profile.RUNTIME_DEFAULT else _profile(wish.apparmor),
        apparmor_profile={Profile.UNCONFINED: "unconfined", Profile.LOCALHOST: f"localhost/{wish.apparmor.path}"}.get(apparmor, ""),
    )


def _profile(wish: SecurityProfile) -> messages.SecurityProfile:
    kind = messages.ProfileType[wish.kind.name]
    return messages.SecurityProfile(profile_type=kind, localhost_ref=wish.path)


def sandbox(said: messages.PodSandbox, ips: tuple[str, ...]) -> Sandbox:
    metadata = said.metadata or messages.PodSandboxMetadata()
    return Sandbox(
        id=said.id,
        name=metadata.name,
        namespace=metadata.namespace,
        uid=metadata.uid,
        attempt=metadata.attempt,
        state=SandboxState.READY if said.state == messages.SANDBOX_READY else SandboxState.NOT_READY,
        created_at=_seconds(said.created_at),
        ips=ips,
        labels=_frozen(said.labels),
        annotations=_frozen(said.annotations),
    )


def container(listed: messages.Container, status: messages.ContainerStatus) -> Container:
    """The list knows the sandbox and the image's id, the status all the rest."""
    metadata = status.metadata or messages.ContainerMetadata()
    state = _state(status.state)
    image = image_id(status.image_id or listed.image_id or listed.image_ref)
    name = status.annotations.get(IMAGE_NAME, "") or (status.image.image if status.image else "")
    has_ended = state is ContainerState.EXITED
    started, finished = _seconds(status.started_at), _seconds(status.finished_at)
    return Container(
        id=status.id,
        sandbox_id=listed.pod_sandbox_id,
        name=metadata.name,
        attempt=metadata.attempt,
        state=state,
        image=image,
        image_name=name,
        image_ref=status.image_ref,
        created_at=_seconds(status.created_at),
        started_at=min(started, finished) if has_ended else started,  # of what ended at once containerd may see the end first
        finished_at=finished,
        exit_code=status.exit_code,
        reason=_reason(status.reason, status.exit_code) if has_ended else status.reason,
        message=status.message,
        log_path=Path(status.log_path),
        labels=_frozen(status.labels),
        annotations=_frozen({key: value for key, value in status.annotations.items() if key not in _OWN}),
    )


def image(said: messages.Image, *, is_pinned: bool) -> Image:
    return Image(
        id=image_id(said.id),
        tags=said.repo_tags,
        digests=said.repo_digests,
        size=said.size,
        user=str(said.uid.value) if said.uid is not None else said.username,
        is_pinned=said.pinned or is_pinned,
    )


def image_id(said: str) -> str:
    """CRI-O leaves the algorithm away."""
    return f"sha256:{said}" if len(said) == 64 and all(each in "0123456789abcdef" for each in said) else said


def usage(said: messages.ContainerStats) -> Usage:
    memory = said.memory or messages.MemoryUsage()
    cpu = said.cpu or messages.CpuUsage()
    disk = said.writable_layer or messages.FilesystemUsage()
    return Usage(
        id=said.attributes.id if said.attributes else "",
        at=_seconds(cpu.timestamp or memory.timestamp),
        cpu_seconds=_value(cpu.usage_core_nano_seconds) / 1e9,
        memory_working_set=_value(memory.working_set_bytes),
        memory_rss=_value(memory.rss_bytes),
        disk_bytes=_value(disk.used_bytes),
        disk_inodes=_value(disk.inodes_used),
    )


def _reason(said: str, code: int) -> str:
    """containerd says Unknown of what ended unseen, with code 255."""
    return "ContainerStatusUnknown" if said == "Unknown" else said or ("Error" if code else "Completed")


def _state(number: int) -> ContainerState:
    return _STATES[number] if 0 <= number < len(_STATES) else ContainerState.UNKNOWN


def _value(said: messages.UInt64Value | None) -> int:
    return said.value if said is not None else 0


def _seconds(nanoseconds: int) -> float:
    """Some runtimes say year 1 for never."""
    return max(0.0, nanoseconds / 1e9)


def _frozen(said: Mapping[str, str]) -> Mapping[str, str]:
    return MappingProxyType(dict(said))
