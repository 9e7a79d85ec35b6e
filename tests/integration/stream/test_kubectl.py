"""kubectl against a node: every command that goes through the tunnel, with nothing configured."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest
from rig.hostruntime import HostRuntime
from rig.streams import NODE, Way, way
from rig.waiting import until

from pinnace.core.base.pod import Pod

pytestmark = pytest.mark.kubectl


class World(NamedTuple):
    way: Way
    runtime: HostRuntime
    pod: Pod


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    runtime = HostRuntime(tmp_path / "logs")
    async with way(tmp_path, runtime) as made:  # type: ignore[arg-type]  # as much of a runtime as is needed
        body = await made.add(runtime.add_pod("web", NODE, "main", "side", labels={"app": "web"}))
        runtime.run_pod(body)
        yield World(made, runtime, runtime.pods[-1])


async def test_logs(world: World) -> None:
    world.runtime.log("web", "main", "one", "two", "three")
    assert await world.way.kubectl("logs", "web", "-c", "main") == (0, "one\ntwo\nthree\n", "")
    assert await world.way.kubectl("logs", "web", "-c", "main", "--tail=1") == (0, "three\n", "")
    assert await world.way.kubectl("logs", "web", "-c", "main", "--tail=1", "--timestamps") == (
        0,
        "2024-01-31T12:00:00.500000000Z three\n",
        "",
    )
    assert await world.way.kubectl("logs", "web", "-c", "main", "--limit-bytes=5") == (0, "one\nt", "")
    assert await world.way.kubectl("logs", "web", "-c", "main", "--since=1h") == (0, "", "")
    assert await world.way.kubectl("logs", "web", "-c", "main", "--since-time=2024-01-31T12:00:00Z", "--tail=1") == (0, "three\n", "")
    code, _, said = await world.way.kubectl("logs", "web", "-c", "other")
    assert code == 1
    assert "container other is not valid for pod web" in said
    code, _, said = await world.way.kubectl("logs", "web", "-c", "side", "--previous")
    assert code == 1
    assert 'previous terminated container "side" in pod "web" not found' in said
    world.runtime.run_container(world.pod, "main", attempt=1)
    world.runtime.log("web", "main", "again", attempt=1)
    assert await world.way.kubectl("logs", "web", "-c", "main") == (0, "again\n", "")
    assert await world.way.kubectl("logs", "web", "-c", "main", "-p", "--tail=1") == (0, "three\n", "")


async def test_logs_are_followed_until_the_container_ends(world: World) -> None:
    world.runtime.log("web", "main", "first")
    process = await world.way.start("logs", "-f", "web", "-c", "main")
    assert process.stdout is not None
    async with asyncio.timeout(30):
        assert await process.stdout.readline() == b"first\n"
        path = world.runtime.log("web", "main", "second")
        assert await process.stdout.readline() == b"second\n"
        path.rename(path.with_name("0.log.20240131-120000"))
        path.touch()
        world.runtime.log("web", "main", "third")
        assert await process.stdout.readline() == b"third\n"
        world.runtime.log("web", "main", "last")
        world.runtime.end_container(f"{world.pod.uid}-main-0")
        assert await process.stdout.readline() == b"last\n"
        assert await process.wait() == 0


async def test_exec(world: World) -> None:
    kubectl = world.way.kubectl
    assert await kubectl("exec", "web", "-c", "main", "--", "sh", "-c", "echo out; echo err >&2; exit 7") == (
        7,
        "out\n",
        "err\ncommand terminated with exit code 7\n",
    )
    assert await kubectl("exec", "-i", "web", "-c", "main", "--", "wc", "-c", stdin=b"x" * 3_000_000) == (0, "3000000\n", "")
    code, _, said = await kubectl("exec", "web", "-c", "main", "--", "/no/such/program")
    assert code == 1
    assert "No such file or directory" in said
    await until(lambda: not world.runtime.open_streams, "the end of every stream")


async def test_attach(world: World) -> None:
    code, said, _ = await world.way.kubectl("attach", "-i", "web", "-c", "main", stdin=b"echoed\n")
    assert (code, said) == (0, "echoed\n")


async def test_files_are_copied(world: World, tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000
    (tmp_path / "here").write_bytes(data)
    there = tmp_path / "pod" / "there"
    there.parent.mkdir()
    code, _, said = await world.way.kubectl("cp", str(tmp_path / "here"), f"web:{there}", "-c", "main")
    assert (code, said) == (0, "")
    assert there.read_bytes() == data
    code, _, said = await world.way.kubectl("cp", f"web:{there}", str(tmp_path / "back"), "-c", "main")
    assert code == 0, said
    assert (tmp_path / "back").read_bytes() == data


async def test_ports_are_forwarded(world: World) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.read()
        writer.write(data if data.startswith(b"big") else b"got %d" % len(data))
        writer.close()

    async def asked(port: int, data: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(data)
        writer.write_eof()
        said = await reader.read()
        writer.close()
        return said

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        process = await world.way.start("port-forward", "pod/web", f":{port}", "-v=6")
        assert process.stdout is not None
        try:
            async with asyncio.timeout(30):
                line = (await process.stdout.readline()).decode()
                assert line.startswith("Forwarding from 127.0.0.1:"), line + (await process.stderr.read()).decode()  # type: ignore[union-attr]
                local = int(line.split(":")[1].split()[0])
                for size in (1, 1_000_000):
                    assert await asked(local, b"x" * size) == b"got %d" % size
                big = b"big" + bytes(3_000_000)
                assert await asyncio.gather(*[asked(local, big) for _ in range(4)]) == [big] * 4
        finally:
            process.kill()
            _, said = await process.communicate()
    assert b"fallback" not in said  # whoever speaks WebSocket has it


async def test_top(world: World) -> None:
    code, said, error = await world.way.kubectl("top", "pod", "--containers", "-l", "app=web")
    assert code == 0, error
    assert [line.split() for line in said.splitlines()[1:]] == [["web", "main", "500m", "20Mi"], ["web", "side", "500m", "20Mi"]]
    status = {"status": {"capacity": {"cpu": "4", "memory": "8Gi"}, "allocatable": {"cpu": "4", "memory": "8Gi"}}}
    await world.way.kube.merge(f"/api/v1/nodes/{NODE}/status", status)
    code, said, error = await world.way.kubectl("top", "node")
    assert code == 0, error
    assert said.splitlines()[1].split()[0] == NODE
