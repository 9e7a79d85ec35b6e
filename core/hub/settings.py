"""The section `modules.edgeHub` of edgecore.yaml: KubeEdge's keys as far as they apply."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

DEFAULT_PROJECT: Final = "e632aba927ea4ac2b575ec1603d56f10"
HUB_PORT: Final = 10000
BOOTSTRAP_PORT: Final = 10002


class Endpoint(NamedTuple):
    """A host (name or address, no brackets) and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _endpoint(url: str, default_port: int) -> Endpoint:
    """The endpoint of a URL that has nothing else. Raises ValueError."""
    parts = urlsplit(url)
    if not parts.hostname or parts.path not in ("", "/") or parts.query or parts.username is not None:
        raise ValueError("not just a host and a port")
    return Endpoint(parts.hostname, parts.port or default_port)


@dataclass(frozen=True, slots=True)
class WebSocketSettings:
    """The cloud's hub. Times in seconds."""

    enable: bool = True
    server: str = "127.0.0.1:10000"
    handshake_timeout: int = 30
    """For TLS and the upgrade together."""
    write_deadline: int = 15
    """That one message may take to leave."""
    read_deadline: int = 15
    """Accepted for KubeEdge's files; neither KubeEdge nor we apply it to a link that may be silent."""

    def __post_init__(self) -> None:
        if not self.enable:
            raise ValueError("enable: expected true, as WebSocket is the only way to the cloud here")
        for key, value in (("handshakeTimeout", self.handshake_timeout), ("writeDeadline", self.write_deadline)):
            if value <= 0:
                raise ValueError(f"{key}: expected seconds above 0")
        try:
            _endpoint(f"//{self.server}", HUB_PORT)
        except ValueError as error:
            raise ValueError("server: expected <host>:<port>") from error

    @property
    def endpoint(self) -> Endpoint:
        return _endpoint(f"//{self.server}", HUB_PORT)


@dataclass(frozen=True, slots=True)
class QuicSettings:
    """KubeEdge's other transport, which is refused rather than left out in silence."""

    enable: bool = False

    def __post_init__(self) -> None:
        if self.enable:
            raise ValueError("enable: expected false; use websocket")


@dataclass(frozen=True, slots=True)
class EdgeHubSettings:
    """Where the cloud is and how the node proves itself."""

    enable: bool = True
    heartbeat: int = 15
    """Seconds between keepalives; the cloud drops a node that is silent for 30."""
    http_server: str = "https://127.0.0.1:10002"
    websocket: WebSocketSettings = field(default_factory=WebSocketSettings)
    quic: QuicSettings = field(default_factory=QuicSettings)
    project_id: str = field(default=DEFAULT_PROJECT, metadata={"key": "projectID"})
    tls_ca_file: Path = Path("/etc/kubeedge/ca/rootCA.crt")
    tls_cert_file: Path = Path("/etc/kubeedge/certs/server.crt")
    tls_private_key_file: Path = Path("/etc/kubeedge/certs/server.key")
    token: str = field(default="", repr=False)
    """The join token, needed as long as there is no certificate."""
    rotate_certificates: bool = True

    def __post_init__(self) -> None:
        if self.heartbeat <= 0:
            raise ValueError("heartbeat: expected seconds above 0")
        if not self.project_id or not self.project_id.isascii() or "/" in self.project_id:
            raise ValueError("projectID: expected letters and digits")
        try:
            if urlsplit(self.http_server).scheme != "https":
                raise ValueError("no https")
            _endpoint(self.http_server, BOOTSTRAP_PORT)
        except ValueError as error:
            raise ValueError("httpServer: expected https://<host>:<port>") from error

    @property
    def bootstrap(self) -> Endpoint:
        """Where certificates are given out."""
        return _endpoint(self.http_server, BOOTSTRAP_PORT)
