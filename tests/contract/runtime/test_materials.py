"""What the pods' materials make, in containers of each runtime: volumes, variables, files, users, limits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from contract.runtime.installations import BUSYBOX, Installation
from contract.runtime.pods import TestPod, until
from fakes.materials import HOST_IP, MaterialsWorld, pod_with, secret_data

from pinnace.core.base.pod import Pod
from pinnace.core.pods.material.mounts import Mounts

pytestmark = [pytest.mark.containers, pytest.mark.root]

GROUP = 4242
USER = 1717


@pytest.fixture
async def world(pod: TestPod, tmp_path: Path, cgroup: str) -> AsyncIterator[MaterialsWorld]:
    made = MaterialsWorld(tmp_path, Mounts(), cgroup=cgroup)
    try:
        yield made
    finally:
        await pod.remove()
        await made.materials.unmount(pod.uid)
        assert not Mounts().points(made.root)


async def started(world: MaterialsWorld, at: TestPod, pod: Pod, index: int = 0) -> str:
    """The pod's container, running."""
    await world.materials.mount(pod)
    if not at.sandbox_id:
        at.config = world.materials.sandbox_config(pod, 0)
        at.config.log_directory.mkdir(parents=True, exist_ok=True)
        at.sandbox_id = await at.runtime.run_sandbox(at.config)
    image = await at.runtime.images.image(BUSYBOX)
    assert image is not None
    config = await world.config(pod, index, image=image, ips=())
    (at.config.log_directory / config.name).mkdir(exist_ok=True)
    container_id = await at.runtime.create_container(at.sandbox_id, config, at.config)
    await at.runtime.start_container(container_id)
    return container_id


def on_host(at: TestPod, *volumes: dict[str, Any], text: str, container: dict[str, Any] | None = None, **spec: Any) -> Pod:
    own = {"image": BUSYBOX, "command": ["/bin/sh", "-c", text], **(container or {})}
    return pod_with(*volumes, uid=at.uid, container=own, hostNetwork=True, **spec)


async def test_everything_at_once(world: MaterialsWorld, pod: TestPod, tmp_path: Path) -> None:
    world.store("configmap", "app", data={"color": "red"})
    world.store("secret", "login", data=secret_data(password="hush"))
    await world.uplink.connect()
    (tmp_path / "node").mkdir()
    volumes = [
        {"name": "cm", "configMap": {"name": "app"}},
        {"name": "s", "secret": {"secretName": "login", "defaultMode": 0o400}},
        {"name": "mem", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": "disk", "emptyDir": {}},
        {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
        {"name": "down", "downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
        {"name": "host", "hostPath": {"path": str(tmp_path / "node"), "type": "Directory"}},
    ]
    env = [
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "login", "key": "password"}}},
        {"name": "BOTH", "value": "$(IP)/$(PASSWORD)"},
    ]
    mounts = [{"name": str(each["name"]), "mountPath": f"/v/{each['name']}"} for each in volumes]
    mounts += [{"name": "disk", "mountPath": "/sub", "subPath": "a/b"}, {"name": "cm", "mountPath": "/etc/color", "subPath": "color"}]
    text = (
        "cat /v/cm/color /v/s/password /v/token/token /v/down/name /etc/color; echo; echo $BOTH; id -u; id -G;"
        "echo 1 >/v/mem/f && echo 2 >/v/disk/f && echo 3 >/sub/f && cat /v/mem/f /v/disk/f /v/disk/a/b/f;"
        "for each in /v/cm/x /v/s/x /v/host/x; do (echo x >$each) 2>/dev/null && echo wrote $each; done;"
        "grep -c Kubernetes-managed /etc/hosts; echo all is well >/dev/termination-log"
    )
    own = {"env": env, "volumeMounts": mounts, "resources": {"limits": {"memory": "64Mi"}}}
    made = on_host(pod, *volumes, text=text, container=own, securityContext={"runAsUser": USER, "runAsGroup": USER, "fsGroup": GROUP})
    (tmp_path / "node").chmod(0o777)
    ended = await pod.ended(await started(world, pod, made))
    assert pod.said(ended).splitlines() == [
        f"redhushtoken-{pod.uid}-1webred",
        f"{HOST_IP}/hush",
        str(USER),
        f"{USER} {GROUP}",
        *("1", "2", "3"),
        "wrote /v/host/x",
        "1",
    ]
    assert ended.exit_code == 0
    assert world.materials.termination_log(made, made.containers[0], 0).read_text() == "all is well\n"
    assert (tmp_path / "node/x").exists()
    assert (world.folder(pod.uid) / "volumes/kubernetes.io~empty-dir/disk/f").stat().st_gid == GROUP


async def test_new_content_is_seen_by_a_container_that_runs(world: MaterialsWorld, pod: TestPod) -> None:
    world.store("configmap", "app", data={"color": "red"})
    made = on_host(pod, {"name": "cm", "configMap": {"name": "app"}}, text="exec sleep 1000")
    container_id = await started(world, pod, made)
    assert await pod.exec(container_id, "cat /cm/color") == "red"
    world.store("configmap", "app", data={"color": "blue", "size": "1"})
    await world.materials.mount(made)

    async def is_seen() -> bool:
        return await pod.exec(container_id, "cat /cm/color /cm/size") == "blue1"

    await until(is_seen, what="the new content")


async def test_a_link_left_in_a_volume_leads_nowhere(world: MaterialsWorld, pod: TestPod) -> None:
    """What one container leaves for the next one to mount as a sub-path."""
    first = on_host(pod, {"name": "disk", "emptyDir": {}}, text="ln -s / /disk/out && mkdir /disk/in && ln -s in /disk/link")
    assert (await pod.ended(await started(world, pod, first))).exit_code == 0
    mounts = [{"name": "disk", "mountPath": "/good", "subPath": "link"}, {"name": "disk", "mountPath": "/bad", "subPath": "out"}]
    second = on_host(pod, {"name": "disk", "emptyDir": {}}, text="ls /bad", container={"volumeMounts": mounts})
    with pytest.raises(Exception, match="leads out of the volume"):
        await started(world, pod, second)
    third = on_host(pod, {"name": "disk", "emptyDir": {}}, text="touch /good/x", container={"name": "third", "volumeMounts": mounts[:1]})
    assert (await pod.ended(await started(world, pod, third))).exit_code == 0
    assert (world.folder(pod.uid) / "volumes/kubernetes.io~empty-dir/disk/in/x").exists()


async def test_after_the_pod_nothing_is_left(world: MaterialsWorld, pod: TestPod, installation: Installation) -> None:
    """The containers' mounts of a volume in memory hold nothing up."""
    made = on_host(pod, {"name": "mem", "emptyDir": {"medium": "Memory"}}, text="exec sleep 1000")
    await started(world, pod, made)
    await pod.remove()
    await world.materials.unmount(pod.uid)
    assert set(await world.materials.leftovers()) == set()
