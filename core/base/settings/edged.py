"""The section `modules.edged` of edgecore.yaml: KubeEdge's keys as far as they apply, and a few of our own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from pinnace.core.base.bundle import plugin_folders, program

_DURATION: Final = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?")
_LABEL: Final = re.compile(r"(?:[a-z0-9.-]{1,253}/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE: Final = re.compile(r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_EFFECTS: Final = frozenset({"NoSchedule", "PreferNoSchedule", "NoExecute"})
_SIGNALS: Final = frozenset(
    {"memory.available", "nodefs.available", "nodefs.inodesFree", "imagefs.available", "imagefs.inodesFree", "pid.available"}
)
_THRESHOLD: Final = re.compile(r"\d+(?:\.\d+)?(?:%|[KMGT]i?|k)?")
EVICTION_HARD: Final = MappingProxyType(
    {
        "memory.available": "100Mi",
        "nodefs.available": "10%",
        "nodefs.inodesFree": "5%",
        "imagefs.available": "15%",
        "imagefs.inodesFree": "5%",
    }
)
"""The kubelet's own."""


def seconds(text: str) -> float:
    """A duration as Kubernetes writes it (`10s`, `5m0s`) in seconds. Raises ValueError."""
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        raise ValueError("expected a duration such as 10s or 5m0s")
    hours, minutes, rest = match.groups(default="0")
    return int(hours) * 3600 + int(minutes) * 60 + float(rest)


def _seconds_or(text: str, otherwise: float) -> float:
    try:
        return seconds(text)
    except ValueError:
        return otherwise


@dataclass(frozen=True, slots=True)
class KubeletSettings:
    """`tailoredKubeletConfig`: KubeletConfiguration's keys as far as they apply. Durations are texts such as 10s; `seconds` reads them."""

    node_status_update_frequency: str = "10s"
    """How often the status is looked at; it is sent when it changed."""
    node_status_report_frequency: str = "5m0s"
    """How often it is sent without a change."""
    node_lease_duration_seconds: int = 40
    """A quarter of it is the time between renewals."""
    register_with_taints: tuple[Mapping[str, Any], ...] = ()
    container_runtime_endpoint: str = ""
    """unix:///run/containerd/containerd.sock or CRI-O's socket; "" is the built-in runtime."""
    image_service_endpoint: str = ""
    """"" is the same as `container_runtime_endpoint`."""
    runtime_request_timeout: str = "2m0s"
    cgroup_driver: str = "cgroupfs"
    cgroup_root: str = "/"
    cluster_dns: tuple[str, ...] = field(default=(), metadata={"key": "clusterDNS"})
    cluster_domain: str = "cluster.local"
    resolv_conf: Path = Path("/etc/resolv.conf")
    max_pods: int = 110
    pod_pids_limit: int = -1
    allowed_unsafe_sysctls: tuple[str, ...] = ()
    static_pod_path: Path = Path("/etc/kubeedge/manifests")
    file_check_frequency: str = "20s"
    sync_frequency: str = "1m0s"
    """How often a pod that nothing happened to is looked at; its volumes are brought up to date then."""
    eviction_hard: Mapping[str, str] = field(default_factory=lambda: EVICTION_HARD)
    eviction_pressure_transition_period: str = "5m0s"
    system_reserved: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    kube_reserved: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    image_gc_high_threshold_percent: int = field(default=85, metadata={"key": "imageGCHighThresholdPercent"})
    image_gc_low_threshold_percent: int = field(default=80, metadata={"key": "imageGCLowThresholdPercent"})
    image_minimum_gc_age: str = field(default="2m0s", metadata={"key": "imageMinimumGCAge"})
    serialize_image_pulls: bool = True
    container_log_max_size: str = "10Mi"
    container_log_max_files: int = 5
    shutdown_grace_period: str = "0s"
    """Time for all pods when the machine shuts down; 0s leaves it to the runtime."""
    shutdown_grace_period_critical_pods: str = "0s"
    """The last part of it, for critical pods."""
    read_only_port: int = 10350
    """The local HTTP endpoint for metrics; 0 switches it off."""

    def __post_init__(self) -> None:
        for key, value in (
            ("nodeStatusUpdateFrequency", self.node_status_update_frequency),
            ("nodeStatusReportFrequency", self.node_status_report_frequency),
            ("runtimeRequestTimeout", self.runtime_request_timeout),
            ("fileCheckFrequency", self.file_check_frequency),
            ("syncFrequency", self.sync_frequency),
        ):
            if _seconds_or(value, -1) <= 0:
                raise ValueError(f"{key}: expected a duration above 0 such as 10s or 5m0s")
        for key, value in (
            ("evictionPressureTransitionPeriod", self.eviction_pressure_transition_period),
            ("imageMinimumGCAge", self.image_minimum_gc_age),
            ("shutdownGracePeriod", self.shutdown_grace_period),
            ("shutdownGracePeriodCriticalPods", self.shutdown_grace_period_critical_pods),
        ):
            if _seconds_or(value, -1) < 0:
                raise ValueError(f"{key}: expected a duration such as 10s or 5m0s")
        if seconds(self.shutdown_grace_period_critical_pods) > seconds(self.shutdown_grace_period):
            raise ValueError("shutdownGracePeriodCriticalPods: expected no more than shutdownGracePeriod, of which it is the last part")
        if self.node_lease_duration_seconds <= 0:
            raise ValueError("nodeLeaseDurationSeconds: expected seconds above 0")
        if not all(taint.get("key") and taint.get("effect") in _EFFECTS for taint in self.register_with_taints):
            raise ValueError("registerWithTaints: expected a list of {key, value, effect: NoSchedule, PreferNoSchedule or NoExecute}")
        for key, value in (
            ("containerRuntimeEndpoint", self.container_runtime_endpoint),
            ("imageServiceEndpoint", self.image_service_endpoint),
        ):
            if value and not value.startswith("unix:///"):
                raise ValueError(f"{key}: expected unix:///path/of/a/socket, or nothing for the built-in runtime")
        if self.cgroup_driver not in ("cgroupfs", "systemd"):
            raise ValueError("cgroupDriver: expected cgroupfs or systemd")
        if not 0 < self.image_gc_low_threshold_percent <= self.image_gc_high_threshold_percent <= 100:
            raise ValueError("imageGCLowThresholdPercent: expected a percentage above 0 and not above imageGCHighThresholdPercent")
        for signal, threshold in self.eviction_hard.items():
            if signal not in _SIGNALS or not _THRESHOLD.fullmatch(threshold):
                raise ValueError(
                    f"evictionHard: expected one of {', '.join(sorted(_SIGNALS))} with 100Mi or 10%, not {signal}: {threshold}"
                )
        if self.max_pods < 0:
            raise ValueError("maxPods: expected a number of pods, 0 or more")
        if self.container_log_max_files < 2:
            raise ValueError("containerLogMaxFiles: expected 2 or more")


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """How to reach one registry."""

    host: str
    """As it stands in image names: docker.io, ghcr.io, registry.example:5000."""
    mirrors: tuple[str, ...] = ()
    """https://host[:port][/prefix], tried in order before the registry itself; http:// is plain."""
    ca_file: Path | None = None
    """PEM file of a private authority."""
    plain_http: bool = field(default=False, metadata={"key": "plainHTTP"})

    def __post_init__(self) -> None:
        if not self.host or "/" in self.host:
            raise ValueError("host: expected a registry as in image names, such as docker.io or registry.example:5000")
        if not all(each.startswith(("https://", "http://")) for each in self.mirrors):
            raise ValueError("mirrors: expected a list of https:// or http:// addresses")


