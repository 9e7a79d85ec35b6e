"""Logs, exec, attach, port-forward and metrics of this node, through each of its doors."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable

from pinnace.core.base.aio.backoff import Backoff
from pinnace.core.base.aio.supervise import supervise
from pinnace.core.base.contract.keys import NodeName
from pinnace.core.base.errors import ConfigError
from pinnace.core.base.observe.health import Health
from pinnace.core.base.pod import Object
from pinnace.core.base.runtime import Runtime
from pinnace.core.base.settings.edged import EdgedSettings
from pinnace.core.stream.api import KubeletApi
from pinnace.core.stream.doors import read_only_door, root_door
from pinnace.core.stream.ports import PodBook, Shelf
from pinnace.core.stream.settings import EdgeStreamSettings
from pinnace.core.stream.stats import Stats
from pinnace.core.stream.tunnel import EdgeTunnel

logger = logging.getLogger(__name__)

_RETRY_SECONDS = 30.0


class StreamService:
    """`run` for ever: the tunnel, and the doors on this machine. A door that cannot be opened is told and tried again."""

    def __init__(
        self,
        settings: EdgeStreamSettings,
        edged: EdgedSettings,
        node: NodeName,
        *,
        hub_host: str,
        runtime: Runtime | None,
        book: PodBook,
        shelf: Shelf,
        health: Health,
        certificate: Callable[[], Awaitable[ssl.SSLContext]],
        address: Callable[[], str] = lambda: "",
        usage: Callable[[], Awaitable[Object]] | None = None,
    ) -> None:
        self._settings = settings
        self._edged = edged
        self._problems: dict[str, str] = {}
        stats = Stats(node, runtime, pods_root=edged.root_directory)
        self._api = KubeletApi(runtime=runtime, book=book, shelf=shelf, stats=stats, health=health, logs=edged.pod_logs_dir, usage=usage)
        self.tunnel = EdgeTunnel(settings, node, hub_host=hub_host, api=self._api, certificate=certificate, address=address)
        self.read_only_port = 0
        """In use; 0 while it is closed."""

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            if self._settings.enable:
                group.create_task(supervise("stream tunnel", self.tunnel.run, Backoff(0.5, 30.0)), name="stream tunnel")
            if self._edged.tailored_kubelet_config.read_only_port:
                group.create_task(self._keep_open("read-only", self._read_only), name="stream read-only door")
            group.create_task(self._keep_open("control", self._control), name="stream control door")

    async def _keep_open(self, name: str, door: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await door()
            except ConfigError as error:
                self._state(name, str(error))
            await asyncio.sleep(_RETRY_SECONDS)

    async def _read_only(self) -> None:
        async with read_only_door(self._api, self._edged.tailored_kubelet_config.read_only_port) as port:
            self._state("read-only", "")
            self.read_only_port = port
            try:
                await asyncio.Event().wait()
            finally:
                self.read_only_port = 0

    async def _control(self) -> None:
        async with root_door(self._api, self._edged.control_socket):
            self._state("control", "")
            await asyncio.Event().wait()

    def _state(self, door: str, problem: str) -> None:
        """Logged when it changes. The node does its work without its doors, so its health is none of this."""
        if problem and self._problems.get(door) != problem:
            logger.warning("stream.door.closed door=%s reason=%s", door, problem)
        self._problems[door] = problem
