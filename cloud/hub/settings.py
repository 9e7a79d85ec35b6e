"""`modules.cloudHub` of cloudcore.yaml: KubeEdge's keys as far as they apply, read by core.base.settings."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from pathlib import Path


def _port(value: int, key: str) -> None:
    if not 0 <= value <= 65535:
        raise ValueError(f"{key}: expected a port, 0 to 65535")


@dataclass(frozen=True, slots=True)
class WebSocketSettings:
    """Where nodes connect. Port 0 takes a free one."""

    enable: bool = True
    port: int = 10000
    address: str = "0.0.0.0"  # noqa: S104 - nodes come from elsewhere; every connection needs a certificate

    def __post_init__(self) -> None:
        _port(self.port, "port")


@dataclass(frozen=True, slots=True)
class HttpsSettings:
    """Where nodes fetch the CA and their certificates."""

    enable: bool = True
    port: int = 10002
    address: str = "0.0.0.0"  # noqa: S104 - nodes come from elsewhere; what is open to anyone is listed in bootstrap.py

    def __post_init__(self) -> None:
        _port(self.port, "port")


@dataclass(frozen=True, slots=True)
class CloudHubSettings:
    """Of the four TLS files either both of a pair exist and are used, or neither does and the pair is kept in Secrets alone."""

    websocket: WebSocketSettings = field(default_factory=WebSocketSettings)
    https: HttpsSettings = field(default_factory=HttpsSettings)
    advertise_address: tuple[str, ...] = ()
    """Addresses in the server certificate; empty for those of this machine."""
    dns_names: tuple[str, ...] = ("",)
    keepalive_interval: int = 30
    """Seconds without a keepalive after which a node's connection is closed."""
    write_timeout: int = 30
    """Seconds that one message may take to leave."""
    node_limit: int = 1000
    tls_ca_file: Path = field(default=Path("/etc/kubeedge/ca/rootCA.crt"), metadata={"key": "tlsCAFile"})
    tls_ca_key_file: Path = field(default=Path("/etc/kubeedge/ca/rootCA.key"), metadata={"key": "tlsCAKeyFile"})
    tls_cert_file: Path = field(default=Path("/etc/kubeedge/certs/server.crt"), metadata={"key": "tlsCertFile"})
    tls_private_key_file: Path = field(default=Path("/etc/kubeedge/certs/server.key"), metadata={"key": "tlsPrivateKeyFile"})
    edge_cert_signing_duration: int = 365
    """Days."""
    token_refresh_duration: int = 12
    """Hours after which a new join token is minted; each is good for twice as long."""

    def __post_init__(self) -> None:
        for key, value in (
            ("keepaliveInterval", self.keepalive_interval),
            ("writeTimeout", self.write_timeout),
            ("nodeLimit", self.node_limit),
            ("edgeCertSigningDuration", self.edge_cert_signing_duration),
            ("tokenRefreshDuration", self.token_refresh_duration),
        ):
            if value <= 0:
                raise ValueError(f"{key}: expected a whole number above 0")

    def names(self) -> tuple[str, ...]:
        """The addresses and DNS names by which edges reach this cloudcore."""
        return tuple(sorted({*(self.advertise_address or _own_addresses()), *(name for name in self.dns_names if name)}))


def _own_addresses() -> set[str]:
    found = {"127.0.0.1", "localhost", socket.gethostname()}
    try:
        found.update(str(each[4][0]) for each in socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))  # sends nothing: it only asks which address would be used
            found.add(probe.getsockname()[0])
    except OSError:
        pass
    return {each for each in found if "%" not in each}
