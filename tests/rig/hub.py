"""The cloud's hub over an API in memory, and edges that join it: real TLS and real WebSockets on the loopback."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from fakes.kube import FakeKube
from fakes.outbox import FakeDepartures

from pinnace.cloud.hub.acceptor import Acceptor
from pinnace.cloud.hub.bootstrap import Bootstrap
from pinnace.cloud.hub.hub import Hub
from pinnace.cloud.hub.outbox import Outbox
from pinnace.cloud.hub.settings import CloudHubSettings, HttpsSettings
from pinnace.cloud.hub.settings import WebSocketSettings as CloudWebSocketSettings
from pinnace.cloud.hub.vault import Vault
from pinnace.cloud.ports import Downlink
from pinnace.core.base.aio.clock import Clock
from pinnace.core.base.contract.envelopes import ack
from pinnace.core.base.contract.keys import NodeName, ResourceKey
from pinnace.core.base.observe.health import Health
from pinnace.core.base.wire.session import Limits
from pinnace.core.hub.service import HubLink
from pinnace.core.hub.settings import EdgeHubSettings, WebSocketSettings
from pinnace.ext.records import Envelope

DEADLINE = 20.0


@dataclass
class Cloud:
    """Bootstrap and hub of one cloudcore. `stop` and `start` keep the ports and what the API holds."""

    kube: FakeKube = field(default_factory=FakeKube)
    limits: Limits = field(default_factory=Limits)
    clock: Clock | None = None
    node_limit: int = 1000
    outbox_file: Path | None = None
    hub_port: int = 0
    https_port: int = 0
    received: list[tuple[str, Envelope]] = field(default_factory=list)
    stored: list[tuple[str, Downlink]] = field(default_factory=list)
    events: list[tuple[str, bool]] = field(default_factory=list)
    answer: Callable[[NodeName, ResourceKey, Envelope], Awaitable[list[Envelope]]] | None = None

    async def start(self) -> None:
        settings = CloudHubSettings(
            websocket=CloudWebSocketSettings(port=self.hub_port, address="127.0.0.1"),
            https=HttpsSettings(port=self.https_port, address="127.0.0.1"),
            advertise_address=("127.0.0.1",),
            node_limit=self.node_limit,
            tls_ca_file=Path("/nonexistent/ca"),
            tls_ca_key_file=Path("/nonexistent/ca.key"),
            tls_cert_file=Path("/nonexistent/crt"),
            tls_private_key_file=Path("/nonexistent/key"),
        )
        self.vault = Vault(self.kube, settings, self.clock)
        await self.vault.open()
        self.outbox = Outbox(self.outbox_file) if self.outbox_file is not None else None
        if self.outbox is not None:
            await self.outbox.open()
        self.hub = Hub(limits=self.limits, node_limit=self.node_limit, clock=self.clock, outbox=self.outbox)
        self.hub.handle_with(self._handle)
        self.hub.on_stored(self._note_stored)
        self.hub.on_connection(self._note_connection)
        self.bootstrap = Bootstrap(self.vault, self.kube, settings, self.clock)
        self.acceptor = Acceptor(self.hub, self.vault, settings)
        await self.bootstrap.start()
        await self.acceptor.start()
        self.https_port, self.hub_port = self.bootstrap.port, self.acceptor.port

    async def stop(self) -> None:
        await self.acceptor.close()
        await self.bootstrap.close()
        if self.outbox is not None:
            await self.outbox.close()

    async def _handle(self, node: NodeName, key: ResourceKey, message: Envelope) -> list[Envelope]:
        self.received.append((node, message))
        return await self.answer(node, key, message) if self.answer is not None else []

    async def _note_stored(self, node: NodeName, message: Downlink) -> None:
        self.stored.append((node, message))

    async def _note_connection(self, node: NodeName, is_connected: bool) -> None:
        self.events.append((node, is_connected))

    def push(self, node: str, name: str, version: int, body: bytes = b"{}") -> None:
        """An acknowledged push of a ConfigMap."""
        self.hub.push(
            NodeName(node),
            Downlink(
                ResourceKey("configmap", "default", name),
                "update",
                body,
                "edgecontroller",
                "resource",
                resource_version=str(version),
                uid=f"uid-{name}",
            ),
        )

    def user(self, node: str, text: str) -> None:
        """A user message, which has no acknowledgement."""
        message = Downlink(ResourceKey("topic"), "publish", f'"{text}"'.encode(), "router_eventbus", "user", acknowledged=False)
        self.hub.push(NodeName(node), message)


class Edge:
    """A node: the link, an outbox in memory, and a store that acknowledges each push. `stored` holds (resource, version)."""

    def __init__(self, settings: EdgeHubSettings, node: str, clock: Clock | None = None, *, machine: str = "") -> None:
        self.settings = settings
        self.node = NodeName(node)
        self.departures = FakeDepartures()
        self.health = Health()
        self.stored: list[tuple[str, int]] = []
        self.link = HubLink(settings, self.node, departures=self.departures, health=self.health, machine=machine, clock=clock)
        self.user: list[str] = []
        self.link.deliver("resource", self._store)
        self.link.deliver("user", self._publish)
        self.task: asyncio.Task[None] | None = None

    async def _store(self, envelope: Envelope) -> list[Envelope]:
        self.stored.append((envelope.resource, int(envelope.resource_version or 0)))
        return [ack(envelope)]

    async def _publish(self, envelope: Envelope) -> None:
        self.user.append(envelope.body.decode().strip('"'))

    def start(self) -> None:
        self.task = asyncio.create_task(self.link.run())

    async def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.task
            self.task = None


def edge_settings(cloud: Cloud, folder: Path, *, token: str | None = None, hub_port: int = 0) -> EdgeHubSettings:
    return EdgeHubSettings(
        http_server=f"https://127.0.0.1:{cloud.https_port}",
        websocket=WebSocketSettings(server=f"127.0.0.1:{hub_port or cloud.hub_port}"),
        tls_ca_file=folder / "ca" / "rootCA.crt",
        tls_cert_file=folder / "certs" / "server.crt",
        tls_private_key_file=folder / "certs" / "server.key",
        token=cloud.vault.token if token is None else token,
    )


EdgeMaker = Callable[..., Edge]
