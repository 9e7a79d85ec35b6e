"""`pinnace cloudcore` and `pinnace gettoken` as processes, on the loop they use in the field."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fakes.node import ScriptedNode
from rig.cloudprocesses import CloudProcesses
from rig.processes import pinnace

from pinnace.cloud.kube import HttpKubeApi, load_access
from pinnace.cloud.kube.resources import DEVICES, NODES, OBJECT_SYNCS
from pinnace.cloud.ports import Resource

NODE = "192.168.4.22-pi2"
LIGHT = "traffic-light-instance-01"
OLD = {
    kind: Resource("devices.kubeedge.io", "v1alpha1", f"{kind.lower()}s", kind, True) for kind in ("Device", "DeviceModel")
}  # fmt: skip
SAMPLES = Path(__file__).resolve().parents[3] / "build" / "samples" / "traffic-light"


class Pair(CloudProcesses):
    """An API server and a cloudcore on it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, hub={"quic": {"enable": False}})
        self.write()

    def log(self) -> str:
        return self.cloud.log.read_text()

    async def logged(self, text: str) -> None:
        async with asyncio.timeout(20):
            while text not in self.log():
                await asyncio.sleep(0.02)

    def token(self) -> str:
        done = subprocess.run(
            pinnace("gettoken", "--kube-config", str(self.kubeconfig)), capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    async def client(self) -> HttpKubeApi:
        return HttpKubeApi(await load_access(kubeconfig=self.kubeconfig))

    async def node(self) -> ScriptedNode:
        made = ScriptedNode(NODE, self.folder)
        await made.join(self.https_port, await asyncio.to_thread(self.token))
        return made


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    made = Pair(tmp_path)
    try:
        yield made
    finally:
        await made.cloud.kill()
        await made.api.kill()


def registration() -> dict[str, Any]:
    return {"metadata": {"name": NODE, "labels": {"node-role.kubernetes.io/edge": ""}}, "spec": {}, "status": {}}


async def apply_samples(api: HttpKubeApi) -> None:
    for name in ("model", "instance"):
        body = yaml.safe_load((SAMPLES / f"{name}.yaml").read_text())
        await api.create(OLD[body["kind"]], body, "default")


async def value_of(api: HttpKubeApi, wanted: str) -> None:
    """Wait until the lamp's reported value is shown."""
    async with asyncio.timeout(20):
        while True:
            device = await api.get(DEVICES, LIGHT, "default")
            if device["status"]["twins"][0].get("reported", {}).get("value") == wanted:
                return
            await asyncio.sleep(0.02)


async def test_it_waits_for_the_api_server_and_says_so_once(pair: Pair) -> None:
    await pair.api.start()
    await pair.api.stop()
    await pair.cloud.start(wait=False)
    await pair.logged("kube.not-ready")
    await pair.api.start()
    await pair.logged(f"ready: https {pair.https_port}")
    await pair.logged(f"ready: websocket {pair.hub_port}")
    log = pair.log()
    assert log.count("kube.not-ready") == 1
    assert log.count("settings.unknown-key") == 1
    assert "key=modules.cloudHub.quic" in log
    assert await pair.cloud.stop() == 0
    assert "Traceback" not in pair.log()


async def test_it_ends_cleanly_while_it_waits(pair: Pair) -> None:
    await pair.api.start()
    await pair.api.stop()
    await pair.cloud.start(wait=False)
    await pair.logged("kube.not-ready")
    assert await pair.cloud.stop() == 0
    assert "Traceback" not in pair.log()


async def test_a_wrong_configuration_names_its_place(tmp_path: Path) -> None:
    config = tmp_path / "cloudcore.yaml"
    config.write_text("modules:\n  cloudHub:\n    websocket: {port: 123456}\n")
    done = await asyncio.to_thread(
        subprocess.run, pinnace("cloudcore", "--config", str(config)), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert f"{config}:3: modules.cloudHub.websocket.port: expected a port" in done.stderr


async def test_a_busy_port_is_named(pair: Pair) -> None:
    await pair.api.start()
    taken = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", pair.hub_port)
    async with taken:
        done = await asyncio.to_thread(subprocess.run, pair.cloud.command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert f"modules.cloudHub.websocket: cannot listen on 127.0.0.1 port {pair.hub_port}: Address already in use" in done.stderr


async def test_nodes_and_reports_outlive_both_servers(pair: Pair) -> None:
    await pair.api.start()
    await pair.cloud.start()
    node = await pair.node()
    async with await pair.client() as api:
        await apply_samples(api)
        async with node.connected(pair.hub_port):
            await node.ask("insert", f"null/node/{NODE}", registration())
            await node.pushed("insert", f"default/device/{LIGHT}")
            await node.report(f"default/{LIGHT}", {"red": "ON"}, version=1)
            await value_of(api, "ON")

            await pair.api.kill()
            number = await node.report(f"default/{LIGHT}", {"red": "BLINK"}, version=2)
            await pair.logged("device.report.failed")
            assert not [each for each in node.received if each["header"].get("parent_msg_id") == number], "not confirmed before it is shown"
            await pair.api.start()
            await node.saw(lambda each: each["header"].get("parent_msg_id") == number)
            await value_of(api, "BLINK")

            device = await api.get(DEVICES, LIGHT, "default")
            device["spec"]["properties"][0]["desired"]["value"] = "ON"
            start = len(node.received)
            await api.replace(DEVICES, device, LIGHT, "default")
            push = await node.pushed("update", f"default/device/{LIGHT}", after=start)
            version = push["header"]["resourceversion"]
            async with asyncio.timeout(20):
                while not [each for each in (await api.list(OBJECT_SYNCS))[0] if each["status"]["objectResourceVersion"] == version]:
                    await asyncio.sleep(0.02)

        await pair.cloud.kill()
        await pair.cloud.start()
        again = len(node.received)
        old = await api.get(OLD["Device"], LIGHT, "default")
        assert old["status"]["twins"][0]["reported"]["value"] == "BLINK", "converted by the new process"
        async with node.connected(pair.hub_port):
            await node.pushed("update", f"null/node/{NODE}", after=again)
            await node.report(f"default/{LIGHT}", {"red": "OLD"}, version=1, timestamp=1)
            number = await node.report(f"default/{LIGHT}", {"red": "NEW"}, version=3)
            await node.saw(lambda each: each["header"].get("parent_msg_id") == number)
            await value_of(api, "NEW")
            assert not [each for each in node.received[again:] if "/device/" in each["route"]["resource"]], "what it has is not sent again"
        assert (await api.get(NODES, NODE))["metadata"]["annotations"]["cloudcore"] == "127.0.0.1"


async def test_many_nodes_knock_at_once(pair: Pair) -> None:
    await pair.api.start()
    await pair.cloud.start()
    node = await pair.node()

    async def knock() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", pair.hub_port, ssl=node.context)
        writer.close()

    await asyncio.gather(*(knock() for _ in range(50)))
    async with node.connected(pair.hub_port):
        await node.ask("insert", f"null/node/{NODE}", registration())
    assert "tls_refused" not in pair.log()
