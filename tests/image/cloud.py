"""The cloud of the image test: the embedded API and cloudcore on this machine's loopback, on free ports."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import yaml
from rig.cloudprocesses import CloudProcesses, join_token
from rig.kube import KubeClient
from rig.waiting import eventually

DEVICE = "traffic-light-instance-01"
_SYNCS = "/apis/reliablesyncs.kubeedge.io/v1alpha1/namespaces/default/objectsyncs"


class Cloud:
    def __init__(self, folder: Path, *, advertise: str) -> None:
        self._processes = CloudProcesses(folder, advertise=(advertise,), settings={"dataDir": str(folder / "cloudcore")})
        self._advertise = advertise
        self.core = self._processes.cloud
        self.hub, self.bootstrap = self._processes.hub_port, self._processes.https_port
        self.kube: KubeClient

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        try:
            await self._processes.start_cloud()
            async with KubeClient(self._processes.kubeconfig) as self.kube:
                yield
        finally:
            await self.core.kill()
            await self._processes.api.kill()

    async def start_core(self) -> None:
        await self._processes.start_cloudcore()

    async def token(self) -> str:
        return await join_token(self.kube)

    def yaml(self, node: str, token: str, key: str) -> str:
        """The pinnace.yaml of a board that joins here."""
        return yaml.safe_dump(
            {
                "cloud": self._advertise,
                "token": token,
                "node": node,
                "labels": {"hostname": node, "place": "emulated"},
                "ssh-key": key.strip(),
                "gpio": {"device": DEVICE, "pins": {"red": 25, "green": 23, "yellow": 24}},
                "ports": {"hub": self.hub, "bootstrap": self.bootstrap, "tunnel": self._processes.tunnel_port},
            },
            sort_keys=False,
            width=1000,
        )

    def kubectl(self, *arguments: str) -> str:
        command = ["kubectl", "--kubeconfig", str(self._processes.kubeconfig), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)
        return (done.stdout + done.stderr).strip()

    async def node(self, name: str) -> Any:
        status, body = await self.kube.ask("GET", f"/api/v1/nodes/{name}")
        return body if status == 200 else {}

    async def stored_version(self, node: str, uid: str) -> str:
        """The version of an object of namespace default that the node says is on its card."""
        status, body = await self.kube.ask("GET", f"{_SYNCS}/{node}.{uid}")
        return str((body.get("status") or {}).get("objectResourceVersion", "")) if status == 200 else ""


def is_ready(node: Any, boot_id: str = "") -> bool:
    """Whether the Node is Ready, by the word of a start other than `boot_id`."""
    status = node.get("status") or {}
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions") or ())
    return ready and (not boot_id or (status.get("nodeInfo") or {}).get("bootID") != boot_id)


async def until(ask: Callable[[], Awaitable[Any]], wanted: Callable[[Any], bool], what: str, *, seconds: float) -> Any:
    return await eventually(ask, wanted, seconds=seconds, pause=0.3, what=what)
