"""`pinnace get`, `logs`, `exec` and `describe` on the node itself: no cloud, no network, the socket alone."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import shutil
import struct
import tempfile
import termios
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from rig.hostruntime import HostRuntime
from rig.processes import pinnace
from rig.streams import Book

from pinnace.core.base.contract.keys import NodeName
from pinnace.core.base.observe.health import Health
from pinnace.core.base.pod import Object
from pinnace.core.stream.api import KubeletApi
from pinnace.core.stream.doors import root_door
from pinnace.core.stream.stats import Stats

SCRIPT = "until stty size | grep -q '^33 101$'; do :; done; echo sized; read line; echo got $line; exit 5"
DEVICE = {
    "metadata": {"name": "lamp", "namespace": "default"},
    "twins": {"state": "online", "twin": {"red": {"expected": {"value": "ON"}, "actual": {"value": "OFF"}}}},
}


class Shelf:
    def node(self) -> Object | None:
        return {"metadata": {"name": "n1"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}

    def devices(self) -> Sequence[Object]:
        return [DEVICE]


class Node(NamedTuple):
    socket: Path
    runtime: HostRuntime
    api: KubeletApi

    async def __call__(self, *arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
        command = pinnace(arguments[0], "--socket", str(self.socket), *arguments[1:])
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(60):
            out, err = await process.communicate(stdin)
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    runtime = HostRuntime(tmp_path / "logs")
    body = runtime.add_pod("web", "n1", "main", "side", uid="u1")
    body["status"] = {
        "phase": "Running",
        "podIP": "10.88.0.7",
        "containerStatuses": [
            {"name": "main", "ready": True, "restartCount": 2, "state": {"running": {"startedAt": "2024-01-31T12:00:00Z"}}},
            {"name": "side", "restartCount": 1, "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}},
        ],
    }
    runtime.run_pod(body)
    event = {"involvedObject": {"uid": "u1"}, "type": "Warning", "reason": "BackOff", "message": "back-off restarting", "count": 3}
    book: Any = Book(runtime.pods, [event | {"lastTimestamp": "2024-01-31T12:00:01Z"}])
    streams: Any = runtime
    api = KubeletApi(runtime=streams, book=book, shelf=Shelf(), stats=Stats(NodeName("n1"), streams), health=Health())
    async with root_door(api, tmp_path / "c.sock"):
        yield Node(tmp_path / "c.sock", runtime, api)


async def test_get(node: Node) -> None:
    code, said, _ = await node("get", "pods")
    assert code == 0
    assert said.splitlines()[1].split() == ["default", "web", "1/2", "CrashLoopBackOff", "3", "-", "10.88.0.7"]
    code, said, _ = await node("get", "pods", "--json")
    assert [each["metadata"]["name"] for each in json.loads(said)["items"]] == ["web"]
    code, said, _ = await node("get", "devices")
    assert said.splitlines()[1].split(maxsplit=3) == ["default", "lamp", "online", "red=OFF (desired ON)"]
    code, said, _ = await node("get", "node")
    assert said.splitlines()[1].split() == ["n1", "Ready", "-", "-"]


async def test_describe(node: Node) -> None:
    code, said, _ = await node("describe", "pod", "web")
    assert code == 0
    assert "State:     waiting: CrashLoopBackOff, back-off" in said
    assert "State:     running: since 2024-01-31T12:00:00Z" in said
    assert said.splitlines()[-2:] == ["Events:", "  2024-01-31T12:00:01Z  Warning BackOff: back-off restarting (x3)"]
    assert await node("describe", "pod", "-n", "default", "web") == (0, said, "")
    code, _, said = await node("describe", "pod", "nobody")
    assert code == 1
    assert "`pinnace get pods` lists them" in said
    code, said, _ = await node("describe", "device", "lamp", "--json")
    assert json.loads(said) == DEVICE


async def test_logs(node: Node) -> None:
    node.runtime.log("web", "main", "one", "two")
    assert await node("logs", "web") == (0, "one\ntwo\n", "")
    assert await node("logs", "web", "--tail", "1", "--json") == (0, '{"time":"2024-01-31T12:00:00.500000000Z","text":"two"}\n', "")
    code, _, said = await node("logs", "web", "-c", "main", "--previous")
    assert (code, said) == (1, 'pinnace logs: previous terminated container "main" in pod "web" not found\n')


async def test_what_waits_to_start_again_shows_its_last_run_as_the_previous_one(node: Node) -> None:
    node.runtime.log("web", "side", "dying")
    node.runtime.end_container("u1-side-0", exit_code=3)
    node.runtime.pods[0].status["containerStatuses"][1]["lastState"] = {"terminated": {"exitCode": 3, "containerID": "host://u1-side-0"}}
    assert await node("logs", "web", "-c", "side", "--previous") == (0, "dying\n", "")
    node.runtime.run_container(node.runtime.pods[0], "side", attempt=1)
    assert await node("logs", "web", "-c", "side", "--previous") == (0, "dying\n", "")
    node.runtime.end_container("u1-side-1")
    assert await node("logs", "web", "-c", "side", "--previous") == (0, "dying\n", "")


async def test_a_line_of_any_length_is_json(node: Node) -> None:
    node.runtime.log("web", "main", "x" * 300_000, "short")
    code, said, _ = await node("logs", "web", "--json")
    assert code == 0
    assert [len(json.loads(line)["text"]) for line in said.splitlines()] == [300_000, 5]


async def test_a_duration_that_is_none_is_a_wrong_usage(node: Node) -> None:
    code, _, said = await node("logs", "web", "--since", "soon")
    assert code == 2
    assert "--since soon: " in said


async def test_exec(node: Node) -> None:
    assert await node("exec", "web", "-c", "main", "--", "sh", "-c", "echo out; echo err >&2; exit 3") == (3, "out\n", "err\n")
    assert await node("exec", "-i", "web", "--", "wc", "-c", stdin=b"x" * 1_000_000) == (0, "1000000\n", "")
    code, said, _ = await node("exec", "--json", "web", "--", "echo", "yes")
    assert (code, json.loads(said)) == (0, {"exit_code": 0, "stdout": "yes\n", "stderr": ""})
    code, _, said = await node("exec", "web", "--", "/no/such/program")
    assert code == 1
    assert "No such file or directory" in said


async def test_a_terminal_is_passed_on(node: Node) -> None:
    """Raw keys, and the terminal's size."""
    outer, inner = pty.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("4H", 33, 101, 0, 0))
    command = pinnace("exec", "--socket", str(node.socket), "-it", "web", "--", "sh", "-c", SCRIPT)
    process = await asyncio.create_subprocess_exec(*command, stdin=inner, stdout=inner, stderr=inner, start_new_session=True)
    os.close(inner)
    said = b""
    try:
        async with asyncio.timeout(60):
            while b"sized" not in said:
                said += await asyncio.to_thread(os.read, outer, 1024)
            os.write(outer, b"hello\r")
            while b"got hello" not in said:
                said += await asyncio.to_thread(os.read, outer, 1024)
            assert await process.wait() == 5
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        os.close(outer)


async def test_the_socket_is_roots(node: Node, tmp_path: Path) -> None:
    assert node.socket.stat().st_mode & 0o777 == 0o600
    code, _, said = await node._replace(socket=tmp_path / "none.sock")("get", "pods")
    assert code == 1
    assert "start it with `pinnace edgecore`" in said


@pytest.mark.root
async def test_another_user_is_turned_away_whatever_the_files_mode(node: Node) -> None:
    folder = Path(tempfile.mkdtemp(prefix="pinnace-"))
    folder.chmod(0o755)
    socket = folder / "c.sock"
    probe = (
        "import os, socket, sys\nos.setuid(65534)\ns = socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\n"
        "try:\n    s.sendall(b'GET /pods HTTP/1.1\\r\\n\\r\\n'); print(len(s.recv(100)))\nexcept OSError:\n    print(0)\n"
    )
    try:
        async with root_door(node.api, socket):
            socket.chmod(0o666)
            process = await asyncio.create_subprocess_exec("python3", "-c", probe, str(socket), stdout=asyncio.subprocess.PIPE)
            out, _ = await process.communicate()
    finally:
        shutil.rmtree(folder)
    assert out == b"0\n"
