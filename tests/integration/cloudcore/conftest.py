"""A cloudcore on the embedded API, both in this process on real sockets, and nodes that connect to it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from fakes.node import ScriptedNode
from rig.cloudcore import api_serving, settings_for
from rig.waiting import eventually

from pinnace.cloud import server as cloudcore
from pinnace.cloud.kube import HttpKubeApi, load_access
from pinnace.cloud.ports import Object, Resource

SAMPLES = Path(__file__).resolve().parents[3] / "build" / "samples"
NODE = "192.168.4.22-pi2"
LIGHT = "traffic-light-instance-01"

MODELS_V1ALPHA1 = Resource("devices.kubeedge.io", "v1alpha1", "devicemodels", "DeviceModel", True)
DEVICES_V1ALPHA1 = Resource("devices.kubeedge.io", "v1alpha1", "devices", "Device", True)


@dataclass
class World:
    """The API as its administrator sees it, and the cloudcore on it."""

    folder: Path
    api: HttpKubeApi
    cloud: cloudcore.Running

    async def node(self, name: str = NODE) -> ScriptedNode:
        """A node that has joined."""
        made = ScriptedNode(name, self.folder)
        await made.join(self.cloud.https_port, self.cloud.token)
        return made

    @contextlib.asynccontextmanager
    async def connected(self, name: str = NODE, *, labels: dict[str, str] | None = None) -> AsyncIterator[ScriptedNode]:
        """A node that has joined, is connected and has registered its Node."""
        node = await self.node(name)
        async with node.connected(self.cloud.websocket_port):
            body = {"metadata": {"name": name, "labels": {"node-role.kubernetes.io/edge": ""} | (labels or {})}, "spec": {}, "status": {}}
            await node.ask("insert", f"null/node/{name}", body)
            yield node

    @staticmethod
    def sample(name: str, part: str) -> Object:
        """A YAML file of the project's samples."""
        loaded: Object = yaml.safe_load((SAMPLES / name / f"{part}.yaml").read_text())
        return loaded

    async def apply_sample(self, name: str = "traffic-light") -> None:
        for resource, part in ((MODELS_V1ALPHA1, "model"), (DEVICES_V1ALPHA1, "instance")):
            await self.api.create(resource, self.sample(name, part), "default")

    async def until(self, ask: Callable[[], Awaitable[Any]], wanted: Callable[[Any], object]) -> Any:
        return await eventually(ask, wanted, pause=0.01)


@contextlib.asynccontextmanager
async def api_server(folder: Path) -> AsyncIterator[HttpKubeApi]:
    """The embedded API and its administrator's client."""
    async with api_serving(folder) as admin, HttpKubeApi(await load_access(kubeconfig=admin)) as api:
        yield api


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with api_server(tmp_path) as api, cloudcore.serving(settings_for(tmp_path)) as running:
        yield World(tmp_path, api, running)
