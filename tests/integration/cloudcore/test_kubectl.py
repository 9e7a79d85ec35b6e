"""What a person sees through kubectl: the samples apply as they are, nodes and devices are listed, a second apply changes nothing."""

from __future__ import annotations

import asyncio
import importlib.util
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

NODE = "192.168.4.22-pi2"
LIGHT = "traffic-light-instance-01"
SAMPLES = Path(__file__).resolve().parents[3] / "build" / "samples"

Kubectl = Callable[..., Awaitable[str]]

pytestmark = pytest.mark.kubectl


@pytest.fixture(scope="module")
def program() -> Path:
    """The machine's kubectl, or Debian's 1.20."""
    spec = importlib.util.spec_from_file_location("kubectl_finder", Path(__file__).parents[1] / "kubectl.py")
    assert spec is not None
    assert spec.loader is not None
    finder = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(finder)
    found: Path | None = finder.current() or finder.debian()
    if found is None:
        pytest.skip("there is no kubectl: install it, or name it in PINNACE_KUBECTL")
    return found


@pytest.fixture
def kubectl(world: Any, program: Path) -> Kubectl:
    """`await kubectl(*arguments)`: its standard output; it must exit 0."""

    async def run(*arguments: str) -> str:
        command = [
            str(program),
            "--kubeconfig",
            str(world.folder / "admin.kubeconfig"),
            "--cache-dir",
            str(world.folder / "cache"),
            *arguments,
        ]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{arguments}: {done.stderr}"
        return done.stdout

    return run


@pytest.mark.parametrize("name", ["traffic-light", "dyson-fan"])
async def test_samples_apply_unchanged(kubectl: Kubectl, name: str) -> None:
    files = [str(SAMPLES / name / f"{part}.yaml") for part in ("model", "instance")]
    arguments = [each for file in files for each in ("-f", file)]
    assert (await kubectl("apply", *arguments)).count("created") == 2
    assert (await kubectl("apply", *arguments)).count("unchanged") == 2


async def test_nodes_and_devices_are_listed(world: Any, kubectl: Kubectl) -> None:
    async with world.connected() as node:
        lines = (await kubectl("get", "nodes")).splitlines()
        assert lines[1].split()[0] == NODE
        assert "edge" in lines[1]
        await kubectl("apply", "-f", str(SAMPLES / "traffic-light" / "model.yaml"), "-f", str(SAMPLES / "traffic-light" / "instance.yaml"))
        lines = (await kubectl("get", "devices")).splitlines()
        assert lines[0].split() == ["NAME", "NODE", "MODEL", "STATE", "AGE"]
        assert lines[1].split()[:3] == [LIGHT, NODE, "traffic-light"]
        await node.pushed("insert", f"default/device/{LIGHT}")
        patch = '[{"op":"replace","path":"/spec/properties/0/desired/value","value":"ON"}]'
        start = len(node.received)
        await kubectl("patch", "device", LIGHT, "--type=json", "-p", patch)
        await node.pushed("update", f"default/device/{LIGHT}", after=start)
        number = await node.report(f"default/{LIGHT}", {"red": "ON"})
        await node.saw(lambda each: each["header"].get("parent_msg_id") == number)
        path = "{.status.twins[0].desired.value} {.status.twins[0].reported.value}"
        assert await kubectl("get", "devices.v1alpha1.devices.kubeedge.io", LIGHT, "-o", f"jsonpath={path}") == "ON ON"
        await kubectl("delete", "device", LIGHT)
        await node.pushed("delete", f"default/device/{LIGHT}")
