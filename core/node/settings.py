"""The section `modules.edged` of edgecore.yaml: KubeEdge's keys as far as they apply."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from types import MappingProxyType
from typing import Any, Final

_DURATION: Final = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?")
_LABEL: Final = re.compile(r"(?:[a-z0-9.-]{1,253}/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE: Final = re.compile(r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_EFFECTS: Final = frozenset({"NoSchedule", "PreferNoSchedule", "NoExecute"})


def seconds(text: str) -> float:
    """A duration as Kubernetes writes it (`10s`, `5m0s`) in seconds. Raises ValueError."""
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        raise ValueError("expected a duration such as 10s or 5m0s")
    hours, minutes, rest = match.groups(default="0")
    return int(hours) * 3600 + int(minutes) * 60 + float(rest)


@dataclass(frozen=True, slots=True)
class KubeletSettings:
    """`tailoredKubeletConfig`."""

    node_status_update_frequency: str = "10s"
    """How often the status is looked at; it is sent when it changed."""
    node_status_report_frequency: str = "5m0s"
    """How often it is sent without a change."""
    node_lease_duration_seconds: int = 40
    """A quarter of it is the time between renewals."""
    register_with_taints: tuple[Mapping[str, Any], ...] = ()

    def __post_init__(self) -> None:
        for key, value in (
            ("nodeStatusUpdateFrequency", self.node_status_update_frequency),
            ("nodeStatusReportFrequency", self.node_status_report_frequency),
        ):
            try:
                is_wrong = seconds(value) <= 0
            except ValueError:
                is_wrong = True
            if is_wrong:
                raise ValueError(f"{key}: expected a duration above 0 such as 10s or 5m0s")
        if self.node_lease_duration_seconds <= 0:
            raise ValueError("nodeLeaseDurationSeconds: expected seconds above 0")
        if not all(taint.get("key") and taint.get("effect") in _EFFECTS for taint in self.register_with_taints):
            raise ValueError("registerWithTaints: expected a list of {key, value, effect: NoSchedule, PreferNoSchedule or NoExecute}")


@dataclass(frozen=True, slots=True)
class EdgedSettings:
    """Who the node is. `hostname_override` "" takes the machine's name, `node_ip` "" the address of the default route."""

    enable: bool = True
    hostname_override: str = ""
    node_ip: str = field(default="", metadata={"key": "nodeIP"})
    node_labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    register_schedulable: bool = True
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