@dataclass(frozen=True, slots=True)
class BuiltinRuntimeSettings:
    """`builtinRuntime`: the runtime that needs no daemon. Pinnace's own section."""

    crun: str = field(default_factory=lambda: program("crun"))
    """The OCI runtime: a program on PATH or its path. Left out, it is the one that was brought along, or else the one on PATH."""
    root_dir: Path = Path("/var/lib/pinnace")
    """Images and what must survive a reboot."""
    run_dir: Path = Path("/run/pinnace")
    """What ends with a reboot: namespaces, sockets; a tmpfs."""
    import_dir: Path = Path("/var/lib/pinnace/import")
    """OCI and docker archives (*.tar, also compressed) in it are imported at start and stay pinned."""
    cni_conf_dir: Path = Path("/etc/cni/net.d")
    cni_bin_dirs: tuple[Path, ...] = field(default_factory=lambda: plugin_folders(Path("/opt/cni/bin"), Path("/usr/lib/cni")))
    """Where network plugins are; left out, those that were brought along come first."""
    pod_subnet: str = "10.88.0.0/16"
    """Of the default network, which is used when `cni_conf_dir` has none."""
    registries: tuple[RegistrySettings, ...] = ()
    max_image_bytes: int = 8 << 30
    """An image that unpacks to more is refused."""


@dataclass(frozen=True, slots=True)
class EdgedSettings:
    """Who the node is and how it runs pods. `hostname_override` "" takes the machine's name, `node_ip` "" the default route's address."""

    enable: bool = True
    """False makes a node of devices only: nothing of pods runs or is reported, and the Node offers no room for them."""
    hostname_override: str = ""
    node_ip: str = field(default="", metadata={"key": "nodeIP"})
    node_labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    register_schedulable: bool = True
    root_directory: Path = Path("/var/lib/kubelet")
    """Pods' volumes and folders. The node's ephemeral storage is the file system they are on."""
    pod_logs_dir: Path = Path("/var/log/pods")
    report_event: bool = True
    """Send events of pods to the cloud."""
    local_image_when_offline: bool = True
    """imagePullPolicy Always takes the local image, with a warning event, while its registry cannot be reached."""
    control_socket: Path = Path("/run/pinnace/control.sock")
    """For `pinnace get`, `logs`, `exec`, `describe` on this machine; only root may open it."""
    builtin_runtime: BuiltinRuntimeSettings = field(default_factory=BuiltinRuntimeSettings)
    tailored_kubelet_config: KubeletSettings = field(default_factory=KubeletSettings)

    def __post_init__(self) -> None:
        try:
            if self.node_ip:
                ip_address(self.node_ip)
        except ValueError as error:
            raise ValueError("nodeIP: expected an IP address") from error
        for name, value in self.node_labels.items():
            if not _LABEL.fullmatch(name) or not _LABEL_VALUE.fullmatch(value):
                raise ValueError(f"nodeLabels: expected Kubernetes labels, not '{name}: {value}'")
