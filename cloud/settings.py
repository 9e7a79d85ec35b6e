"""The settings of cloudcore: KubeEdge's cloudcore.yaml as far as its keys apply, and three keys of ours (marked)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pinnace.cloud.hub.settings import CloudHubSettings
from pinnace.cloud.stream.settings import CloudStreamSettings


@dataclass(frozen=True, slots=True)
class KubeApiSettings:
    """Which API server. Without any of these: the pod's service account, else $KUBECONFIG or ~/.kube/config."""

    kube_config: str = ""
    """Path of a kubeconfig file."""
    master: str = ""
    """The server's URL, instead of the one in the kubeconfig."""

    @property
    def file(self) -> Path | None:
        return Path(self.kube_config) if self.kube_config else None


@dataclass(frozen=True, slots=True)
class DeviceControllerSettings:
    """The definitions of devices and how they get into the API. All keys are ours."""

    crd_dir: Path | None = None
    """A folder of CustomResourceDefinitions; the project's own by default."""
    replace_definitions: bool = True
    """Bring existing definitions to our state. When false, they keep their schemas and only get the conversion webhook."""


@dataclass(frozen=True, slots=True)
class ConversionSettings:
    """Where the API server reaches our conversion webhook. All keys are ours."""

    enable: bool = True
    address: str = ""
    """Where to listen; by default the address from which this machine reaches the API server."""
    port: int = 0
    """0 takes a free one, and tells the API server at each start; behind a Service 10009 then."""
    url: str = ""
    """How the API server reaches it, `https://host:port`, when that is not where it listens."""
    service: str = ""
    """`<namespace>/<name>[:<port>]` of a Service in the cluster, instead of a URL. Inside a cluster: kubeedge/cloudcore by default."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError("port: expected a port, 0 to 65535")
        if self.url and not self.url.startswith("https://"):
            raise ValueError("url: expected https://host:port")
        self.service_parts()

    def service_parts(self) -> tuple[str, str, int] | None:
        """Namespace, name and port of the Service, None when a URL is used."""
        if not self.service:
            return None
        where, _, port = self.service.partition(":")
        namespace, slash, name = where.partition("/")
        if not (namespace and slash and name) or (port and not port.isdecimal()):
            raise ValueError("service: expected <namespace>/<name>[:<port>]")
        return namespace, name, int(port or 443)


@dataclass(frozen=True, slots=True)
class Modules:
    cloud_hub: CloudHubSettings = field(default_factory=CloudHubSettings)
    cloud_stream: CloudStreamSettings = field(default_factory=CloudStreamSettings)
    device_controller: DeviceControllerSettings = field(default_factory=DeviceControllerSettings)
    conversion: ConversionSettings = field(default_factory=ConversionSettings)


@dataclass(frozen=True, slots=True)
class CloudCoreSettings:
    """The file `pinnace cloudcore --config` reads with core.base.settings.loader."""

    kube_api_config: KubeApiSettings = field(default_factory=KubeApiSettings, metadata={"key": "kubeAPIConfig"})
    modules: Modules = field(default_factory=Modules)
    data_dir: Path | None = None
    """Ours: a folder for user messages that wait for their nodes. Without one they are only sent to nodes that are connected."""
