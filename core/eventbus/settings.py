"""The section `modules.eventBus` of edgecore.yaml: KubeEdge's keys, and a few of ours."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

MODE_INTERNAL, MODE_BOTH, MODE_EXTERNAL = 0, 1, 2
_SCHEMES = {"tcp": (1883, False), "mqtt": (1883, False), "ssl": (8883, True), "tls": (8883, True), "mqtts": (8883, True)}
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class BrokerAddress(NamedTuple):
    """Where a broker listens."""

    host: str
    port: int
    secure: bool

    @property
    def loopback(self) -> bool:
        return self.host in _LOOPBACK


def parse_address(text: str) -> BrokerAddress:
    """`tcp://host:port` (also mqtt, and ssl, tls, mqtts for TLS). Raises ValueError."""
    parts = urlsplit(text)
    if parts.scheme not in _SCHEMES or not parts.hostname:
        raise ValueError("expected tcp://<host>:<port> or ssl://<host>:<port>")
    port, secure = _SCHEMES[parts.scheme]
    return BrokerAddress(parts.hostname, parts.port or port, secure)


@dataclass(frozen=True, slots=True)
class BusTlsSettings:
    """Client certificate and CA towards the external broker. Without `enable` an ssl:// broker is still verified, by the system's CAs."""

    enable: bool = False
    tls_mqtt_ca_file: Path = field(default=Path("/etc/kubeedge/ca/rootCA.crt"), metadata={"key": "tlsMqttCAFile"})
    tls_mqtt_cert_file: Path = Path("/etc/kubeedge/certs/server.crt")
    tls_mqtt_private_key_file: Path = Path("/etc/kubeedge/certs/server.key")


@dataclass(frozen=True, slots=True)
class EventBusSettings:
    """Which brokers there are and how to speak with them.

    `mqtt_mode`: 0 a broker of our own (a mosquitto child), 1 that and an external one, 2 an external one only. QoS and retain apply to
    our own broker's publications, as in KubeEdge; an external broker always gets QoS 1. With `mqtt_username` and `mqtt_password` our
    own broker refuses anonymous clients. One connection both publishes and subscribes: its id is `mqtt_sub_client_id`, by default
    `pinnace-<node>`, and `mqtt_pub_client_id` is read for KubeEdge's sake only. `mqtt_session_queue_size` raises how many messages our
    own broker keeps for a client that is slow or away.
    """

    enable: bool = True
    mqtt_mode: int = MODE_EXTERNAL
    mqtt_server_external: str = "tcp://127.0.0.1:1883"
    mqtt_server_internal: str = "tcp://127.0.0.1:1884"
    mqtt_qos: int = field(default=0, metadata={"key": "mqttQOS"})
    mqtt_retain: bool = False
    mqtt_session_queue_size: int = 100
    mqtt_sub_client_id: str = field(default="", metadata={"key": "mqttSubClientID"})
    mqtt_pub_client_id: str = field(default="", metadata={"key": "mqttPubClientID"})
    mqtt_username: str = ""
    mqtt_password: str = field(default="", repr=False)
    event_bus_tls: BusTlsSettings = field(default=BusTlsSettings(), metadata={"key": "eventBusTLS"})
    announce_connection: bool = False
    """Ours: publish `node/connection` with cloud_connected and cloud_disconnected, as KubeEdge 1.1 did."""

    def __post_init__(self) -> None:
        if self.mqtt_mode not in (MODE_INTERNAL, MODE_BOTH, MODE_EXTERNAL):
            raise ValueError("mqttMode: expected 0 (own broker), 1 (both) or 2 (external broker)")
        if self.mqtt_qos not in (0, 1, 2):
            raise ValueError("mqttQOS: expected 0, 1 or 2")
        if self.mqtt_session_queue_size < 1:
            raise ValueError("mqttSessionQueueSize: expected a number above 0")
        if not self.mqtt_username.isprintable() or ":" in self.mqtt_username:
            raise ValueError("mqttUsername: expected a name without ':' and control characters")
        for key, text in (("mqttServerExternal", self.mqtt_server_external), ("mqttServerInternal", self.mqtt_server_internal)):
            try:
                parse_address(text)
            except ValueError as error:
                raise ValueError(f"{key}: {error}") from error
        if self.mqtt_mode != MODE_EXTERNAL and not self.internal.loopback and not (self.mqtt_username and self.mqtt_password):
            raise ValueError("mqttServerInternal: expected a loopback address, as the broker asks for no password (or set mqttPassword)")

    @property
    def internal(self) -> BrokerAddress:
        return parse_address(self.mqtt_server_internal)

    @property
    def external(self) -> BrokerAddress:
        return parse_address(self.mqtt_server_external)
