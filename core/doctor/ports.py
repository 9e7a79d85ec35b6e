"""Ports of this machine that the node needs for itself, who has them, and other node agents that would fight over pods."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from pinnace.core.doctor.finding import Finding, Level
from pinnace.core.doctor.subject import Subject
from pinnace.core.eventbus.settings import MODE_EXTERNAL, MODE_INTERNAL
from pinnace.core.footprint import traffic

_LISTENING: Final = "0A"
RIVALS: Final = {"kubelet": "kubelet", "edgecore": "edgecore", "k3s-agent": "k3s-agent", "k3s-server": "k3s", "k3s": "k3s"}
"""Processes that run pods of a cluster themselves, and their services."""


@dataclass(frozen=True, slots=True)
class Need:
    """`is_ours` says that the node listens there itself; otherwise somebody else has to."""

    port: int
    what: str
    setting: str
    is_ours: bool


@dataclass(frozen=True, slots=True)
class PortFacts:
    """`listeners` has the name of the process at each port, "" when it is not to be seen. `is_agent_running` says that ours runs."""

    needs: list[Need]
    listeners: dict[int, str] = field(default_factory=dict)
    is_agent_running: bool = False
    rivals: list[str] = field(default_factory=list)
    broker_service: str = "mosquitto"


def read(subject: Subject) -> PortFacts:
    modules = subject.settings.modules
    needs = []
    bus = modules.event_bus
    if bus.enable and bus.mqtt_mode != MODE_EXTERNAL:
        needs.append(Need(bus.internal.port, "the node's own MQTT broker", "modules.eventBus.mqttServerInternal", is_ours=True))
    if subject.config is not None and bus.enable and bus.mqtt_mode != MODE_INTERNAL and bus.external.loopback:
        needs.append(Need(bus.external.port, "the MQTT broker of this machine", "modules.eventBus.mqttServerExternal", is_ours=False))
    if port := modules.edged.tailored_kubelet_config.read_only_port:
        needs.append(Need(port, "local metrics", "modules.edged.tailoredKubeletConfig.readOnlyPort", is_ours=True))
    sockets = _listening(subject)
    names, holders = _processes(subject, set(sockets.values()))
    listeners = {port: holders.get(inode, "") for port, inode in sockets.items()}
    rivals = sorted({RIVALS[name] for name, words in names if name in RIVALS and not any("pinnace" in word for word in words)})
    agent = any("edgecore" in words and any("pinnace" in word for word in words) for _, words in names)
    broker = "pinnace-mosquitto" if subject.path("/etc/pinnace/mosquitto.conf").exists() else "mosquitto"
    return PortFacts(needs, listeners, agent, rivals, broker)


def _listening(subject: Subject) -> dict[int, int]:
    """Port → inode of the socket that listens there (proc(5), net/tcp)."""
    found = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in subject.text(table).splitlines()[1:]:
            fields = line.split()
            if len(fields) > 9 and fields[3] == _LISTENING:
                found[int(fields[1].rpartition(":")[2], 16)] = int(fields[9])
    return found


def _processes(subject: Subject, wanted: set[int]) -> tuple[list[tuple[str, list[str]]], dict[int, str]]:
    """Name and command line of every process; and whose the sockets of `wanted` are, as far as they may be looked at."""
    names: list[tuple[str, list[str]]] = []
    holders: dict[int, str] = {}
    for entry in subject.path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        name = subject.text(f"/proc/{entry.name}/comm")
        words = [each for each in subject.text(f"/proc/{entry.name}/cmdline").split("\0") if each]
        if not words:
            continue
        names.append((name, words))
        try:
            inodes = traffic.inodes(int(entry.name), subject.path("/proc"))
        except OSError:
            continue
        is_ours = any("pinnace" in word for word in words[:4])
        holders |= dict.fromkeys(inodes & wanted, f"pinnace {name}" if is_ours and name != "pinnace" else name)
    return names, holders


def check(facts: PortFacts) -> Iterator[Finding]:
    for need in facts.needs:
        yield _port(need, facts)
    for rival in facts.rivals:
        text = f"{rival} runs here too: it would take this node's pods for its own"
        yield Finding("ports", Level.ERROR, text, f"systemctl disable --now {rival}")


def _port(need: Need, facts: PortFacts) -> Finding:
    look = f"ss -ltnp 'sport = :{need.port}'"
    if need.port not in facts.listeners:
        if need.is_ours:
            return Finding("ports", Level.OK, f"{need.port} ({need.what}) is free")
        text = f"nobody listens on {need.port} ({need.what}): no device can be reached"
        install = "apt-get install mosquitto && " if facts.broker_service == "mosquitto" else ""
        return Finding("ports", Level.ERROR, text, f"{install}systemctl enable --now {facts.broker_service}")
    holder = facts.listeners[need.port]
    by = f" by {holder}" if holder else ""
    is_fine = not need.is_ours or (facts.is_agent_running and (not holder or "pinnace" in holder or "mosquitto" in holder))
    if is_fine:
        return Finding("ports", Level.OK, f"{need.port} ({need.what}) is served{by}")
    text = f"{need.port} ({need.what}) is taken{by or ' by another program'}; stop that, or choose another port with {need.setting}"
    return Finding("ports", Level.ERROR, text, look)
