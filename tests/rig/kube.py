"""A plain client of the Kubernetes API: a kubeconfig in, JSON out."""

from __future__ import annotations

import base64
import contextlib
import json
import ssl
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import yaml

DEVICES = "/apis/devices.kubeedge.io/v1beta1/namespaces/default/devices"


class KubeClient:
    """For the length of an `async with`."""

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        context = ssl.create_default_context(cadata=authority)
        with tempfile.NamedTemporaryFile() as pair:
            pair.write(base64.b64decode(user["client-certificate-data"]) + base64.b64decode(user["client-key-data"]))
            pair.flush()
            context.load_cert_chain(pair.name)
        self.url = str(cluster["server"])
        self._context = context

    async def __aenter__(self) -> KubeClient:
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self._context, limit=0))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def ask(self, method: str, path: str, body: Any = None, *, content_type: str = "application/json") -> tuple[int, Any]:
        data = orjson.dumps(body) if body is not None else None
        headers = {"Content-Type": content_type} if data is not None else {}
        async with self._session.request(method, self.url + path, data=data, headers=headers) as response:
            text = await response.read()
            return response.status, orjson.loads(text) if response.content_type == "application/json" else text.decode()

    async def get(self, path: str) -> Any:
        status, body = await self.ask("GET", path)
        assert status == 200, body
        return body

    async def merge(self, path: str, patch: Any) -> Any:
        status, body = await self.ask("PATCH", path, patch, content_type="application/merge-patch+json")
        assert status == 200, body
        return body

    async def apply(self, manifest: Path) -> None:
        """Create every object of a YAML file that is not there yet."""
        plurals = {"Device": "devices", "DeviceModel": "devicemodels"}
        for document in yaml.safe_load_all(manifest.read_text()):
            if not document:
                continue
            group = f"/apis/{document['apiVersion']}"
            status, body = await self.ask("POST", f"{group}/namespaces/default/{plurals[document['kind']]}", document)
            assert status in {201, 409}, json.dumps(body)

    @contextlib.asynccontextmanager
    async def watch(self, path: str, version: str) -> AsyncIterator[AsyncIterator[Any]]:
        """The events after a resource version; the stream is open when the block begins."""
        async with self._session.get(
            f"{self.url}{path}?watch=1&resourceVersion={version}", timeout=aiohttp.ClientTimeout(total=None)
        ) as response:
            assert response.status == 200, await response.text()

            async def events() -> AsyncIterator[Any]:
                async for line in response.content:
                    yield orjson.loads(line)

            yield events()
