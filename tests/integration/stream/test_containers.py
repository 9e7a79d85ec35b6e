"""kubectl against real containers, on each runtime: the whole way from a terminal to a process in a container."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import secrets
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from contract.runtime.installations import EVERY, INSTALLATIONS, Installation
from contract.runtime.pods import TestPod, remove_cgroups
from rig.streams import Way, way

pytestmark = [pytest.mark.containers, pytest.mark.root, pytest.mark.kubectl, pytest.mark.xdist_group("runtime")]


class World(NamedTuple):
    way: Way
    pod: TestPod
    name: str


@pytest.fixture(scope="module", params=EVERY)
def installation(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    name = str(request.param)
    if os.geteuid() != 0 or shutil.which("containerd" if name == "cri" else "crun") is None:
        pytest.skip("needs root and a runtime")
    with INSTALLATIONS[name](tmp_path_factory.mktemp(name)) as made:
        yield made


@pytest.fixture
async def world(installation: Installation, tmp_path: Path) -> AsyncIterator[World]:
    """A pod with one container `main` that says something and then sleeps."""
    runtime = installation.adapter()
    await runtime.start()
    running = asyncio.create_task(runtime.run())
    cgroup = f"/pinnace-test-{secrets.token_hex(4)}"
    pod = TestPod(runtime, tmp_path, cgroup)
    try:
        async with way(tmp_path, runtime) as made:
            await made.web(pod, "echo hello; exec sleep 1000")
            yield World(made, pod, installation.name)
    finally:
        await pod.remove()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await runtime.close()
        remove_cgroups(cgroup)


async def test_logs_and_commands(world: World, tmp_path: Path) -> None:
    kubectl = world.way.kubectl
    process = await world.way.start("logs", "-f", "web")
    assert process.stdout is not None
    async with asyncio.timeout(30):
        assert await process.stdout.readline() == b"hello\n"
    process.kill()
    await process.wait()
    assert await kubectl("logs", "web", "--tail=1") == (0, "hello\n", "")
    assert await kubectl("exec", "web", "--", "sh", "-c", "cat /data/kept; echo err >&2; exit 7") == (
        7,
        "of the image\n",
        "err\ncommand terminated with exit code 7\n",
    )
    (tmp_path / "here").write_bytes(os.urandom(1_000_000))
    code, _, said = await kubectl("cp", str(tmp_path / "here"), "web:/there")
    assert code == 0, said
    code, _, said = await kubectl("cp", "web:/there", str(tmp_path / "back"))
    assert code == 0, said
    assert (tmp_path / "back").read_bytes() == (tmp_path / "here").read_bytes()


async def test_the_log_of_a_container_that_was_collected(world: World) -> None:
    for each in await world.pod.runtime.containers(world.pod.uid):
        await world.pod.runtime.remove_container(each.id)
    code, _, said = await world.way.kubectl("logs", "web")
    assert code, "there is nothing left to read"
    assert "waiting to start" in said
    folder = world.way.folder / f"logs/default_web_{world.pod.uid}/main"
    folder.mkdir(parents=True)
    for attempt, text in ((9, "before"), (10, "last words")):
        (folder / f"{attempt}.log").write_text(f"2027-01-15T08:00:00.000000000Z stdout F {text}\n")
    assert await world.way.kubectl("logs", "web") == (0, "last words\n", "")
    assert await world.way.kubectl("logs", "web", "--previous") == (0, "before\n", "")


async def test_a_terminal(world: World) -> None:
    outer, inner = pty.openpty()
    config = ("--kubeconfig", str(world.way.folder / "admin.kubeconfig"))
    process = await asyncio.create_subprocess_exec(
        "kubectl", *config, "exec", "-it", "web", "--", "sh", stdin=inner, stdout=inner, stderr=inner, start_new_session=True
    )
    os.close(inner)
    said = b""
    try:
        async with asyncio.timeout(60):
            while b"#" not in said:
                said += await asyncio.to_thread(os.read, outer, 1024)
            os.write(outer, b"tty && echo yes-$((40+2)); exit 3\r")
            while b"yes-42" not in said:
                said += await asyncio.to_thread(os.read, outer, 1024)
            assert await process.wait() == 3
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        os.close(outer)
    assert b"/dev/pts/" in said


async def test_ports_and_usage(world: World) -> None:
    """The pod is on the host's network, so what listens here listens there."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"got %d" % len(await reader.readuntil(b"\n")))  # containerd passes on no end of one direction
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        process = await world.way.start("port-forward", "pod/web", f":{server.sockets[0].getsockname()[1]}")
        assert process.stdout is not None
        try:
            async with asyncio.timeout(60):
                local = int((await process.stdout.readline()).decode().split(":")[1].split()[0])
                reader, writer = await asyncio.open_connection("127.0.0.1", local)
                writer.write(b"x" * 50_000 + b"\n")
                said = await reader.read()
                writer.close()
                assert said == b"got 50001"
        finally:
            process.kill()
            await process.wait()
    code, told, error = await world.way.kubectl("top", "pod", "--containers")
    assert code == 0, error
    assert told.splitlines()[1].split()[:2] == ["web", "main"]
