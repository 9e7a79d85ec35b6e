"""The configuration files that `pinnace up` writes: what a person would write for each process."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import yaml

from pinnace.cloud.local.places import Places
from pinnace.cloud.local.pods import PodFolders
from pinnace.cloud.local.ports import LOOPBACK, Ports, listen_address
from pinnace.cloud.ports import Object
from pinnace.core.base.errors import ConfigError


def mosquitto() -> str:
    """The broker's program. Raises ConfigError."""
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        raise ConfigError("there is no mosquitto on this machine: apt-get install mosquitto")
    return program


def broker(ports: Ports, places: Places) -> str:
    """mosquitto.conf(5): loopback only, as whoever runs us (root would be exchanged for another user), its queues kept on disk."""
    user = "user root\n" if os.geteuid() == 0 else ""
    return (
        f"listener {ports.mqtt} {LOOPBACK}\nallow_anonymous true\n{user}set_tcp_nodelay true\n"
        f"persistence true\npersistence_location {places.data / 'mosquitto'}/\nmax_queued_messages 10000\n"
    )


def cloudcore(ports: Ports, places: Places, kubeconfig: Path, *, advertise: str = "") -> Object:
    """cloudcore.yaml. With `advertise` nodes of other machines are let in."""
    listen = listen_address(advertise)
    return {
        "apiVersion": "cloudcore.config.kubeedge.io/v1alpha2",
        "kind": "CloudCore",
        "kubeAPIConfig": {"kubeConfig": str(kubeconfig)},
        "dataDir": str(places.data / "cloudcore"),
        "modules": {
            "cloudHub": {
                "advertiseAddress": [advertise, LOOPBACK] if advertise else [LOOPBACK],
                "websocket": {"port": ports.hub, "address": listen},
                "https": {"port": ports.bootstrap, "address": listen},
            },
            "cloudStream": {"address": listen, "tunnelPort": ports.tunnel, "streamPort": ports.streams},
            "conversion": {"address": LOOPBACK, "port": ports.conversion},
        },
    }


def edgecore(ports: Ports, places: Places, node: str, token: str, pods: PodFolders | None) -> Object:
    """edgecore.yaml of a node that is labelled with its own name, as the samples select it. Without `pods` it is one of devices only."""
    certs = places.data / "edge" / "certs"
    return {
        "apiVersion": "edgecore.config.kubeedge.io/v1alpha2",
        "kind": "EdgeCore",
        "database": {"dataSource": str(places.data / "edge" / "edgecore.db")},
        "modules": {
            "edgeHub": {
                "httpServer": f"https://{LOOPBACK}:{ports.bootstrap}",
                "websocket": {"enable": True, "server": f"{LOOPBACK}:{ports.link}"},
                "token": token,
                "tlsCaFile": str(certs / "rootCA.crt"),
                "tlsCertFile": str(certs / "server.crt"),
                "tlsPrivateKeyFile": str(certs / "server.key"),
            },
            "edgeStream": {"server": f"{LOOPBACK}:{ports.tunnel}"},
            "edged": {
                "hostnameOverride": node,
                "nodeLabels": {"hostname": node},
                "controlSocket": str(places.control_socket()),
                "tailoredKubeletConfig": {"readOnlyPort": ports.read_only, **(pods.kubelet if pods else {})},
                **(pods.settings if pods else {"enable": False}),
            },
            "eventBus": {"mqttMode": 2, "mqttServerExternal": f"tcp://{LOOPBACK}:{ports.mqtt}"},
        },
    }


def manifest(path: Path) -> Object:
    """The one object of a YAML file. Raises ConfigError."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: expected one Kubernetes object")
    return found


def write_yaml(path: Path, value: Object) -> None:
    write_text(path, yaml.safe_dump(value, sort_keys=False))


def write_text(path: Path, text: str) -> None:
    """For this user alone: edgecore.yaml holds the join token."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
        stream.write(text)
