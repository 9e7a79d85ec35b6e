"""The endpoint on loopback: it tells, and does nothing else."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import pytest
from rig.hostruntime import HostRuntime
from rig.streams import Book, NoShelf

from pinnace.core.base.contract.keys import NodeName
from pinnace.core.base.errors import ConfigError
from pinnace.core.base.observe.health import Health
from pinnace.core.stream.api import KubeletApi
from pinnace.core.stream.doors import read_only_door, root_door
from pinnace.core.stream.stats import Stats


def api(folder: Path, health: Health | None = None) -> KubeletApi:
    runtime = HostRuntime(folder)
    runtime.run_pod(runtime.add_pod("web", "n", uid="u"))
    streams: Any = runtime
    book: Any = Book(runtime.pods)
    return KubeletApi(runtime=streams, book=book, shelf=NoShelf(), stats=Stats(NodeName("n"), streams), health=health or Health())


async def ask(port: int, request: str) -> tuple[int, str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request.encode())
    answer = await reader.read()
    writer.close()
    head, _, body = answer.decode().partition("\r\n\r\n")
    return (int(head.split()[1]) if head else 0), body


async def test_it_only_reads(tmp_path: Path) -> None:
    health = Health()
    async with read_only_door(api(tmp_path, health), 0) as port:
        for path, said in (
            ("/healthz", "ok"),
            ("/stats/summary", '"podRef"'),
            ("/metrics", "pinnace_pods 1"),
            ("/metrics/resource", "node_cpu"),
        ):
            status, body = await ask(port, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (status, said in body) == (200, True), path
        health.set("store", "the disk is full")
        assert await ask(port, "GET /healthz HTTP/1.1\r\n\r\n") == (500, "[-]store the disk is full\n")
        closed = ("/exec/default/web/main?command=id&output=1", "/attach/default/web/main", "/portForward/default/web", "/pods", "/node",
                  "/containerLogs/default/web/main", "/run/default/web/main", "/devices", "/")  # fmt: skip
        for path in closed:
            upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n"
            assert (await ask(port, f"GET {path} HTTP/1.1\r\n{upgrade}\r\n"))[0] == 404, path
            assert (await ask(port, f"POST {path} HTTP/1.1\r\n{upgrade}\r\n"))[0] == 405, path
        assert (await ask(port, "nonsense\r\n\r\n"))[0] == 0
        assert (await ask(port, "GET /healthz HTTP/1.1\r\n\r\n"))[0] == 500  # it lives on


async def test_a_busy_port_and_a_taken_socket_are_told(tmp_path: Path) -> None:
    made = api(tmp_path)
    async with read_only_door(made, 0) as port:
        with pytest.raises(ConfigError, match="readOnlyPort"):
            async with read_only_door(made, port):
                pass
    path = tmp_path / "c.sock"
    async with root_door(made, path):
        with pytest.raises(ConfigError, match="another agent"):
            async with root_door(made, path):
                pass
    assert not path.exists()


async def test_a_socket_that_was_left_behind_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "c.sock"
    import socket

    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    async with root_door(api(tmp_path), path):
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(b"GET /pods HTTP/1.1\r\n\r\n")
        assert b'"PodList"' in await reader.read()
        writer.close()


async def test_a_door_closes_on_somebody_who_reads_nothing(tmp_path: Path) -> None:
    asked = api(tmp_path)
    book: Any = asked._book
    book.listed[0].body["metadata"]["annotations"] = {"much": "x" * (8 << 20)}
    path = Path(tempfile.mkdtemp(prefix="pinnace-")) / "s"
    async with asyncio.timeout(30):
        async with root_door(asked, path):
            reader, writer = await asyncio.open_unix_connection(path, limit=1)
            writer.write(b"GET /pods HTTP/1.1\r\n\r\n")
            assert await reader.readexactly(1) == b"H"
    writer.transport.abort()
    path.parent.rmdir()
