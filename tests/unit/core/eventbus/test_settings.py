"""modules.eventBus."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pinnace.core.base.errors import ConfigError
from pinnace.core.base.settings.loader import load
from pinnace.core.eventbus.settings import BrokerAddress, EventBusSettings, parse_address


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tcp://127.0.0.1:1883", BrokerAddress("127.0.0.1", 1883, False)),
        ("tcp://broker", BrokerAddress("broker", 1883, False)),
        ("mqtt://broker:5", BrokerAddress("broker", 5, False)),
        ("ssl://broker", BrokerAddress("broker", 8883, True)),
        ("tls://broker:1", BrokerAddress("broker", 1, True)),
        ("mqtts://[::1]:1885", BrokerAddress("::1", 1885, True)),
    ],
)
def test_addresses(text: str, expected: BrokerAddress) -> None:
    assert parse_address(text) == expected


@pytest.mark.parametrize(
    "text", ["", "127.0.0.1:1883", "ws://broker:80", "tcp://", "tcp://:1883", "tcp://broker:99999", "tcp://broker:x", "tcp://[::1"]
)
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(ValueError):
        parse_address(text)


@pytest.mark.parametrize(
    ("host", "loopback"), [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("192.168.4.22", False)]
)
def test_loopback(host: str, loopback: bool) -> None:
    assert BrokerAddress(host, 1, False).loopback is loopback


def test_defaults_are_kubeedges() -> None:
    settings = EventBusSettings()
    assert settings.enable
    assert settings.mqtt_mode == 2
    assert settings.external == BrokerAddress("127.0.0.1", 1883, False)
    assert settings.internal == BrokerAddress("127.0.0.1", 1884, False)
    assert (settings.mqtt_qos, settings.mqtt_retain, settings.mqtt_session_queue_size) == (0, False, 100)


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"mqtt_mode": 3}, "mqttMode"),
        ({"mqtt_qos": 3}, "mqttQOS"),
        ({"mqtt_session_queue_size": 0}, "mqttSessionQueueSize"),
        ({"mqtt_server_external": "nowhere"}, "mqttServerExternal"),
        ({"mqtt_server_internal": "nowhere"}, "mqttServerInternal"),
        ({"mqtt_username": "a:b"}, "mqttUsername"),
        ({"mqtt_username": "a\nb"}, "mqttUsername"),
        ({"mqtt_mode": 0, "mqtt_server_internal": "tcp://0.0.0.0:1884"}, "mqttServerInternal"),
        ({"mqtt_mode": 1, "mqtt_server_internal": "tcp://0.0.0.0:1884", "mqtt_username": "pi"}, "mqttServerInternal"),
    ],
)
def test_what_is_refused_is_named(values: dict[str, Any], key: str) -> None:
    with pytest.raises(ValueError, match=key):
        EventBusSettings(**values)


def test_an_open_address_needs_a_password() -> None:
    EventBusSettings(mqtt_mode=0, mqtt_server_internal="tcp://0.0.0.0:1884", mqtt_username="pi", mqtt_password="secret")
    EventBusSettings(mqtt_mode=2, mqtt_server_internal="tcp://0.0.0.0:1884")


def test_the_password_is_not_shown() -> None:
    assert "secret" not in repr(EventBusSettings(mqtt_username="pi", mqtt_password="secret"))


KEADM = """
enable: true
eventBusTLS:
  enable: true
  tlsMqttCAFile: /ca.crt
  tlsMqttCertFile: /server.crt
  tlsMqttPrivateKeyFile: /server.key
mqttMode: 1
mqttPassword: secret
mqttPubClientID: pub
mqttQOS: 1
mqttRetain: true
mqttServerExternal: ssl://broker:8883
mqttServerInternal: tcp://127.0.0.1:1884
mqttSessionQueueSize: 50
mqttSubClientID: sub
mqttUsername: pi
"""


def test_kubeedges_keys_are_read(tmp_path: Path) -> None:
    file = tmp_path / "bus.yaml"
    file.write_text(KEADM)
    settings = load(file, EventBusSettings)
    assert settings.external == BrokerAddress("broker", 8883, True)
    assert (settings.mqtt_qos, settings.mqtt_sub_client_id, settings.mqtt_pub_client_id) == (1, "sub", "pub")
    assert settings.event_bus_tls.tls_mqtt_ca_file == Path("/ca.crt")
    assert settings.event_bus_tls.tls_mqtt_private_key_file == Path("/server.key")


def test_a_complaint_says_where(tmp_path: Path) -> None:
    file = tmp_path / "bus.yaml"
    file.write_text("mqttMode: 7\n")
    with pytest.raises(ConfigError, match="mqttMode"):
        load(file, EventBusSettings)
