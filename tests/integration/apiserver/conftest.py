"""A real API server process on loopback, and the clients that talk to it over HTTPS."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import importlib.util
import io
import json
import os
import re
import select
import signal
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pinnace.core.base.cli import command_line

READY_SECONDS = 30


@dataclass
class Server:
    """One `pinnace apiserver` process; `restart` keeps its data and its port."""

    folder: Path
    extra: list[str] = field(default_factory=list)
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "admin.kubeconfig"

    def start(self) -> None:
        read, write = os.pipe()
        log = (self.folder / "log").open("ab")
        command = [
            *command_line("apiserver"), "--data-dir", str(self.folder / "data"), "--port", str(self.port),
            "--kubeconfig", str(self.kubeconfig),
            "--ready-fd", str(write), *self.extra,
        ]  # fmt: skip
        self.process = subprocess.Popen(command, pass_fds=[write], stdout=subprocess.DEVNULL, stderr=log)
        os.close(write)
        log.close()
        is_readable, _, _ = select.select([read], [], [], READY_SECONDS)
        said = os.read(read, 16) if is_readable else b""
        os.close(read)
        if said != b"ready\n":
            self.stop()
            raise AssertionError(f"the server did not start: {self.log()[-2000:]}")
        self.port = int(self.url.rpartition(":")[2])

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(20)

    def restart(self, number: int = signal.SIGTERM) -> None:
        self.stop(number)
        self.start()

    def log(self) -> str:
        return (self.folder / "log").read_text()

    @property
    def config(self) -> dict[str, Any]:
        config: dict[str, Any] = json.loads(self.kubeconfig.read_text())
        return config

    @property
    def url(self) -> str:
        return str(self.config["clusters"][0]["cluster"]["server"])

    def context(self, kubeconfig: Path | None = None, *, is_anonymous: bool = False) -> ssl.SSLContext:
        config = json.loads((kubeconfig or self.kubeconfig).read_text())
        authority = base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"]).decode()
        context = ssl.create_default_context(cadata=authority)
        if not is_anonymous:
            user = config["users"][0]["user"]
            pair = self.folder / f"{(kubeconfig or self.kubeconfig).name}.pem"
            pair.write_bytes(base64.b64decode(user["client-certificate-data"]) + base64.b64decode(user["client-key-data"]))
            context.load_cert_chain(pair)
        return context


@dataclass
class Client:
    """Plain HTTPS requests with JSON answers."""

    session: aiohttp.ClientSession
    url: str

    async def ask(
        self, method: str, path: str, body: Any = None, *, content_type: str = "application/json", **headers: str
    ) -> tuple[int, Any]:
        sent = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        if sent is not None and content_type:
            names["Content-Type"] = content_type
        data = io.BytesIO(sent) if sent is not None and len(sent) > 1 << 20 else sent
        async with self.session.request(method, self.url + path, data=data, headers=names, skip_auto_headers=["Content-Type"]) as response:
            text = await response.read()
            is_json = response.content_type == "application/json"
            return response.status, json.loads(text) if is_json and text else text.decode()

    async def get(self, path: str, **headers: str) -> Any:
        status, body = await self.ask("GET", path, **headers)
        assert status == 200, body
        return body

    async def create(self, path: str, body: Any) -> Any:
        status, answer = await self.ask("POST", path, body)
        assert status == 201, answer
        return answer

    async def merge(self, path: str, patch: Any) -> Any:
        status, answer = await self.ask("PATCH", path, patch, content_type="application/merge-patch+json")
        assert status == 200, answer
        return answer

    @contextlib.asynccontextmanager
    async def watch(self, path: str) -> AsyncIterator[AsyncIterator[Any]]:
        """The events of a watch; its stream is open when the block begins."""
        timeout = aiohttp.ClientTimeout(total=30)
        async with self.session.get(self.url + path, timeout=timeout) as response:
            assert response.status == 200, await response.text()

            async def events() -> AsyncIterator[Any]:
                async for line in response.content:
                    yield json.loads(line)

            yield events()


async def _eventually(ask: Callable[[], Awaitable[Any]], wanted: Callable[[Any], object], *, seconds: float = 15.0) -> Any:
    """Ask until the answer satisfies `wanted`; the last answer."""
    async with asyncio.timeout(seconds):
        while True:
            answer = await ask()
            if wanted(answer):
                return answer
            await asyncio.sleep(0.02)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests that keep to a namespace of their own."""
    folder = tmp_path_factory.mktemp("api")
    running = Server(folder, ["--cloudcore-kubeconfig", str(folder / "cloudcore.kubeconfig")])
    running.extra += ["--client-kubeconfig", f"system:node:n1,system:nodes={folder / 'n1.kubeconfig'}"]
    running.start()
    yield running
    assert running.stop() == 0, running.log()[-2000:]
    assert "Traceback" not in running.log(), running.log()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    """A server of the test's own, to stop, kill and restart."""
    running = Server(tmp_path)
    running.start()
    yield running
    if running.process is not None and running.process.poll() is None:
        running.stop()


