"""edgecore.yaml as a whole: KubeEdge's tree, each section in the package that uses it. Keys that do not apply here warn."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pinnace.core.base.contract.keys import NODE_NAME, NodeName
from pinnace.core.base.settings.edged import EdgedSettings
from pinnace.core.eventbus.settings import EventBusSettings
from pinnace.core.hub.settings import EdgeHubSettings
from pinnace.core.stream.settings import EdgeStreamSettings

DEFAULT_PATH: Final = Path("/etc/kubeedge/config/edgecore.yaml")


@dataclass(frozen=True, slots=True)
class DatabaseSettings:
    """Where the store lives. `cache_bytes` bounds the bodies that are kept in memory."""

    data_source: Path = Path("/var/lib/kubeedge/edgecore.db")
    cache_bytes: int = 4 << 20

    def __post_init__(self) -> None:
        if self.cache_bytes < 0:
            raise ValueError("cacheBytes: expected a number of bytes, 0 or more")


@dataclass(frozen=True, slots=True)
class ModuleSettings:
    """The section `modules`."""

    edge_hub: EdgeHubSettings = field(default_factory=EdgeHubSettings)
    edged: EdgedSettings = field(default_factory=EdgedSettings)
    edge_stream: EdgeStreamSettings = field(default_factory=EdgeStreamSettings)
    event_bus: EventBusSettings = field(default_factory=EventBusSettings)


@dataclass(frozen=True, slots=True)
class EdgeCoreSettings:
    """The whole file."""

    database: DatabaseSettings = field(default_factory=DatabaseSettings)
    modules: ModuleSettings = field(default_factory=ModuleSettings)

    @property
    def node(self) -> NodeName:
        """`modules.edged.hostnameOverride`, or this machine's name in lower case as Kubernetes wants it."""
        return NodeName(self.modules.edged.hostname_override or socket.gethostname().lower())

    def __post_init__(self) -> None:
        if not NODE_NAME.fullmatch(self.node):
            raise ValueError(
                f"modules.edged.hostnameOverride: expected a DNS name of lower-case letters, digits, '-' and '.', not '{self.node}'"
            )
