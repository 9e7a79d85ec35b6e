"""Broker, embedded API, cloudcore and one edge, each a process of its own, and a line between cloud and edge that can be cut."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import yaml

from rig import waiting
from rig.cloudprocesses import CloudProcesses, join_token
from rig.kube import DEVICES, KubeClient
from rig.podplaces import PodPlaces
from rig.processes import Child, free_port, pinnace

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "build" / "samples" / "traffic-light"
NODE = "192.168.4.22-pi2"
DEVICE = "traffic-light-instance-01"


class System(CloudProcesses):
    """`start` brings everything up in order; every process may then be killed and started again by the test."""

    def __init__(self, folder: Path, *, edge_program: list[str] | None = None, pods: PodPlaces | None = None) -> None:
        super().__init__(folder)
        self.pods = pods
        self.mqtt_port = free_port()
        own_socket = Path(tempfile.gettempdir()) / f"pinnace-{os.getpid()}-{self.tunnel_port}.sock"
        self.control_socket = pods.control_socket if pods else own_socket
        self.link_port = self.hub_port
        """Where the edge finds the hub; a test that cuts the line sets the port of its proxy before `start`."""
        mosquitto = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        self.broker = self._child("mosquitto", [mosquitto, "-c", str(folder / "mosquitto.conf")], says_ready=False, port=self.mqtt_port)
        edge = edge_program or pinnace()
        self.edge = self._child("edgecore", [*edge, "edgecore", "--config", str(folder / "edgecore.yaml")])

    @property
    def children(self) -> list[Child]:
        return [self.broker, self.api, self.cloud, self.edge]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[KubeClient]:
        """Everything up, the traffic light applied and its twins at the edge; everything ended afterwards."""
        try:
            await self.start_cloud()
            async with KubeClient(self.kubeconfig) as kube:
                await self.start_edge(kube)
                for name in ("model", "instance"):
                    await kube.apply(SAMPLES / f"{name}.yaml")
                yield kube
        finally:
            for child in reversed(self.children):
                await child.kill()

    async def start_cloud(self) -> None:
        """With the broker."""
        await super().start_cloud()
        self._write_broker()
        await self.broker.start()

    async def start_edge(self, kube: KubeClient) -> None:
        """Write the edge's configuration with a join token from the API, start it, and wait until its Node is there."""
        self._write_edge(await join_token(kube))
        await self.edge.start()
        await eventually(lambda: kube.ask("GET", f"/api/v1/nodes/{NODE}"), lambda answer: answer[0] == 200, self)

    def _write_broker(self) -> None:
        # A service folder owned by nobody else: the broker stays the user it was started as.
        (self.folder / "mosquitto.conf").write_text(
            f"listener {self.mqtt_port} 127.0.0.1\nallow_anonymous true\nuser root\nset_tcp_nodelay true\n"
            f"persistence true\npersistence_location {self.folder}/\nautosave_interval 1\n"
            "max_queued_messages 0\nmax_inflight_messages 0\n"
        )

    def _write_edge(self, token: str) -> None:
        certs = self.folder / "certs"
        self._write(
            "edgecore.yaml",
            {
                "database": {"dataSource": str(self.folder / "edge" / "edgecore.db")},
                "modules": {
                    "edgeHub": {
                        "httpServer": f"https://127.0.0.1:{self.https_port}",
                        "websocket": {"server": f"127.0.0.1:{self.link_port}"},
                        "token": token,
                        "tlsCaFile": str(certs / "rootCA.crt"),
                        "tlsCertFile": str(certs / "server.crt"),
                        "tlsPrivateKeyFile": str(certs / "server.key"),
                    },
                    "edgeStream": {"server": f"127.0.0.1:{self.tunnel_port}"},
                    "edged": {
                        "hostnameOverride": NODE,
                        "nodeLabels": {"hostname": NODE},
                        "controlSocket": str(self.control_socket),
                        **(self.pods.settings if self.pods else {"enable": False, "tailoredKubeletConfig": {"readOnlyPort": 0}}),
                    },
                    "eventBus": {"mqttMode": 2, "mqttServerExternal": f"tcp://127.0.0.1:{self.mqtt_port}"},
                },
            },
        )

    def _write(self, name: str, value: Any) -> None:
        (self.folder / name).write_text(yaml.safe_dump(value))

    def logs(self) -> str:
        return "\n".join(f"--- {child.name}\n{child.tail()}" for child in self.children)


async def eventually(ask: Callable[[], Any], wanted: Callable[[Any], object], system: System, *, seconds: float = 60.0) -> Any:
    """Ask until the answer satisfies `wanted`; fails with the last answer and the logs' ends."""
    return await waiting.eventually(ask, wanted, seconds=seconds, more=system.logs)


async def set_desired(kube: KubeClient, values: dict[str, str], *, device: str = DEVICE) -> None:
    """Set desired values of a device, read, change, replace until nobody came between."""
    while True:
        current = await kube.get(f"{DEVICES}/{device}")
        for each in current["spec"]["properties"]:
            if each["name"] in values:
                each["desired"] = {**(each.get("desired") or {}), "value": values[each["name"]]}
        status, body = await kube.ask("PUT", f"{DEVICES}/{device}", current)
        if status == 200:
            return
        assert status == 409, body


def reported(device: Any) -> dict[str, str]:
    """The reported values a Device shows."""
    twins = (device.get("status") or {}).get("twins") or []
    return {each["propertyName"]: each["reported"]["value"] for each in twins if (each.get("reported") or {}).get("value") is not None}


def desired(device: Any) -> dict[str, str]:
    """The desired values a Device wants."""
    return {each["name"]: each["desired"]["value"] for each in device["spec"].get("properties") or [] if each.get("desired")}
