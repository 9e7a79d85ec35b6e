"""Debian's kubectl 1.20, which knows no WebSocket: logs as ever, and its SPDY goes the whole way too."""

from __future__ import annotations

import asyncio
import importlib.util
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from rig.hostruntime import HostRuntime
from rig.streams import NODE, Way, way
from rig.waiting import until

from pinnace.core.base.aio import children
from pinnace.core.stream import remote

pytestmark = pytest.mark.kubectl


def program() -> Path:
    spec = importlib.util.spec_from_file_location("kubectl_finder", Path(__file__).parents[1] / "kubectl.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Path | None = module.debian()
    if found is None:
        pytest.skip("Debian's kubectl is not here: name it in PINNACE_KUBECTL_120")
    return found


class World(NamedTuple):
    way: Way
    runtime: HostRuntime
    program: str


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    old = str(program())
    runtime = HostRuntime(tmp_path / "logs")
    streams: Any = runtime
    async with way(tmp_path, streams) as made:
        runtime.run_pod(await made.add(runtime.add_pod("web", NODE)))
        yield World(made, runtime, old)


async def test_logs(world: World) -> None:
    world.runtime.log("web", "main", "one", "two")
    assert await world.way.kubectl("logs", "web", "--tail=1", program=world.program) == (0, "two\n", "")


async def test_exec(world: World) -> None:
    code, said, error = await world.way.kubectl("exec", "web", "--", "sh", "-c", "echo out; echo err >&2; exit 7", program=world.program)
    assert (code, said, error) == (7, "out\n", "err\ncommand terminated with exit code 7\n")
    answer = await world.way.kubectl("exec", "-i", "web", "--", "wc", "-c", stdin=b"x" * 3_000_000, program=world.program)
    assert answer == (0, "3000000\n", "")


async def test_a_command_that_reads_its_input_late_gets_it_all(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "STUCK_SECONDS", 0.1)
    command = ("exec", "-i", "web", "--", "sh", "-c", "sleep 1; wc -c; exit 7")
    code, said, error = await world.way.kubectl(*command, stdin=b"x" * 3_000_000, program=world.program)
    assert (code, said) == (7, "3000000\n"), error


async def test_a_command_that_reads_no_input_ends_with_its_caller(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "STUCK_SECONDS", 0.1)

    def place() -> int:
        return os.lseek(zeros.fileno(), 0, os.SEEK_CUR)

    with (tmp_path / "zeros").open("w+b") as zeros:
        zeros.truncate(1 << 30)
        caller = await world.way.start("exec", "-i", "web", "--", "sleep", "666", stdin=zeros.fileno(), program=world.program)
        try:
            await until(lambda: world.runtime.open_streams)
            async with asyncio.timeout(60):
                seen = -1
                while not 0 < seen == place():  # until nobody takes any more
                    seen = place()
                    await asyncio.sleep(0.5)
        finally:
            await children.kill(caller)
    await until(lambda: not world.runtime.open_streams)


async def test_port_forward(world: World) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"got %d" % len(await reader.read()))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        process = await world.way.start("port-forward", "pod/web", f":{port}", program=world.program)
        assert process.stdout is not None
        try:
            async with asyncio.timeout(30):
                local = int((await process.stdout.readline()).decode().split(":")[1].split()[0])
                reader, writer = await asyncio.open_connection("127.0.0.1", local)
                writer.write(b"x" * 1_000_000)
                writer.write_eof()
                assert await reader.read() == b"got 1000000"
                writer.close()
        finally:
            process.kill()
            await process.wait()
