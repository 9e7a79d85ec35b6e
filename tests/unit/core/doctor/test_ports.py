"""Who has the node's ports."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from fakes.machine import machine

from pinnace.core.base.settings.edged import EdgedSettings, KubeletSettings
from pinnace.core.doctor import ports
from pinnace.core.doctor.finding import Level
from pinnace.core.doctor.ports import Need, PortFacts
from pinnace.core.eventbus.settings import EventBusSettings
from pinnace.core.settings import EdgeCoreSettings, ModuleSettings

BROKER = Need(1884, "the node's own MQTT broker", "modules.eventBus.mqttServerInternal", is_ours=True)
OUTSIDE = Need(1883, "the MQTT broker of this machine", "modules.eventBus.mqttServerExternal", is_ours=False)


@pytest.mark.parametrize(
    ("facts", "level", "word"),
    [
        (PortFacts([BROKER]), Level.OK, "free"),
        (PortFacts([BROKER], {1884: "mosquitto"}, is_agent_running=True), Level.OK, "served by mosquitto"),
        (PortFacts([BROKER], {1884: "mosquitto"}), Level.ERROR, "taken by mosquitto"),
        (PortFacts([BROKER], {1884: "nginx"}, is_agent_running=True), Level.ERROR, "mqttServerInternal"),
        (PortFacts([OUTSIDE], {1883: "mosquitto"}), Level.OK, "served"),
        (PortFacts([OUTSIDE]), Level.ERROR, "nobody listens"),
    ],
)
def test_one_port(facts: PortFacts, level: Level, word: str) -> None:
    (found,) = ports.check(facts)
    assert found.level is level
    assert word in found.text
    assert bool(found.remedy) == (level is not Level.OK)


def test_the_remedy_is_for_the_broker_that_is_installed() -> None:
    (found,) = ports.check(PortFacts([OUTSIDE], broker_service="pinnace-mosquitto"))
    assert found.remedy == "systemctl enable --now pinnace-mosquitto"


def test_another_kubelet_is_an_error() -> None:
    (found,) = ports.check(PortFacts([], rivals=["kubelet"]))
    assert (found.level, found.remedy) == (Level.ERROR, "systemctl disable --now kubelet")


def test_listeners_and_rivals_are_read(tmp_path: Path) -> None:
    head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    row = "   0: 0100007F:{port:04X} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 {inode} 1\n"
    files = {
        "/proc/net/tcp": head + row.format(port=1883, state="0A", inode=77) + row.format(port=5000, state="01", inode=78),
        "/proc/9/comm": "nginx\n",
        "/proc/9/cmdline": "nginx\0-g\0",
        "/proc/9/fd/": "",
        "/proc/10/comm": "edgecore\n",
        "/proc/10/cmdline": "/usr/local/bin/edgecore\0",
        "/proc/12/comm": "k3s-server\n",
        "/proc/12/cmdline": "/usr/local/bin/k3s server\0",
        "/proc/11/comm": "pinnace\n",
        "/proc/11/cmdline": "/opt/pinnace/current/pinnace\0edgecore\0",
    }
    kubelet = KubeletSettings(read_only_port=10355)
    modules = ModuleSettings(edged=EdgedSettings(tailored_kubelet_config=kubelet), event_bus=EventBusSettings(mqtt_mode=1))
    subject = machine(tmp_path, files, EdgeCoreSettings(modules=modules))
    (tmp_path / "proc/9/fd/3").symlink_to("socket:[77]")
    facts = ports.read(subject)
    assert facts.listeners == {1883: "nginx"}
    assert facts.rivals == ["edgecore", "k3s"]
    assert facts.is_agent_running
    assert [each.port for each in facts.needs] == [1884, 1883, 10355]
    facts = ports.read(dataclasses.replace(subject, config=None))
    assert [each.port for each in facts.needs] == [1884, 10355]  # a machine that has not joined may yet get a broker of its own
