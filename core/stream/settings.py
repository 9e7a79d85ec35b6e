"""The section `modules.edgeStream` of edgecore.yaml: KubeEdge's keys as far as they apply. On by default, unlike KubeEdge's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

TUNNEL_PORT: Final = 10004


@dataclass(frozen=True, slots=True)
class EdgeStreamSettings:
    """The tunnel for logs, exec, attach, port-forward and metrics. Its TLS is the hub's: certificate, key and authority of
    `modules.edgeHub`. Times in seconds."""

    enable: bool = True
    server: str = ""
    """`<host>:<port>` of cloudcore's tunnel; "" is the hub's host and port 10004."""
    handshake_timeout: int = 30
    write_deadline: int = 15
    """That one message may take to leave."""
    read_deadline: int = 15
    """The cloud is asked for a sign of life so often."""

    def __post_init__(self) -> None:
        for key, value in (
            ("handshakeTimeout", self.handshake_timeout),
            ("writeDeadline", self.write_deadline),
            ("readDeadline", self.read_deadline),
        ):
            if value <= 0:
                raise ValueError(f"{key}: expected seconds above 0")
        if self.server:
            self.endpoint("")

    def endpoint(self, hub_host: str) -> tuple[str, int]:
        """Host and port of the tunnel."""
        if not self.server:
            return hub_host, TUNNEL_PORT
        try:
            parts = urlsplit(f"//{self.server}")
            host, port, rest = parts.hostname, parts.port, parts.path
        except ValueError:
            host, port, rest = None, None, ""
        if not host or rest or "@" in self.server:
            raise ValueError("server: expected <host>:<port>")
        return host, port or TUNNEL_PORT
