"""Probes against real servers on loopback: HTTP of every manner, TLS, TCP, gRPC health."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from grpclib.health.check import ServiceStatus
from grpclib.health.service import Health
from grpclib.server import Server

from pinnace.core.base.pod import Container
from pinnace.core.base.runtime import ExecResult, RuntimeFailed
from pinnace.core.pods.probes.looks import Look, Looks, Target
from pinnace.core.pods.rules.probing import Outcome

CLOSE = b"Content-Length: 0\r\n\r\n"


class NoRuntime:
    async def exec_sync(self, container_id: str, command: Sequence[str], timeout_seconds: float) -> ExecResult:
        raise RuntimeFailed("no runtime here")


@contextlib.asynccontextmanager
async def serving(
    answer: bytes | Callable[[bytes], bytes], context: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server that gives `answer` to each request, and its port; what came is in the list. After b"" it says nothing."""
    requests: list[bytes] = []
    open_now: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        open_now.add(task)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            requests.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(answer if isinstance(answer, bytes) else answer(requests[-1]))
            while await reader.read(65536):
                pass  # stays open until the other side is satisfied
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1], requests
    finally:
        server.close()
        await asyncio.gather(*open_now)


async def look(method: str, action: dict[str, Any], *, timeout: float = 5.0, ports: Sequence[dict[str, Any]] = ()) -> Look:
    target = Target(Container({"name": "c", "ports": list(ports)}, is_init=False), "id", "127.0.0.1")
    return await Looks(NoRuntime()).look(method, action, target, timeout)


@pytest.mark.parametrize(
    ("answer", "outcome", "message"),
    [
        (b"HTTP/1.1 200 OK\r\n" + CLOSE, Outcome.SUCCESS, ""),
        (b"HTTP/1.1 204 No Content\r\n\r\n", Outcome.SUCCESS, ""),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", Outcome.SUCCESS, "ok"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Outcome.SUCCESS, "ok"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\n\r\n", Outcome.SUCCESS, "abc"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 20_000, Outcome.SUCCESS, "x" * 10_240),
        (b"HTTP/1.1 304 Not Modified\r\n\r\n", Outcome.WARNING, "Probe terminated redirects, Response body: "),
        (b"HTTP/1.1 404 Not Found\r\n" + CLOSE, Outcome.FAILURE, "HTTP probe failed with statuscode: 404"),
        (b"HTTP/1.1 500 \r\n" + CLOSE, Outcome.FAILURE, "HTTP probe failed with statuscode: 500"),
    ],
)
async def test_http_answers(answer: bytes, outcome: Outcome, message: str) -> None:
    async with serving(answer) as (port, _):
        assert await look("httpGet", {"port": port, "path": "/healthz"}) == (outcome, message)


@pytest.mark.parametrize("method", ["httpGet", "tcpSocket"])
async def test_what_has_the_machines_network_is_found_though_the_machine_lost_its_address(method: str) -> None:
    """As when the network cable is pulled: nothing that serves here is to be ended for it."""
    target = Target(Container({"name": "c"}, is_init=False), "id", "198.51.100.9", is_host=True)
    async with serving(b"HTTP/1.1 200 OK\r\n" + CLOSE) as (port, _):
        seen = await Looks(NoRuntime()).look(method, {"port": port}, target, 5.0)
    assert seen.outcome is Outcome.SUCCESS
    assert target._replace(pod_ip="127.0.0.1").host == "127.0.0.1"
    assert target._replace(is_host=False).host == "198.51.100.9"


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 2x0 \r\n\r\n", b"\x00" * 70_000, b""])
async def test_what_is_no_http_fails(answer: bytes) -> None:
    async with serving(answer) as (port, _):
        seen = await look("httpGet", {"port": port}, timeout=0.3)
        assert seen.outcome is Outcome.FAILURE
        assert f"http://127.0.0.1:{port}/" in seen.message


async def test_the_request_as_kubernetes_sends_it() -> None:
    headers = [{"name": "Host", "value": "shop.example"}, {"name": "X-Token", "value": "a:b"}]
    async with serving(b"HTTP/1.1 200 OK\r\n" + CLOSE) as (port, requests):
        await look("httpGet", {"port": "web", "path": "a?b=c d", "httpHeaders": headers}, ports=[{"name": "web", "containerPort": port}])
        await look("httpGet", {"port": str(port)})
    lines = requests[0].decode().split("\r\n")
    assert lines[0] == "GET /a?b=c%20d HTTP/1.1"
    assert lines[1:-2] == ["User-Agent: kube-probe/1.32", "Accept: */*", "Host: shop.example", "X-Token: a:b", "Connection: close"]
    assert f"Host: 127.0.0.1:{port}" in requests[1].decode()


