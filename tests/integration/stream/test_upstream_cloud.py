"""Our edge with KubeEdge's cloud: frames as that one sends them, over TLS, answered as that one expects (docs/protocol.md, Tunnel)."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from rig.hostruntime import HostRuntime
from rig.streams import Book, NoShelf
from websockets.asyncio.server import ServerConnection, serve

from pinnace.cloud.hub.pki import Authority, key_pem, pem
from pinnace.core.base.contract.keys import NodeName
from pinnace.core.base.observe.health import Health
from pinnace.core.base.tunnel import frames
from pinnace.core.base.tunnel.spdy import Spdy
from pinnace.core.stream.api import KubeletApi
from pinnace.core.stream.settings import EdgeStreamSettings
from pinnace.core.stream.stats import Stats
from pinnace.core.stream.tunnel import EdgeTunnel

LOGS = (
    b'\x01\x00{"MessID":1,"url":{"Scheme":"http","Opaque":"","User":null,"Host":"127.0.0.1:10350","Path":"/containerLogs/default/web/main",'
    b'"RawPath":"","OmitHost":false,"ForceQuery":false,"RawQuery":"tailLines=1","Fragment":"","RawFragment":""},'
    b'"header":{"Accept-Encoding":["gzip"],"User-Agent":["Go-http-client/1.1"]}}'
)


class Cloud(NamedTuple):
    """The far end of the tunnel, in the test's hands."""

    socket: ServerConnection
    runtime: HostRuntime
    connections: asyncio.Queue[ServerConnection]

    async def send(self, message: bytes) -> None:
        await self.socket.send(message, text=True)

    async def until_removed(self, channel: int) -> bytes:
        """The channel's data up to its end."""
        data = b""
        async with asyncio.timeout(30):
            while True:
                message: Any = await self.socket.recv(decode=False)
                frame = frames.decode(message)
                assert frame.kind in (frames.DATA, frames.REMOVE)  # it knows no others
                if frame.channel == channel and frame.kind == frames.REMOVE:
                    return data
                data += frame.data if frame.channel == channel else b""


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[Cloud]:
    authority = Authority.new(datetime.datetime.now(datetime.UTC))
    pair = authority.issue_server(["127.0.0.1"], datetime.datetime.now(datetime.UTC))
    (tmp_path / "pair").write_bytes(pem(pair.certificate) + key_pem(pair.key))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "pair")
    client = ssl.create_default_context(cadata=pem(authority.pair.certificate).decode())

    async def certificate() -> ssl.SSLContext:
        return client

    runtime = HostRuntime(tmp_path / "logs")
    runtime.run_pod(runtime.add_pod("web", "n1", uid="u1"))
    streams: Any = runtime
    book: Any = Book(runtime.pods)
    api = KubeletApi(runtime=streams, book=book, shelf=NoShelf(), stats=Stats(NodeName("n1"), streams), health=Health())
    connections: asyncio.Queue[ServerConnection] = asyncio.Queue()

    async def connected(socket: ServerConnection) -> None:
        await connections.put(socket)
        await socket.wait_closed()

    async with serve(connected, "127.0.0.1", 0, ssl=server, compression=None) as listening:
        port = listening.sockets[0].getsockname()[1]
        settings = EdgeStreamSettings(server=f"127.0.0.1:{port}")
        tunnel = EdgeTunnel(settings, NodeName("n1"), hub_host="", api=api, certificate=certificate, address=lambda: "192.0.2.7")
        running = asyncio.create_task(tunnel.run())
        try:
            async with asyncio.timeout(30):
                socket = await connections.get()
            yield Cloud(socket, runtime, connections)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_it_says_who_it_is(cloud: Cloud) -> None:
    request = cloud.socket.request
    assert request is not None
    assert request.path == "/v1/kubeedge/connect"
    assert (request.headers["Sessionhostnameoverride"], request.headers["Sessioninternalip"]) == ("n1", "192.0.2.7")


async def test_logs_come_as_bodies_alone(cloud: Cloud) -> None:
    cloud.runtime.log("web", "main", "one", "two")
    await cloud.send(LOGS)
    assert await cloud.until_removed(1) == b"two\n"


async def test_an_error_comes_as_its_text(cloud: Cloud) -> None:
    await cloud.send(LOGS.replace(b"/web/", b"/nobody/"))
    assert await cloud.until_removed(1) == b'pod "nobody" does not exist\n'


async def test_a_command_carries_the_whole_exchange(cloud: Cloud) -> None:
    """The cloud's socket is hijacked: kubelet's 101 is what it must read first. v4 over WebSocket, client frames masked."""
    headers = {
        "Connection": ["Upgrade"], "Upgrade": ["websocket"], "Sec-Websocket-Version": ["13"],
        "Sec-Websocket-Key": ["dGhlIHNhbXBsZSBub25jZQ=="], "Sec-Websocket-Protocol": ["v4.channel.k8s.io"],
    }  # fmt: skip
    url = {"Scheme": "http", "Host": "x", "Path": "/exec/default/web/main", "RawQuery": "command=echo&command=hi&output=1&error=1"}
    await cloud.send(b"\xac\x02\x01" + json.dumps({"MessID": 300, "url": url, "header": headers, "method": "GET"}).encode())
    data = await cloud.until_removed(300)
    head, _, rest = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head  # RFC 6455, 1.3
    assert b"v4.channel.k8s.io" in head
    assert b"\x82\x04\x01hi\n" in rest
    assert b'\x03{"metadata":{},"status":"Success"}' in rest


async def test_one_mebibyte_in_a_frame(cloud: Cloud) -> None:
    headers = {"Connection": ["Upgrade"], "Upgrade": ["SPDY/3.1"], "X-Stream-Protocol-Version": ["portforward.k8s.io"]}
    received = 0

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        while data := await reader.read(65536):
            received += len(data)
        writer.close()

    async with await asyncio.start_server(take, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        await cloud.send(frames.encode_opening(7, frames.EXEC, frames.Opening("POST", "/portForward/default/web", "", tuple(
            (name, value) for name, values in headers.items() for value in values
        ))))  # fmt: skip
        ours = Spdy(is_client=True)
        _, number = (ours.open({"streamtype": kind, "port": str(port), "requestid": "0"}) for kind in ("error", "data"))
        opening = ours.data_to_send()
        ours.send(number, bytes((1 << 20) - len(opening) - 16 - 8), is_last=True)
        whole = opening + ours.data_to_send()
        assert len(whole) <= 1 << 20
        await cloud.send(frames.encode(7, frames.DATA, whole + bytes(0)))
        async with asyncio.timeout(30):
            while received < (1 << 20) - len(opening) - 24:
                await asyncio.sleep(0.01)
        await cloud.send(frames.encode(7, frames.REMOVE))
        await cloud.until_removed(7)


async def test_a_close_makes_it_dial_again(cloud: Cloud) -> None:
    await cloud.send(b"\x00\x05failed to Update KubeletEndpoint Port")
    async with asyncio.timeout(30):
        await cloud.connections.get()


async def test_what_cannot_be_read_is_passed_over(cloud: Cloud) -> None:
    for message in (b"", b"\xff", b"\x01\x00not json", b"\x01\x09", b"\x02\x00{}", b"\xff" * 20):
        await cloud.send(message)
    cloud.runtime.log("web", "main", "still here")
    with contextlib.suppress(ValueError):
        await cloud.send(LOGS)
    assert await cloud.until_removed(1) == b"still here\n"
