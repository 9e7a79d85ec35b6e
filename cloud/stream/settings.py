"""`modules.cloudStream` of cloudcore.yaml: KubeEdge's keys as far as they apply. On by default, unlike KubeEdge's."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class CloudStreamSettings:
    """Ports 0 take free ones. Both listeners show the hub's own certificate; nodes are told by theirs."""

    enable: bool = True
    address: str = "0.0.0.0"  # noqa: S104 - nodes and the API server come from elsewhere; both ports want a certificate
    """Ours: where both listen."""
    stream_port: int = 10003
    """Where the API server asks."""
    tunnel_port: int = 10004
    """Where nodes connect."""
    tls_stream_ca_file: Path = field(default=Path("/etc/kubeedge/ca/streamCA.crt"), metadata={"key": "tlsStreamCAFile"})
    """PEM file of authorities whose client certificates are accepted on `streamPort`, besides the API server's own."""

    def __post_init__(self) -> None:
        for key, value in (("streamPort", self.stream_port), ("tunnelPort", self.tunnel_port)):
            if not 0 <= value <= 65535:
                raise ValueError(f"{key}: expected a port, 0 to 65535")
