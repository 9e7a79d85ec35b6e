"""Persistent volumes on NFS: the kernel's server and client, the pods' real materials, crun."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from machine.nfs_server import NfsServer
from rig.images import busybox
from rig.oci import OciHome
from rig.podnode import PodNode
from rig.pods import Object
from rig.pods import pod as any_pod

from pinnace.core.pods.material.mounts import Mounts

pytestmark = [pytest.mark.containers, pytest.mark.root, pytest.mark.timeout(400)]
IMAGE = "pinnace.test/busybox:1"
PATIENCE = 60.0


@pytest.fixture(scope="module")
def home() -> Iterator[OciHome]:
    with OciHome({IMAGE: busybox()}) as made:
        yield made


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NfsServer]:
    with NfsServer(tmp_path_factory.mktemp("nfs") / "root") as made:
        yield made


@pytest.fixture
async def node(home: OciHome) -> AsyncIterator[PodNode]:
    made = PodNode(home, Path(tempfile.mkdtemp(prefix="pin-nfs-")))
    await made.start()
    try:
        yield made
    finally:
        await made.stop()
        for point in reversed(Mounts().points(made.folder)):  # of a test that failed: nothing may look for files below them
            Mounts().unmount(point)
        await made.close()


def claim(node: PodNode, volume: Object, *options: str) -> None:
    """The cloud has a claim `data`, bound to a persistent volume on NFS."""
    node.cloud.others = {
        "data": {
            "metadata": {"name": "data", "namespace": "default", "uid": "c"},
            "spec": {"volumeName": "pv"},
            "status": {"phase": "Bound"},
        },
        "pv": {"metadata": {"name": "pv"}, "spec": {"nfs": volume, "claimRef": {"uid": "c"}, "mountOptions": list(options)}},
    }


def pod(name: str, script: str, *, volume: Object | None = None, **mount: Any) -> Object:
    main: Object = {
        "name": "main",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/bin/sh", "-c", f"{script}; sleep 1000"],
    }
    volumes = []
    if volume is not None:
        main["volumeMounts"] = [{"name": "v", "mountPath": "/v", **mount}]
        volumes = [{"name": "v", **volume}]
    return any_pod(name, containers=[main], volumes=volumes, hostNetwork=True, terminationGracePeriodSeconds=1, initContainers=[])


CLAIMED: Object = {"persistentVolumeClaim": {"claimName": "data"}}


def nfs_mounts() -> list[str]:
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if " - nfs4 " in line]


async def gone(node: PodNode, name: str) -> None:
    await node.delete(name, grace=1)
    await node.until(lambda: name not in node.cloud.pods and not nfs_mounts(), f"the end of {name}", seconds=PATIENCE)
    assert not (node.folder / "kubelet/pods" / f"uid-{name}").exists()


async def test_what_a_pod_writes_is_in_the_export_and_stays_there(node: PodNode, server: NfsServer) -> None:
    claim(node, server.volume, "nfsvers=4.2")
    await node.apply(pod("writer", "mkdir /v/folder && echo hello >/v/folder/file", volume=CLAIMED))
    await node.until((server.folder / "folder/file").exists, "the file", seconds=PATIENCE)
    await node.until(lambda: node.api("writer").get("phase") == "Running", "Running", seconds=PATIENCE)
    assert "vers=4.2" in nfs_mounts()[0]
    await gone(node, "writer")
    assert (server.folder / "folder/file").read_text() == "hello\n"


async def test_a_part_of_an_export_read_only(node: PodNode, server: NfsServer) -> None:
    (server.folder / "part").mkdir()
    (server.folder / "part/there").write_text("yes\n")
    script = "if echo no >/v/new; then touch /v/wrong; fi; cat /v/there; echo >/dev/termination-log done"
    await node.apply(pod("reader", script, volume={"nfs": {**server.volume, "readOnly": True}}, subPath="part"))
    await node.until(lambda: node.api("reader").get("phase") == "Running", "Running", seconds=PATIENCE)
    (container,) = await node.running()
    await node.until(lambda: "yes" in container.log_path.read_text(), "what is there", seconds=PATIENCE)
    assert "Read-only file system" in container.log_path.read_text()
    await gone(node, "reader")
    assert [each.name for each in (server.folder / "part").iterdir()] == ["there"]


async def test_a_server_that_is_away_is_told_and_waited_for(node: PodNode, server: NfsServer) -> None:
    server.stop()
    try:
        claim(node, server.volume, "retry=0")
        await node.apply(pod("early", "echo here >/v/early", volume=CLAIMED))
        await node.until(lambda: "FailedMount" in node.events.reasons, "the event", seconds=PATIENCE)
        message = next(each.message for each in node.events.told if each.reason == "FailedMount")
        assert 'volume "v"' in message
        assert "refused" in message
        await node.apply(pod("other", "echo here"))
        await node.until(lambda: node.api("other").get("phase") == "Running", "the other pod", seconds=PATIENCE)
        assert node.status("early")["phase"] == "Pending"
    finally:
        server.start()
    await node.until((server.folder / "early").exists, "the file", seconds=PATIENCE)
    await gone(node, "early")


async def test_a_server_that_dies_holds_up_nobody_else(node: PodNode, server: NfsServer) -> None:
    """The other pods go on, and a pod that reads there ends at once. One that has written what the server does not have yet is held by
    the kernel, at worst until the server is back: that is told, and then it ends too. What was written before is there."""
    claim(node, server.volume)
    await node.apply(pod("writer", "echo kept >/v/kept; while :; do echo more >>/v/more; done", volume=CLAIMED))
    await node.apply(pod("reader", "while :; do ls /v >/dev/null; done", volume=CLAIMED))
    await node.until((server.folder / "more").exists, "the file", seconds=PATIENCE)
    await node.until(lambda: all(node.api(each).get("phase") == "Running" for each in ("writer", "reader")), "both", seconds=PATIENCE)
    server.stop()
    try:
        await node.delete("writer", grace=1)
        await node.delete("reader", grace=1)
        await node.apply(pod("other", "echo here", volume={"emptyDir": {}}))
        await node.until(lambda: node.api("other").get("phase") == "Running", "the other pod", seconds=PATIENCE)
        await node.until(lambda: "reader" not in node.cloud.pods, "the end of who reads", seconds=PATIENCE)
        assert not [line for line in nfs_mounts() if "uid-reader" in line]
        await node.delete("other", grace=1)
        await node.until(lambda: "other" not in node.cloud.pods, "the end of the other pod", seconds=PATIENCE)
    finally:
        server.start()
    await node.until(lambda: "writer" not in node.cloud.pods and not nfs_mounts(), "the end of who writes", seconds=PATIENCE)
    assert (server.folder / "kept").read_text() == "kept\n"
