"""The tunnel under strain: slow readers, a cut line, big frames, many channels, and peers that are KubeEdge's."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from rig.hostruntime import HostRuntime
from rig.streams import NODE, Way, way
from rig.waiting import until
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidMessage, InvalidStatus

from pinnace.core.base.aio import children
from pinnace.core.base.tunnel import frames
from pinnace.core.base.tunnel.heads import head_of
from pinnace.core.base.tunnel.mux import Channel, Tunnel
from pinnace.core.stream.api import TUNNEL
from pinnace.core.stream.http import Exchange

pytestmark = pytest.mark.kubectl

BIG = 24 << 20
KEPT = 3 << 20
"""More than all that the way keeps of one stream: the channel's window (256 KiB); on each of the two connections behind it what waits to be
sent (128 KiB with us and as much in the kernel), what TLS holds (256 KiB), what has arrived unread (256 KiB in the kernel, 128 KiB with
us); kubectl's own pipes. The kernel's queue for kubectl alone is not ours to bound, and counted apart."""


class World(NamedTuple):
    way: Way
    runtime: HostRuntime


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    runtime = HostRuntime(tmp_path / "logs")
    streams: Any = runtime
    async with way(tmp_path, streams) as made:
        runtime.run_pod(await made.add(runtime.add_pod("web", NODE)))
        yield World(made, runtime)


async def settled(count: Callable[[], int]) -> int:
    """The count once it does not change any more."""
    async with asyncio.timeout(30):
        seen = -1
        while seen != (seen := count()):
            await asyncio.sleep(0.5)
    return seen


def unread(url: str) -> int:
    """Bytes that the kernel keeps for those connected to a server on this machine (proc(5), /proc/net/tcp)."""
    server = f":{int(url.rpartition(':')[2]):04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(int(line[4].partition(":")[2], 16) for line in lines if line[2].endswith(server))


async def test_a_reader_that_stops_slows_its_own_writer_and_nobody_else(world: World) -> None:
    slow = await world.way.start("exec", "web", "--", "head", "-c", str(BIG), "/dev/zero")
    assert slow.stdout is not None
    try:
        before = world.way.line.up
        await until(lambda: world.way.line.up > before + (256 << 10))  # it has begun, and nobody reads it
        world.runtime.log("web", "main", "quick")
        assert await world.way.kubectl("logs", "web") == (0, "quick\n", "")
        assert await settled(lambda: world.way.line.up) - before - unread(world.way.kube.url) < KEPT
        async with asyncio.timeout(60):
            size = 0
            while data := await slow.stdout.read(1 << 20):
                size += len(data)
            assert await slow.wait() == 0
        assert size == BIG
    finally:
        with contextlib.suppress(ProcessLookupError):
            slow.kill()


async def test_everything_ends_though_a_reader_stopped(tmp_path: Path) -> None:
    runtime: Any = HostRuntime(tmp_path / "logs")
    async with asyncio.timeout(60):
        async with way(tmp_path, runtime) as made:
            runtime.run_pod(await made.add(runtime.add_pod("web", NODE)))
            slow = await made.start("exec", "web", "--", "head", "-c", str(BIG), "/dev/zero")
            await until(lambda: runtime.open_streams)
            await settled(lambda: made.line.up)
        await children.kill(slow)


@pytest.mark.parametrize("command", [("port-forward", "pod/gone", ":80"), ("exec", "gone", "--", "ls"), ("logs", "gone")])
async def test_a_node_that_is_away_is_said_to_be_away(world: World, command: tuple[str, ...]) -> None:
    await world.way.kube.ask("POST", "/api/v1/nodes", {"metadata": {"name": "away"}})
    found = await world.way.kube.get(f"/api/v1/nodes/{NODE}")
    await world.way.kube.merge("/api/v1/nodes/away/status", {"status": found["status"]})
    await world.way.add(world.runtime.add_pod("gone", "away", "main"))
    code, _, said = await world.way.kubectl(*command)
    assert code == 1
    assert "node away has no tunnel to this cloudcore" in said


async def test_a_cut_line_ends_what_ran_and_the_next_command_works(world: World) -> None:
    process = await world.way.start("exec", "-i", "web", "--", "cat", stdin=asyncio.subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"there\n")
    async with asyncio.timeout(30):
        assert await process.stdout.readline() == b"there\n"
        await world.way.line.cut()
        assert await process.wait() != 0
    await until(lambda: not world.runtime.open_streams)  # nothing is left behind on the node
    async with asyncio.timeout(30):
        code, said, error = 1, "", "has no tunnel"
        while code and "has no tunnel" in error:  # until it has dialled again
            code, said, error = await world.way.kubectl("exec", "web", "--", "echo", "again")
    assert (code, said) == (0, "again\n"), error


async def test_a_command_whose_caller_leaves_is_ended(world: World) -> None:
    process = await world.way.start("exec", "web", "--", "sleep", "1000")
    await until(lambda: world.runtime.open_streams)
    process.kill()
    await process.wait()
    await until(lambda: not world.runtime.open_streams)


async def test_a_hundred_logs_are_followed_at_once(world: World) -> None:
    world.runtime.log("web", "main", "first")
    path = "/api/v1/namespaces/default/pods/web/log?follow=true"

    async def follow() -> bytes:
        async with world.way.kube._session.get(world.way.kube.url + path) as response:
            assert response.status == 200
            seen = await response.content.readline()
            started.append(seen)
            return seen + await response.content.read()

    started: list[bytes] = []
    followers = [asyncio.create_task(follow()) for _ in range(100)]
    await until(lambda: len(started) == 100)
    world.runtime.log("web", "main", "last")
    world.runtime.end_container(f"{world.runtime.pods[0].uid}-main-0")
    async with asyncio.timeout(60):
        assert set(await asyncio.gather(*followers)) == {b"first\nlast\n"}


def node_context(folder: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=folder / "ca.crt")
    context.load_cert_chain(folder / "node.crt", folder / "node.key")
    return context


@contextlib.asynccontextmanager
async def upstream_edge(world: World) -> AsyncIterator[list[int]]:
    """KubeEdge's edge on the wire: no header of ours, bodies alone for logs and metrics. Gives the kinds of what was opened."""
    kinds: list[int] = []

    async def accept(channel: Channel, kind: int, opening: frames.Opening) -> None:
        kinds.append(kind)
        is_body = kind in (frames.LOGS, frames.METRICS)
        await world.way.service._api.serve(Exchange(head_of(opening), channel, has_head=not is_body), TUNNEL)

    headers = {frames.NODE_HEADER: NODE, frames.ADDRESS_HEADER: "127.0.0.1"}
    url = f"wss://127.0.0.1:{world.way.cloud.tunnel_port}{frames.PATH}"
    async with connect(url, ssl=node_context(world.way.folder), additional_headers=headers, max_size=frames.MESSAGE_BYTES) as socket:
        peer: Any = socket
        serving = asyncio.create_task(Tunnel(peer, is_paced=False, accept=accept).run())
        try:
            yield kinds
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)


