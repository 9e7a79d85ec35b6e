"""The cloud of the image test: the embedded API and cloudcore on this machine's loopback, on free ports."""

from __future__ import annotations

import base64
import contextlib
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import yaml
from rig.kube import KubeClient
from rig.processes import Child, free_port, pinnace, until_listening
from rig.waiting import eventually

DEVICE = "traffic-light-instance-01"
_SYNCS = "/apis/reliablesyncs.kubeedge.io/v1alpha1/namespaces/default/objectsyncs"


class Cloud:
    def __init__(self, folder: Path, *, advertise: str) -> None:
        self.folder = folder
        self.hub, self.bootstrap, self.tunnel, self.streams, self._api_port = (free_port() for _ in range(5))
        self.kubeconfig = folder / "admin.kubeconfig"
        self._advertise = advertise
        cloud_kubeconfig = folder / "cloudcore.kubeconfig"
        apiserver = [*pinnace("apiserver", "--data-dir", str(folder / "api"), "--port", str(self._api_port))]
        apiserver += ["--kubeconfig", str(self.kubeconfig), "--cloudcore-kubeconfig", str(cloud_kubeconfig)]
        self.api = Child("apiserver", apiserver, folder / "apiserver.log")
        self.core = Child("cloudcore", pinnace("cloudcore", "--config", str(folder / "cloudcore.yaml")), folder / "cloudcore.log")
        self._config = {
            "kubeAPIConfig": {"kubeConfig": str(cloud_kubeconfig)},
            "dataDir": str(folder / "cloudcore"),
            "modules": {
                "cloudHub": {
                    "advertiseAddress": ["127.0.0.1", advertise],
                    "websocket": {"port": self.hub, "address": "127.0.0.1"},
                    "https": {"port": self.bootstrap, "address": "127.0.0.1"},
                },
                "cloudStream": {"address": "127.0.0.1", "tunnelPort": self.tunnel, "streamPort": self.streams},
            },
        }
        self.kube: KubeClient

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "cloudcore.yaml").write_text(yaml.safe_dump(self._config))
        try:
            await self.api.start()
            await self.start_core()
            async with KubeClient(self.kubeconfig) as self.kube:
                yield
        finally:
            await self.core.kill()
            await self.api.kill()

    async def start_core(self) -> None:
        await self.core.start()
        await until_listening(self.hub)
        await until_listening(self.bootstrap)

    async def token(self) -> str:
        secret = await self.kube.get("/api/v1/namespaces/kubeedge/secrets/tokensecret")
        return base64.b64decode(secret["data"]["tokendata"]).decode()

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
                "ports": {"hub": self.hub, "bootstrap": self.bootstrap, "tunnel": self.tunnel},
            },
            sort_keys=False,
            width=1000,
        )

    def kubectl(self, *arguments: str) -> str:
        command = ["kubectl", "--kubeconfig", str(self.kubeconfig), *arguments]
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
