"""What the hub does not let in or lets out again: one log line each, the process lives, other nodes notice nothing."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from rig.hub import Cloud, Edge, EdgeMaker
from rig.processes import free_port
from rig.waiting import until
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from pinnace.cloud.hub import pki
from pinnace.cloud.hub.pki import Authority
from pinnace.core.base.contract.keys import NodeName
from pinnace.core.hub import openssl
from pinnace.ext import frame
from pinnace.ext.records import Envelope


class Stranger:
    """A client that speaks as badly as the test wants."""

    def __init__(self, cloud: Cloud, folder: Path) -> None:
        self.cloud = cloud
        self.folder = folder

    async def certificate(self, node: str, authority: Authority | None = None) -> ssl.SSLContext:
        """TLS with a certificate of that node, by the cloud's authority or another."""
        key, request = await openssl.key_and_request(NodeName(node))
        now = datetime.datetime.now(datetime.UTC)
        der = (authority or self.cloud.vault.authority).sign_node(request, node, now, datetime.timedelta(days=1))
        (self.folder / "crt").write_bytes(pki.pem(der))
        (self.folder / "key").write_bytes(key)
        context = self.context()
        context.load_cert_chain(self.folder / "crt", self.folder / "key")
        return context

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=pki.pem(self.cloud.vault.authority.pair.certificate).decode())
        return context

    async def connect(self, context: ssl.SSLContext, **headers: str) -> ClientConnection:
        return await connect(
            f"wss://127.0.0.1:{self.cloud.hub_port}/p/n/events",
            ssl=context,
            additional_headers=headers,
            compression=None,
            max_size=None,
            proxy=None,
            ping_interval=None,
            close_timeout=1,
        )


def headers(node: str, *, wire: str = "") -> dict[str, str]:
    found = {"Node_id": node, "Project_id": "p", "ConnectionUse": "msg"}
    return {**found, "Pinnace-Wire": wire} if wire else found


@pytest.fixture
def stranger(cloud: Cloud, tmp_path: Path) -> Stranger:
    return Stranger(cloud, tmp_path)


@pytest.fixture
async def neighbour(cloud: Cloud, make_edge: EdgeMaker) -> AsyncIterator[Edge]:
    """A node that must not notice anything: at the end it still has the connection it had, and gets messages."""
    edge = make_edge("neighbour")
    edge.start()
    await until(lambda: edge.link.connected)
    yield edge
    cloud.push("neighbour", "proof", 7)
    await until(lambda: ("default/configmap/proof", 7) in edge.stored)
    assert cloud.events.count(("neighbour", True)) == 1


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname != "INFO" and record.name.startswith("pinnace.cloud")]


async def test_a_node_id_that_is_not_the_certificates(stranger: Stranger, neighbour: Edge, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InvalidStatus) as caught:
        await stranger.connect(await stranger.certificate("edge-1"), **headers("neighbour"))
    assert caught.value.response.status_code == 403
    (line,) = warnings(caplog)
    assert "hub.refused node='neighbour'" in line
    assert "CN=system:node:edge-1" in line


@pytest.mark.parametrize("node", ["", "UPPER", "../etc", "a\tb"])
async def test_a_node_id_that_is_no_name(stranger: Stranger, caplog: pytest.LogCaptureFixture, node: str) -> None:
    with pytest.raises(InvalidHandshake):
        await stranger.connect(await stranger.certificate("edge-1"), **headers(node))
    await until(lambda: warnings(caplog))
    (line,) = warnings(caplog)
    assert "hub.refused" in line
    assert "missing or no node name" in line


async def test_a_connection_that_is_not_for_messages(stranger: Stranger, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InvalidStatus) as caught:
        await stranger.connect(await stranger.certificate("edge-1"), Node_id="edge-1", ConnectionUse="str")
    assert caught.value.response.status_code == 400
    assert len(warnings(caplog)) == 1


async def test_a_certificate_of_another_authority(stranger: Stranger, neighbour: Edge, caplog: pytest.LogCaptureFixture) -> None:
    other = Authority.new(datetime.datetime.now(datetime.UTC))
    with pytest.raises((OSError, EOFError, InvalidHandshake)):
        await stranger.connect(await stranger.certificate("edge-1", other), **headers("edge-1"))
    await until(lambda: warnings(caplog))
    (line,) = warnings(caplog)
    assert "hub.tls_refused" in line
    assert "client certificate refused" in line