@contextlib.asynccontextmanager
async def connected(server: Server, kubeconfig: Path | None = None, *, is_anonymous: bool = False) -> AsyncIterator[Client]:
    connector = aiohttp.TCPConnector(ssl=server.context(kubeconfig, is_anonymous=is_anonymous))
    async with aiohttp.ClientSession(connector=connector) as session:
        yield Client(session, server.url)


@pytest.fixture
def connect() -> Any:
    """`connect(server, kubeconfig=None, *, is_anonymous=False)`: an asynchronous context with a client."""
    return connected


@pytest.fixture
def eventually() -> Any:
    """`await eventually(ask, wanted)`: ask until the answer is as wanted."""
    return _eventually


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    async with connected(server) as opened:
        yield opened


_numbers = iter(range(1, 10**6))


@pytest.fixture
async def ns(client: Client) -> str:
    """A fresh namespace."""
    name = f"t{os.getpid()}-{next(_numbers)}"
    await client.create("/api/v1/namespaces", {"metadata": {"name": name}})
    return name


class Kubectl:
    """One kubectl program against one server, with a cache of its own."""

    def __init__(self, program: Path, version: str, server: Server, home: Path) -> None:
        self.program = program
        self.version = version
        self.server = server
        self.home = home
        self.namespace = "default"

    def _command(self, arguments: tuple[str, ...]) -> tuple[list[str], dict[str, str]]:
        command = [str(self.program), "--kubeconfig", str(self.server.kubeconfig), "-n", self.namespace, *arguments]
        return command, {**os.environ, "HOME": str(self.home), "KUBE_EDITOR": os.environ.get("KUBE_EDITOR", "true")}

    def result(self, *arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        command, variables = self._command(arguments)
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, env=variables | environment, check=False)

    def __call__(self, *arguments: str, stdin: str = "", **environment: str) -> str:
        """Its standard output; it must exit 0."""
        done = self.result(*arguments, stdin=stdin, **environment)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    @property
    def minor(self) -> int:
        """20 of 1.20.2: the machine's own kubectl may be as old as Debian's."""
        found = re.search(r'"gitVersion": *"v1\.(\d+)', self("version", "--client", "-o", "json"))
        assert found is not None
        return int(found[1])

    def background(self, *arguments: str) -> subprocess.Popen[str]:
        command, variables = self._command(arguments)
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables)


def _finder() -> Any:
    spec = importlib.util.spec_from_file_location("kubectl_finder", Path(__file__).parents[1] / "kubectl.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session", params=["current", "1.20"])
def any_kubectl(request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    finder = _finder()
    program = finder.current() if request.param == "current" else finder.debian()
    if program is None:
        pytest.skip(f"kubectl ({request.param}) is not here: install it, or name it in PINNACE_KUBECTL or PINNACE_KUBECTL_120")
    return Kubectl(program, request.param, server, tmp_path_factory.mktemp("kubectl"))


@pytest.fixture
def kubectl(any_kubectl: Kubectl) -> Kubectl:
    """A kubectl in a fresh namespace of its own."""
    any_kubectl.namespace = f"k{os.getpid()}-{next(_numbers)}"
    any_kubectl(
        "create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": any_kubectl.namespace}})
    )
    return any_kubectl
