"""What was answered survives: kill -9, restarts, damaged and locked data."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
from typing import Any

import aiohttp

from pinnace.core.base.cli import command_line


async def test_answered_writes_survive_a_kill(own_server: Any, connect: Any) -> None:
    answered: list[int] = []

    async def write(client: Any, worker: int) -> None:
        with contextlib.suppress(aiohttp.ClientError, ConnectionError):
            for index in range(10_000):
                number = worker * 10_000 + index
                status, _ = await client.ask("POST", "/api/v1/namespaces/default/configmaps", {"metadata": {"name": f"c{number}"}})
                assert status == 201
                answered.append(number)

    async with connect(own_server) as client:
        workers = [asyncio.create_task(write(client, worker)) for worker in range(4)]
        while len(answered) < 200:
            await asyncio.sleep(0)
        own_server.stop(signal.SIGKILL)
        await asyncio.gather(*workers)
    own_server.start()
    async with connect(own_server) as client:
        names = {item["metadata"]["name"] for item in (await client.get("/api/v1/namespaces/default/configmaps"))["items"]}
    assert {f"c{number}" for number in answered} <= names
    assert len(names) - 1 <= len(answered) + 4


async def test_versions_go_on_after_a_restart(own_server: Any, connect: Any) -> None:
    async with connect(own_server) as client:
        made = await client.create("/api/v1/namespaces/default/configmaps", {"metadata": {"name": "a"}})
        await client.ask("DELETE", "/api/v1/namespaces/default/configmaps/a")
    own_server.restart()
    async with connect(own_server) as client:
        listed = await client.get("/api/v1/namespaces/default/configmaps")
        assert int(listed["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])
        path = f"/api/v1/namespaces/default/configmaps?watch=1&timeoutSeconds=1&resourceVersion={made['metadata']['resourceVersion']}"
        async with client.watch(path) as events:
            assert [event["object"]["code"] async for event in events] == [410]
        current = listed["metadata"]["resourceVersion"]
        async with client.watch(f"/api/v1/namespaces/default/configmaps?watch=1&timeoutSeconds=1&resourceVersion={current}") as events:
            assert [event async for event in events] == []


async def test_custom_kinds_are_back_after_a_restart(own_server: Any, connect: Any, eventually: Any) -> None:
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
    spec = {"group": "x.io", "scope": "Cluster", "names": {"plural": "things", "kind": "Thing"}, "versions": [version]}
    async with connect(own_server) as client:
        crd = {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": "things.x.io"},
            "spec": spec,
        }
        await client.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd)
        await eventually(lambda: client.ask("GET", "/apis/x.io/v1/things"), lambda answer: answer[0] == 200)
        await client.create("/apis/x.io/v1/things", {"apiVersion": "x.io/v1", "kind": "Thing", "metadata": {"name": "t"}})
    own_server.restart()
    async with connect(own_server) as client:
        assert (await client.get("/apis/x.io/v1/things/t"))["kind"] == "Thing"


def test_a_damaged_file_is_said_and_left_alone(own_server: Any) -> None:
    own_server.stop()
    path = own_server.folder / "data" / "api.db"
    damaged = b"not a database" + path.read_bytes()[14:]
    path.write_bytes(damaged)
    command = [*command_line("apiserver"), "--data-dir", str(own_server.folder / "data"), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "is damaged" in done.stderr
    assert str(path) in done.stderr
    assert "Traceback" not in done.stderr
    assert path.read_bytes() == damaged


def test_two_servers_do_not_share_a_folder(own_server: Any) -> None:
    command = [*command_line("apiserver"), "--data-dir", str(own_server.folder / "data"), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "another API server is running there" in done.stderr


def test_private_files_are_private(own_server: Any) -> None:
    private = [own_server.kubeconfig, own_server.folder / "data" / "api.db", *(own_server.folder / "data" / "pki").glob("*.key")]
    assert len(private) == 5
    assert {path.stat().st_mode & 0o777 for path in private} == {0o600}
