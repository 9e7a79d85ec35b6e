"""A pod for the emulated board: its image made from Debian's static busybox for arm64, and its object."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Final

from image.cloud import Cloud

from pinnace.core.base.imagefiles import Platform, build, tree_layer, write_archive

IMAGE: Final = "docker.io/library/busybox:board"
_PODS: Final = "/api/v1/namespaces/default/pods"


def archive(busybox: Path, target: Path) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "root")
        (root / "bin").mkdir(parents=True)
        (root / "bin/busybox").write_bytes(busybox.read_bytes())
        (root / "bin/busybox").chmod(0o755)
        for name in ("sh", "sleep", "uname", "cat", "date"):
            (root / "bin" / name).symlink_to("busybox")
        for name in ("etc", "tmp", "proc", "sys", "dev"):
            (root / name).mkdir()
        image = build([tree_layer(root, Path(folder, "layer.tar.gz"))], {"Env": ["PATH=/bin"]}, platform=Platform("linux", "arm64"))
        write_archive(target, {IMAGE: [image]})
    return target.read_bytes()


async def create(cloud: Cloud, name: str, node: str) -> str:
    """A pod that sleeps; its uid."""
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "nodeName": node,
            "hostNetwork": True,
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {"name": "main", "image": IMAGE, "imagePullPolicy": "Never", "command": ["sh", "-c", "while sleep 5; do date; done"]}
            ],
        },
    }
    status, made = await cloud.kube.ask("POST", _PODS, body)
    assert status == 201, made
    return str(made["metadata"]["uid"])


async def get(cloud: Cloud, name: str) -> Any:
    status, body = await cloud.kube.ask("GET", f"{_PODS}/{name}")
    return body if status == 200 else {}


async def phase(cloud: Cloud, name: str) -> str:
    return str(((await get(cloud, name)).get("status") or {}).get("phase", ""))


async def container(cloud: Cloud, name: str) -> str:
    """The id of the pod's running container, "" for none."""
    status = (await get(cloud, name)).get("status") or {}
    running = [each["containerID"] for each in status.get("containerStatuses") or () if "running" in each.get("state", {})]
    return str(running[0]) if running and status.get("phase") == "Running" else ""


async def remove(cloud: Cloud, name: str) -> None:
    await cloud.kube.ask("DELETE", f"{_PODS}/{name}")
