"""An edge that does what a test tells it to, with a real certificate over a real WebSocket, in upstream's dialect (wire 0).

It joins as `keadm` does and acknowledges as edgecore does; what arrives is kept in `received` and looked at with `saw`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import json
import ssl
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from websockets.asyncio.client import ClientConnection, connect

Message = dict[str, Any]
SECONDS = 20.0


class ScriptedNode:
    """One node. `join`, then `async with node.connected(port)`; `acknowledges` may be switched off."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.received: list[Message] = []
        self.acknowledges = True
        self._folder = folder
        self._changed = asyncio.Condition()
        self._socket: ClientConnection | None = None
        self.context: ssl.SSLContext | None = None

    async def join(self, https_port: int, token: str) -> None:
        """Fetch the authority and a certificate, as a joining tool does."""
        digest, _, jwt = token.partition(".")
        url = f"https://127.0.0.1:{https_port}"
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{url}/ca.crt", ssl=False) as response:
                authority = await response.read()
            assert hashlib.sha256(authority).hexdigest() == digest
            context = ssl.create_default_context(cadata=ssl.DER_cert_to_PEM_cert(authority))
            key = ec.generate_private_key(ec.SECP256R1())
            subject = x509.Name(
                [
                    x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
                    x509.NameAttribute(NameOID.COMMON_NAME, f"system:node:{self.name}"),
                ]
            )
            request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
            headers = {"NodeName": self.name, "Authorization": f"Bearer {jwt}"}
            body = request.public_bytes(serialization.Encoding.DER)
            async with session.get(f"{url}/edge.crt", data=body, headers=headers, ssl=context) as response:
                answer = await response.read()
                assert response.status == 200, answer
        pair = self._folder / f"{self.name}.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
        pair.write_bytes(ssl.DER_cert_to_PEM_cert(answer).encode() + private)
        context.load_cert_chain(pair)
        self.context = context

    @contextlib.asynccontextmanager
    async def connected(self, port: int) -> Any:
        """A session for the length of the block; the first message is a keepalive."""
        headers = {"Node_id": self.name, "Project_id": "e632aba927ea4ac2b575ec1603d56f10", "ConnectionUse": "msg"}
        async with connect(
            f"wss://127.0.0.1:{port}/e632aba927ea4ac2b575ec1603d56f10/{self.name}/events",
            ssl=self.context, additional_headers=headers, compression=None, ping_interval=None,
        ) as socket:  # fmt: skip
            self._socket = socket
            reader = asyncio.create_task(self._read(socket))
            await self.send("keepalive", "node", "ping", source="websocket", group="resource")
            try:
                yield self
            finally:
                reader.cancel()
                await asyncio.gather(reader, return_exceptions=True)
                self._socket = None

    async def send(
        self, operation: str, resource: str, content: Any, *, source: str = "edged", group: str = "meta", parent: str = ""
    ) -> str:
        """Send a message; its id."""
        number = str(uuid.uuid4())
        header: Message = {"msg_id": number, "timestamp": time.time_ns() // 1_000_000}
        if parent:
            header["parent_msg_id"] = parent
        route = {"source": source, "group": group, "operation": operation, "resource": resource}
        assert self._socket is not None
        await self._socket.send(json.dumps({"header": header, "route": route, "content": content}) + "\n")
        return number

    async def raw(self, text: str) -> None:
        assert self._socket is not None
        await self._socket.send(text)

    async def ask(self, operation: str, resource: str, content: Any = None, **more: Any) -> Message:
        """Send, and wait for the answer."""
        number = await self.send(operation, resource, content, **more)
        return await self.saw(lambda message: message["header"].get("parent_msg_id") == number)

    async def report(self, device: str, values: dict[str, str], *, version: int = 1, timestamp: int = 0) -> str:
        """A twin report as upstream's DeviceTwin sends it; the message's id."""
        now = timestamp or time.time_ns() // 1_000_000
        twins = {
            name: {
                "actual": {"value": value, "metadata": {"timestamp": now}}, "optional": False, "metadata": {"type": "string"},
                "actual_version": {"cloud": 0, "edge": version},
            }
            for name, value in values.items()
        }  # fmt: skip
        content = {"event_id": str(uuid.uuid4()), "timestamp": now, "twin": twins}
        return await self.send("update", f"device/{device}/twin/edge_updated", content, source="twin", group="resource")

    async def saw(self, wanted: Callable[[Message], object], *, after: int = 0) -> Message:
        """The first message, from number `after` on, that satisfies `wanted`."""

        def found() -> Message | None:
            return next((each for each in itertools.islice(self.received, after, None) if wanted(each)), None)

        try:
            async with asyncio.timeout(SECONDS), self._changed:
                await self._changed.wait_for(found)
        except TimeoutError:
            seen = [(each["route"].get("operation"), each["route"].get("resource")) for each in self.received[after:]]
            raise AssertionError(f"not seen within {SECONDS:g} s; there were {seen}") from None
        message = found()
        assert message is not None
        return message

    async def pushed(self, operation: str, resource: str, *, after: int = 0) -> Message:
        """The first push with this operation and resource."""
        return await self.saw(
            lambda message: (message["route"]["operation"], message["route"]["resource"]) == (operation, resource), after=after
        )

    async def _read(self, socket: ClientConnection) -> None:
        async for text in socket:
            message = json.loads(text)
            route = message["route"]
            is_push = route.get("group") == "resource" and "parent_msg_id" not in message["header"]
            if is_push and self.acknowledges:
                await self.send(
                    "response", route["resource"], "OK", source=route["source"], group=route["group"], parent=message["header"]["msg_id"]
                )
            async with self._changed:
                self.received.append(message)
                self._changed.notify_all()
