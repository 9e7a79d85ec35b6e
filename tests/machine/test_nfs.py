"""Persistent volumes on NFS: the kernel's server and client, the pods' real materials, crun."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from machine.nfs_server import NfsServer
from rig.images import busybox
from rig.oci import OciHome
from rig.podnode import PodNode, pod_node
from rig.pods import Object
from rig.pods import pod as any_pod

from pinnace.core.pods.material.mounts import Mounts

pytestmark = [pytest.mark.containers, pytest.mark.root, pytest.mark.timeout(400)]
IMAGE = "pinnace.test/busybox:1"
PATIENCE = 120.0


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
    async with pod_node(home) as made:
        try:
            yield made
        finally:
            await made.stop()
            for point in reversed(Mounts().points(made.folder)):  # of a test that failed: nothing may look for files below them
                Mounts().unmount(point)


def claim(node: PodNode, volume: Object, *options: str, name: str = "data") -> Object:
    """The cloud has a claim, bound to a persistent volume on NFS; the pod's volume of it."""
    status = {"phase": "Bound"}
    metadata = {"name": name, "namespace": "default", "uid": f"uid-{name}"}
    node.cloud.others[name] = {"metadata": metadata, "spec": {"volumeName": f"pv-{name}"}, "status": status}
    spec = {"nfs": volume, "claimRef": {"uid": metadata["uid"]}, "mountOptions": list(options)}
    node.cloud.others[f"pv-{name}"] = {"metadata": {"name": f"pv-{name}"}, "spec": spec}
    return {"persistentVolumeClaim": {"claimName": name}}


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


def nfs_mounts() -> list[str]:
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if " - nfs4 " in line]


async def gone(node: PodNode, *names: str) -> None:
    for name in names:
        await node.delete(name, grace=1)
    await node.until(
        lambda: not node.cloud.pods and not node.service.pods() and not nfs_mounts(), f"the end of {', '.join(names)}", seconds=PATIENCE
    )
    assert not list((node.folder / "kubelet/pods").iterdir())


async def test_what_a_pod_writes_is_in_the_export_and_stays_there(node: PodNode, server: NfsServer) -> None:
    data = claim(node, server.volume, "nfsvers=4.2")
    await node.apply(pod("writer", "mkdir /v/folder && echo hello >/v/folder/file", volume=data))
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
        data = claim(node, server.volume, "retry=0")
        await node.apply(pod("early", "echo here >/v/early", volume=data))
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
    await gone(node, "early", "other")


async def test_a_server_that_does_not_answer_is_told_and_waited_for(node: PodNode, server: NfsServer) -> None:
    """A container that is to start again is refused before anything of it waits for the server; so is a new mount."""
    data = claim(node, server.volume)
    soft = claim(node, server.volume, "retry=0", "soft", "timeo=10", "retrans=1", name="soft")
    await node.apply(pod("again", "echo once >>/v/times", volume=data))
    await node.until(lambda: node.api("again").get("phase") == "Running", "Running", seconds=PATIENCE)
    await node.until((server.folder / "times").exists, "the file", seconds=PATIENCE)
    (container,) = await node.running()
    server.vanish()
    try:
        await node.runtime.stop_container(container.id, 0)
        await node.apply(pod("late", "echo here >/v/late", volume=soft))
        await node.until(lambda: told(node, "again", "Failed", "no answer within 10 s"), "a refused start", seconds=PATIENCE)
        await node.until(lambda: told(node, "late", "FailedMount", "does the server answer?"), "a failed mount", seconds=PATIENCE)
        await node.apply(pod("other", "echo here", volume={"emptyDir": {}}))
        await node.until(lambda: node.api("other").get("phase") == "Running", "the other pod", seconds=PATIENCE)
    finally:
        server.reappear()
    await node.until(lambda: (server.folder / "times").read_text() == "once\nonce\n", "the second start", seconds=PATIENCE)
    await node.until((server.folder / "late").exists, "the late pod", seconds=PATIENCE)
    await gone(node, "again", "late", "other")


async def test_a_server_that_dies_holds_up_nobody_else(node: PodNode, server: NfsServer, caplog: pytest.LogCaptureFixture) -> None:
    """The other pods go on, and a pod that reads there ends at once. One that has written what the server does not have yet is held by the
    kernel, where no signal reaches it: that is told, and what it waits for is made to fail. What was written before is there."""
    data = claim(node, server.volume)
    await node.apply(pod("writer", "echo kept >/v/kept; while :; do echo more; sleep 0.1; done >/v/more", volume=data))
    await node.apply(pod("reader", "while :; do ls /v >/dev/null; done", volume=data))
    await node.until((server.folder / "more").exists, "the file", seconds=PATIENCE)
    await node.until(lambda: all(node.api(each).get("phase") == "Running" for each in ("writer", "reader")), "both", seconds=PATIENCE)
    server.stop()
    try:
        await node.delete("writer", grace=1)
        await node.apply(pod("other", "echo here", volume={"emptyDir": {}}))
        await node.until(lambda: node.api("other").get("phase") == "Running", "the other pod", seconds=PATIENCE)
        await node.until(lambda: told(node, "writer", "FailedKillPod", "waits in the kernel"), "the event", seconds=PATIENCE)
        assert "pods.volumes.abandoned" not in caplog.text, "the reader has the same server mounted"
        await node.delete("other", grace=1)
        await node.delete("reader", grace=1)
        await node.until(lambda: not node.cloud.pods and not nfs_mounts(), "the end of all", seconds=PATIENCE)
        assert "pods.volumes.abandoned" in caplog.text
    finally:
        server.start()
    assert (server.folder / "kept").read_text() == "kept\n"
    await node.apply(pod("next", "mv /v/kept /v/copied", volume=data))
    await node.until((server.folder / "copied").exists, "the next pod", seconds=PATIENCE)
    await gone(node, "next")


def told(node: PodNode, about: str, reason: str, words: str) -> bool:
    return any((each.about, each.reason) == (about, reason) and words in each.message for each in node.events.told)
