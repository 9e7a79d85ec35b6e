"""The embedded API and a cloudcore on it in this process, on real sockets of loopback."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from pinnace.cloud.hub.settings import CloudHubSettings, HttpsSettings, WebSocketSettings
from pinnace.cloud.settings import CloudCoreSettings, KubeApiSettings, Modules
from pinnace.cloud.standalone.access import CLOUDCORE
from pinnace.cloud.standalone.server import ClientFile, ServerSettings, admin_file, serving
from pinnace.cloud.stream.settings import CloudStreamSettings


@contextlib.asynccontextmanager
async def api_serving(folder: Path) -> AsyncIterator[Path]:
    """The embedded API with its files in `folder`: its administrator's kubeconfig. That of `settings_for` is beside it."""
    admin = folder / "admin.kubeconfig"
    clients = (admin_file(admin), ClientFile(_access(folder), "system:pinnace:cloudcore", (CLOUDCORE,)))
    async with serving(ServerSettings(folder / "api", port=0, clients=clients)):
        yield admin


def settings_for(folder: Path) -> CloudCoreSettings:
    """Of a cloudcore on `api_serving(folder)`, on ports that it finds."""
    hub = CloudHubSettings(
        websocket=WebSocketSettings(port=0, address="127.0.0.1"),
        https=HttpsSettings(port=0, address="127.0.0.1"),
        advertise_address=("127.0.0.1",),
        tls_ca_file=folder / "none", tls_ca_key_file=folder / "none", tls_cert_file=folder / "none", tls_private_key_file=folder / "none",
    )  # fmt: skip
    streams = CloudStreamSettings(address="127.0.0.1", stream_port=0, tunnel_port=0)
    return CloudCoreSettings(KubeApiSettings(str(_access(folder))), Modules(hub, streams), folder / "cloud")


def _access(folder: Path) -> Path:
    return folder / "cloudcore.kubeconfig"