async def test_a_line_break_in_a_header_is_not_sent() -> None:
    async with serving(b"HTTP/1.1 200 OK\r\n" + CLOSE) as (port, requests):
        seen = await look("httpGet", {"port": port, "httpHeaders": [{"name": "X", "value": "a\r\nEvil: 1"}]})
    assert seen.outcome is Outcome.FAILURE
    assert "line break" in seen.message
    assert not requests


async def test_redirects() -> None:
    def answer(request: bytes) -> bytes:
        match request.split()[1]:
            case b"/here":
                return b"HTTP/1.1 302 Found\r\nLocation: /there\r\n" + CLOSE
            case b"/there":
                return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
            case b"/away":
                return b"HTTP/1.1 307 Go\r\nLocation: https://example.com/\r\n" + CLOSE
            case _:
                return b"HTTP/1.1 301 Again\r\nLocation: /loop\r\n" + CLOSE

    async with serving(answer) as (port, requests):
        assert await look("httpGet", {"port": port, "path": "/here"}) == (Outcome.SUCCESS, "ok")
        assert (await look("httpGet", {"port": port, "path": "/away"})).outcome is Outcome.WARNING
        assert len(requests) == 3
        seen = await look("httpGet", {"port": port, "path": "/loop"})
        assert (seen.outcome, "10 redirects" in seen.message) == (Outcome.FAILURE, True)


async def test_tls_is_not_verified(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=nobody"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(certificate), "-days", "1"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    async with serving(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", context) as (port, _):
        assert await look("httpGet", {"port": port, "scheme": "HTTPS"}) == (Outcome.SUCCESS, "ok")
        assert (await look("httpGet", {"port": port, "scheme": "HTTP"}, timeout=0.5)).outcome is Outcome.FAILURE


async def test_tcp() -> None:
    async with serving(b"") as (port, _):
        assert await look("tcpSocket", {"port": port}) == (Outcome.SUCCESS, "")
    seen = await look("tcpSocket", {"port": port})
    assert seen.outcome is Outcome.FAILURE
    assert f"dial tcp 127.0.0.1:{port}" in seen.message


@pytest.mark.parametrize("action", [{"port": "nameless"}, {"port": 0}, {"port": 70_000}, {}])
async def test_a_port_that_is_none(action: dict[str, Any]) -> None:
    for method in ("tcpSocket", "httpGet", "grpc"):
        assert (await look(method, action)).outcome is Outcome.UNKNOWN


@contextlib.asynccontextmanager
async def grpc_server(*services: Any) -> AsyncIterator[int]:
    listening = socket.create_server(("127.0.0.1", 0))
    server = Server(list(services))
    await server.start(sock=listening)
    try:
        yield listening.getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


class Shop:
    def __mapping__(self) -> dict[str, Any]:
        return {"/shop.Shop/Buy": None}


async def test_grpc_health() -> None:
    status = ServiceStatus()
    status.set(True)
    async with grpc_server(Health({Shop(): [status]})) as port:
        assert await look("grpc", {"port": port}) == (Outcome.SUCCESS, "service healthy")
        assert await look("grpc", {"port": port, "service": "shop.Shop"}) == (Outcome.SUCCESS, "service healthy")
        status.set(False)
        seen = await look("grpc", {"port": port, "service": "shop.Shop"})
        assert seen == (Outcome.FAILURE, 'service unhealthy (responded with "NOT_SERVING")')
        seen = await look("grpc", {"port": port, "service": "unknown." + "x" * 200})
        assert seen.outcome is Outcome.FAILURE
        assert "rpc failed with code 5" in seen.message


async def test_grpc_without_a_health_service() -> None:
    async with grpc_server() as port:
        seen = await look("grpc", {"port": port})
        assert (seen.outcome, "does not implement" in seen.message) == (Outcome.FAILURE, True)


async def test_grpc_to_what_is_no_grpc() -> None:
    async with serving(b"HTTP/1.1 400 Bad Request\r\n" + CLOSE) as (port, _):
        assert (await look("grpc", {"port": port}, timeout=0.5)).outcome is Outcome.FAILURE
    seen = await look("grpc", {"port": port})
    assert (seen.outcome, "failed to connect" in seen.message) == (Outcome.FAILURE, True)
    async with serving(b"") as (port, _):
        seen = await look("grpc", {"port": port}, timeout=0.2)
        assert (seen.outcome, "timeout" in seen.message) == (Outcome.FAILURE, True)