async def test_kubeedges_edge_is_served_as_it_expects(world: World) -> None:
    world.way.line.is_refusing = True
    await world.way.line.cut()
    await until(lambda: not world.way.service.tunnel.is_connected)
    async with upstream_edge(world) as kinds:
        world.runtime.log("web", "main", "one")
        assert await world.way.kubectl("logs", "web") == (0, "one\n", "")
        code, said, error = await world.way.kubectl("exec", "web", "--", "sh", "-c", "head -c 3000000 /dev/zero | wc -c; exit 4")
        assert (code, said) == (4, "3000000\n"), error
        code, _, error = await world.way.kubectl("top", "pod")
        assert code == 0, error
        assert kinds == [frames.LOGS, frames.EXEC, frames.METRICS]
        process = await world.way.start("port-forward", "pod/web", ":80")
        assert process.stdout is not None
        async with asyncio.timeout(30):
            _, said_bytes = await process.communicate()
        assert b"port-forward" in said_bytes
    world.way.line.is_refusing = False


async def test_no_node_speaks_for_another(world: World) -> None:
    url = f"wss://127.0.0.1:{world.way.cloud.tunnel_port}{frames.PATH}"
    with pytest.raises(InvalidStatus) as refused:
        await connect(url, ssl=node_context(world.way.folder), additional_headers={frames.NODE_HEADER: "another"})
    assert refused.value.response.status_code == 403
    anonymous = ssl.create_default_context(cafile=world.way.folder / "ca.crt")
    with pytest.raises((OSError, InvalidMessage)):
        await connect(url, ssl=anonymous, additional_headers={frames.NODE_HEADER: NODE})


async def test_the_stream_server_knows_its_callers(world: World) -> None:
    async def ask(context: ssl.SSLContext, *headers: str, path: str = "/stats/summary") -> int:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        reader, writer = await asyncio.open_connection("127.0.0.1", world.way.cloud.stream_port, ssl=context)
        lines = [f"GET {path} HTTP/1.1\r\nHost: {NODE}", *headers, "", ""]
        writer.write("\r\n".join(lines).encode())
        try:
            words = (await reader.read()).split()
            return int(words[1]) if words else 0
        except OSError:
            return 0
        finally:
            writer.close()

    assert await ask(ssl.create_default_context()) == 401
    assert await ask(ssl.create_default_context(), "Authorization: Bearer nonsense") == 401
    assert await ask(node_context(world.way.folder)) == 0  # a node's certificate is of another authority
    status, made = await world.way.kube.ask("POST", "/api/v1/namespaces/default/serviceaccounts/default/token", {"spec": {}})
    assert status == 201, made
    token = f"Authorization: Bearer {made['status']['token']}"
    assert await ask(ssl.create_default_context(), token) == 403
    for path in ("/stats/../exec/default/web/main", "/stats/%2e%2e/pods", "/containerLogs/../web/main", "//exec/default/web/main"):
        assert await ask(ssl.create_default_context(), token, path=path) == 404, path
