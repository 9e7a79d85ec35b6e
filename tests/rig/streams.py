"""The way from kubectl to a node's runtime, all of it real: embedded API, cloudcore, the tunnel, the edge's streams over any runtime."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contract.runtime.pods import TestPod
from fakes.cutproxy import CutProxy

from pinnace.cloud import server as cloudcore
from pinnace.core.base.contract.keys import NodeName
from pinnace.core.base.observe.health import Health
from pinnace.core.base.pod import Object, Pod
from pinnace.core.base.runtime import CONTAINER_NAME_LABEL, POD_NAME_LABEL, POD_NAMESPACE_LABEL, POD_UID_LABEL, Runtime
from pinnace.core.base.settings.edged import EdgedSettings, KubeletSettings
from pinnace.core.hub.certificates import Certificates
from pinnace.core.hub.settings import EdgeHubSettings, WebSocketSettings
from pinnace.core.stream.service import StreamService
from pinnace.core.stream.settings import EdgeStreamSettings
from rig.cloudcore import api_serving, settings_for
from rig.kube import KubeClient

NODE = "edge-1"


@dataclass
class Book:
    """Pods as somebody keeps them."""

    listed: list[Pod] = field(default_factory=list)
    told: list[Object] = field(default_factory=list)

    def pods(self) -> Sequence[Pod]:
        return self.listed

    def recent_events(self, pod_uid: str = "") -> Sequence[Object]:
        return [each for each in self.told if each["involvedObject"]["uid"] == pod_uid]


class NoShelf:
    def node(self) -> Object | None:
        return {"kind": "Node", "apiVersion": "v1", "metadata": {"name": NODE}}

    def devices(self) -> Sequence[Object]:
        return ()


@dataclass
class Way:
    """Everything up; `kubectl` runs the real one."""

    folder: Path
    kube: KubeClient
    cloud: cloudcore.Running
    book: Book
    service: StreamService
    line: CutProxy
    """Between node and cloud: what a test may cut."""

    async def kubectl(
        self, *arguments: str, stdin: bytes | None = None, program: str = "kubectl", seconds: float = 60.0
    ) -> tuple[int, str, str]:
        """Exit code, standard output, standard error. Asked again where kubectl lost an answer: until 1.33 it may read a WebSocket before
        it has made its streams, says so, and drops what came first (kubernetes/kubernetes pull request 131203)."""
        for _ in range(5):
            answer = await self._asked(arguments, stdin, program, seconds)
            if "Unknown stream id" not in answer[2]:
                return answer
        raise AssertionError(f"kubectl {' '.join(arguments)} lost its answer five times")

    async def _asked(self, arguments: tuple[str, ...], stdin: bytes | None, program: str, seconds: float) -> tuple[int, str, str]:
        process = await self.start(
            *arguments, stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL, program=program
        )
        try:
            async with asyncio.timeout(seconds):
                out, err = await process.communicate(stdin)
        except TimeoutError:
            process.kill()
            out, err = await process.communicate()
            raise AssertionError(f"kubectl {' '.join(arguments)} did not end\n{out.decode()}\n{err.decode()}") from None
        assert process.returncode is not None
        return process.returncode, out.decode(errors="replace"), err.decode(errors="replace")

    async def start(self, *arguments: str, stdin: int = asyncio.subprocess.DEVNULL, program: str = "kubectl") -> asyncio.subprocess.Process:
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        return await asyncio.create_subprocess_exec(
            program, "--kubeconfig", str(self.folder / "admin.kubeconfig"), *arguments, stdin=stdin, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE, env={**os.environ, "HOME": str(home)},
        )  # fmt: skip

    async def add(self, body: Object) -> Object:
        """Create a pod in the API, already running on the node, and put it in the node's book."""
        namespace = body["metadata"]["namespace"]
        status, made = await self.kube.ask("POST", f"/api/v1/namespaces/{namespace}/pods", body)
        assert status == 201, made
        path = f"/api/v1/namespaces/{namespace}/pods/{made['metadata']['name']}/status"
        statuses = [{"name": each["name"], "ready": True, "image": "none", "imageID": "", "restartCount": 0, "state": {"running": {}}}
                    for each in made["spec"]["containers"]]  # fmt: skip
        made = await self.kube.merge(path, {"status": {"phase": "Running", "containerStatuses": statuses}})
        self.book.listed.append(Pod(made))
        return dict(made)

    async def web(self, pod: TestPod, text: str) -> None:
        """Make `pod` the pod `default/web`, whose container `main` runs a shell script."""
        stored = await self.add({
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"nodeName": NODE, "containers": [{"name": "main", "image": "busybox"}]},
        })  # fmt: skip
        pod.uid = stored["metadata"]["uid"]
        labels = {POD_UID_LABEL: pod.uid, POD_NAME_LABEL: "web", POD_NAMESPACE_LABEL: "default"}
        await pod.sandbox(uid=pod.uid, name="web", labels=labels)
        await pod.shell(text, name="main", labels={**labels, CONTAINER_NAME_LABEL: "main"})

    async def tunnelled(self, node: str = NODE) -> None:
        """Wait until the API knows the way to the node."""
        async with asyncio.timeout(20):
            while True:
                found: Any = await self.kube.get(f"/api/v1/nodes/{node}")
                if (found["status"].get("daemonEndpoints") or {}).get("kubeletEndpoint", {}).get("Port"):
                    return
                await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def way(folder: Path, runtime: Runtime | None) -> AsyncIterator[Way]:
    """All of it for the length of the block."""
    async with contextlib.AsyncExitStack() as stack:
        admin = await stack.enter_async_context(api_serving(folder))
        cloud = await stack.enter_async_context(cloudcore.serving(settings_for(folder)))
        kube = await stack.enter_async_context(KubeClient(admin))
        await kube.ask("POST", "/api/v1/nodes", {"metadata": {"name": NODE}})
        edge_hub = EdgeHubSettings(
            http_server=f"https://127.0.0.1:{cloud.https_port}", websocket=WebSocketSettings(server=f"127.0.0.1:{cloud.websocket_port}"),
            tls_ca_file=folder / "ca.crt", tls_cert_file=folder / "node.crt", tls_private_key_file=folder / "node.key", token=cloud.token,
        )  # fmt: skip
        certificates = Certificates(edge_hub, NodeName(NODE))
        book = Book()
        line = await stack.enter_async_context(CutProxy("127.0.0.1", cloud.tunnel_port))
        service = StreamService(
            EdgeStreamSettings(server=f"127.0.0.1:{line.port}"),
            EdgedSettings(
                control_socket=folder / "c.sock", pod_logs_dir=folder / "logs", tailored_kubelet_config=KubeletSettings(read_only_port=0)
            ),
            NodeName(NODE),
            hub_host="127.0.0.1",
            runtime=runtime,
            book=book,
            shelf=NoShelf(),
            health=Health(),
            certificate=certificates.context,
            address=lambda: "127.0.0.1",
        )
        running = asyncio.create_task(service.run())
        stack.push_async_callback(_ended, running)
        made = Way(folder, kube, cloud, book, service, line)
        await made.tunnelled()
        yield made


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
