"""The embedded API and a cloudcore on it, each a process of its own on loopback."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from rig.kube import KubeClient
from rig.processes import Child, free_port, pinnace, until_listening


class CloudProcesses:
    """Either may be killed and started again on its ports; files and logs are in `folder`. The hub's certificate is also for the addresses
    of `advertise`; `hub` and `settings` go into cloudcore.yaml, below modules.cloudHub and at the top."""

    def __init__(
        self,
        folder: Path,
        *,
        advertise: Sequence[str] = (),
        hub: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = folder
        self.hub_port, self.https_port, self.tunnel_port, api_port = (free_port() for _ in range(4))
        self.kubeconfig = folder / "admin.kubeconfig"
        access, self._config = folder / "cloudcore.kubeconfig", folder / "cloudcore.yaml"
        self.api = self._child(
            "apiserver",
            pinnace(
                "apiserver", "--data-dir", str(folder / "api"), "--port", str(api_port), "--kubeconfig", str(self.kubeconfig),
                "--cloudcore-kubeconfig", str(access),
            ),
        )  # fmt: skip
        self.cloud = self._child("cloudcore", pinnace("cloudcore", "--config", str(self._config)))
        self._settings = {
            "kubeAPIConfig": {"kubeConfig": str(access)},
            "modules": {
                "cloudHub": {
                    "advertiseAddress": ["127.0.0.1", *advertise],
                    "websocket": {"port": self.hub_port, "address": "127.0.0.1"},
                    "https": {"port": self.https_port, "address": "127.0.0.1"},
                    **{f"tls{part}": str(folder / "none") for part in ("CAFile", "CAKeyFile", "CertFile", "PrivateKeyFile")},
                    **(hub or {}),
                },
                "cloudStream": {"address": "127.0.0.1", "tunnelPort": self.tunnel_port, "streamPort": 0},
            },
            **(settings or {}),
        }

    def _child(self, name: str, command: list[str], *, says_ready: bool = True, port: int = 0) -> Child:
        return Child(name, command, self.folder / f"{name}.log", says_ready=says_ready, port=port)

    def write(self) -> None:
        """The folder and cloudcore.yaml."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._config.write_text(yaml.safe_dump(self._settings))

    async def start_cloud(self) -> None:
        """Both, with what they need."""
        self.write()
        await self.api.start()
        await self.start_cloudcore()

    async def start_cloudcore(self) -> None:
        await self.cloud.start()
        await until_listening(self.hub_port)
        await until_listening(self.https_port)


async def join_token(kube: KubeClient) -> str:
    """What a node joins with, as the API keeps it."""
    secret = await kube.get("/api/v1/namespaces/kubeedge/secrets/tokensecret")
    return base64.b64decode(secret["data"]["tokendata"]).decode()