async def test_no_certificate(stranger: Stranger, neighbour: Edge, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises((OSError, EOFError, InvalidHandshake)):
        await stranger.connect(stranger.context(), **headers("edge-1"))
    await until(lambda: warnings(caplog))
    (line,) = warnings(caplog)
    assert "no client certificate was presented" in line


async def test_no_tls(cloud: Cloud, neighbour: Edge, caplog: pytest.LogCaptureFixture) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", cloud.hub_port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    with pytest.raises((OSError, asyncio.IncompleteReadError)):
        await reader.readexactly(1000)
    writer.close()
    await until(lambda: warnings(caplog))
    (line,) = warnings(caplog)
    assert "hub.tls_refused" in line


@pytest.mark.parametrize(
    ("wire", "message"),
    [
        ("", "{"),
        ("", '{"header":{"msg_id":7}}'),
        ("", b"\xff\xfe"),
        ("", "[]"),
        ("1", "{"),
        ("1", b"\x01\x01\x01\x00\x01\x00\x00\x00\x00\x05\xff\xff\xff\xff\xff"),
        ("1", b"\x01\x01\x01\x00\x01\x00\xff\xff\xff\xff"),
    ],
)
async def test_a_malformed_message(
    stranger: Stranger, neighbour: Edge, caplog: pytest.LogCaptureFixture, wire: str, message: str | bytes
) -> None:
    connection = await stranger.connect(await stranger.certificate("edge-1"), **headers("edge-1", wire=wire))
    await connection.send(message)
    with pytest.raises(ConnectionClosed) as caught:
        await connection.recv()
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1002
    (line,) = warnings(caplog)
    assert "hub.session.ended node=edge-1" in line
    assert "protocol violation" in line


async def test_an_oversize_message(stranger: Stranger, neighbour: Edge, caplog: pytest.LogCaptureFixture) -> None:
    connection = await stranger.connect(await stranger.certificate("edge-1"), **headers("edge-1"))
    sending = asyncio.create_task(connection.send("x" * ((32 << 20) + 1)))
    with pytest.raises(ConnectionClosed) as caught:
        await connection.recv()
    await asyncio.gather(sending, return_exceptions=True)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1009
    await until(lambda: warnings(caplog))
    (line,) = warnings(caplog)
    assert "hub.session.ended node=edge-1" in line


async def test_a_node_too_many(cloud: Cloud, make_edge: EdgeMaker, neighbour: Edge, caplog: pytest.LogCaptureFixture) -> None:
    cloud.hub._node_limit = 1
    edge = make_edge("one-too-many")
    edge.start()
    await until(lambda: edge.health.problem("cloud"))
    assert "503 nodeLimit" in edge.health.problem("cloud")
    assert len(warnings(caplog)) == 1


async def test_messages_under_a_cloud_modules_name_are_dropped(cloud: Cloud, stranger: Stranger) -> None:
    connection = await stranger.connect(await stranger.certificate("edge-1"), **headers("edge-1", wire="1"))
    sources = ["edgecontroller", "devicecontroller", "cloudhub", "edged"]
    messages = [Envelope(msg_id=str(n), source=s, operation="query", resource="null/node/x") for n, s in enumerate(sources)]
    await connection.send(frame.pack(messages))
    await until(lambda: cloud.received)
    assert [message.source for _, message in cloud.received] == ["edged"]
    await connection.close()


async def test_the_edge_says_so_when_its_certificate_is_refused(cloud: Cloud, make_edge: EdgeMaker, stranger: Stranger) -> None:
    """Its CA file is the cloud's, its certificate another authority's: as after the cloud's CA was made anew. The hub here sends the
    alert that Go's TLS sends and asyncio's does not."""
    edge = make_edge()
    edge.start()
    await until(lambda: edge.link.connected)
    await edge.stop()
    await stranger.certificate("edge-1", Authority.new(datetime.datetime.now(datetime.UTC)))
    edge.settings.tls_cert_file.write_bytes((stranger.folder / "crt").read_bytes())
    edge.settings.tls_private_key_file.write_bytes((stranger.folder / "key").read_bytes())
    again = make_edge(token="")
    again.start()
    await until(lambda: again.health.problem("cloud"))
    assert "closed the connection before it answered; its log says why" in again.health.problem("cloud")
    await again.stop()

    port = free_port()
    server = cloud.vault.server
    (stranger.folder / "server.pem").write_bytes(pki.pem(server.certificate) + pki.key_pem(server.key))
    (stranger.folder / "ca.pem").write_bytes(pki.pem(cloud.vault.authority.pair.certificate))
    hub = await asyncio.create_subprocess_exec(
        "openssl", "s_server", "-quiet", "-accept", f"127.0.0.1:{port}", "-cert", str(stranger.folder / "server.pem"),
        "-CAfile", str(stranger.folder / "ca.pem"), "-Verify", "1", "-verify_return_error",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        told = make_edge(token="", hub_port=port)
        told.start()
        await until(lambda: "refused this node's certificate" in told.health.problem("cloud"))
    finally:
        hub.kill()
        await hub.wait()
