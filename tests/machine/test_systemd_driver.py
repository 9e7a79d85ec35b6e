"""Pods in cgroups that systemd made: cgroupDriver systemd with the real one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from rig.images import busybox
from rig.oci import OciHome
from rig.podnode import PodNode, pod_node
from rig.pods import pod as any_pod

from pinnace.core.base.pod import Pod
from pinnace.core.base.settings.edged import KubeletSettings
from pinnace.core.pods.upkeep.cgroups import PodCgroups

pytestmark = [pytest.mark.containers, pytest.mark.root, pytest.mark.timeout(400)]
IMAGE = "pinnace.test/busybox:1"
PATIENCE = 60.0
CGROUPS = Path("/sys/fs/cgroup")
LIMITS = (str(64 << 20), "50000 100000")


@pytest.fixture
async def node() -> AsyncIterator[PodNode]:
    with OciHome({IMAGE: busybox()}, cgroup_driver="systemd") as home:
        async with pod_node(home, cgroup_driver="systemd") as made:
            yield made


def cgroup_of(node: PodNode, container_id: str) -> Path:
    """Of the container's first process: the scope, or what crun makes within it."""
    pid = (node.home.settings.run_dir / "oci/containers" / container_id / "pid").read_text().strip()
    return CGROUPS / Path(f"/proc/{pid}/cgroup").read_text().strip().removeprefix("0::/")


async def systemctl(*words: str) -> str:
    process = await asyncio.create_subprocess_exec("systemctl", *words, stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    return said.decode().strip()


def limits_of(folder: Path) -> tuple[str, str]:
    return (folder / "memory.max").read_text().strip(), (folder / "cpu.max").read_text().strip()


async def run_limited(node: PodNode) -> None:
    """A pod `web` that runs within LIMITS."""
    limits = {"cpu": "500m", "memory": "64Mi"}
    main = {"name": "main", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": ["/bin/sleep", "1000"]}
    spec = {"hostNetwork": True, "terminationGracePeriodSeconds": 1, "initContainers": []}
    await node.apply(any_pod("web", uid="uid-1", containers=[{**main, "resources": {"limits": limits, "requests": limits}}], **spec))
    await node.until(lambda: node.api("web").get("phase") == "Running", "Running", seconds=PATIENCE)


async def test_a_pod_is_a_slice_and_a_container_a_scope(node: PodNode) -> None:
    """The container's limits hold, the agent's restart changes nothing, and with the pod both go."""
    await run_limited(node)
    (container,) = await node.running()
    own = cgroup_of(node, container.id)
    scope = own if own.suffix == ".scope" else own.parent
    assert scope.parent == CGROUPS / "kubepods.slice/kubepods-poduid_1.slice"
    assert scope.name == f"pinnace-{container.id}.scope"
    assert await systemctl("is-active", scope.name) == "active"
    assert limits_of(own) == LIMITS

    await node.stop()
    await node.start()
    await node.until_phase("web", "Running")
    assert [each.id for each in await node.running()] == [container.id]
    usage = {each.id: each for each in await node.runtime.usage()}
    assert usage[container.id].memory_working_set > 0

    await node.delete("web", grace=1)
    await node.until(lambda: "web" not in node.cloud.pods, "the deletion", seconds=PATIENCE)
    await node.until(lambda: not scope.parent.exists(), "the end of the slice", seconds=PATIENCE)


async def test_limits_of_pods_and_tiers_hold_in_their_slices(node: PodNode, caplog: pytest.LogCaptureFixture) -> None:
    """systemd sets what it knows again and again: with each scope in a slice, with each reload."""
    every = CGROUPS / "kubepods.slice"
    web = every / "kubepods-poduid_1.slice"

    def held() -> tuple[object, ...]:
        weights = tuple((each / "cpu.weight").read_text().strip() for each in (web, every, every / "kubepods-besteffort.slice"))
        return limits_of(web), weights, (every / "memory.max").read_text().strip()

    await run_limited(node)
    assert held() == (LIMITS, ("20", "79", "1"), str(1 << 30))
    await systemctl("daemon-reload")
    assert held() == (LIMITS, ("20", "79", "1"), str(1 << 30))
    assert not [each.message for each in caplog.records if "pods.cgroup" in each.message]

    await node.stop()
    await node.start()
    await node.until_phase("web", "Running")
    assert held() == (LIMITS, ("20", "79", "1"), str(1 << 30))
    assert await systemctl("show", "--property=LoadState,ActiveState", "--value", web.name) == "loaded\nactive"

    await node.delete("web", grace=1)
    await node.until(lambda: "web" not in node.cloud.pods, "the deletion", seconds=PATIENCE)
    await node.until(lambda: not web.exists(), "the end of the slice", seconds=PATIENCE)
    assert await systemctl("show", "--property=ActiveState", "--value", web.name) == "inactive"
    assert await systemctl("show", "--property=ActiveState", "--value", every.name) == "active"


async def test_limits_hold_where_systemd_made_the_slice_itself(node: PodNode) -> None:
    """For a scope of somebody's: then it is there before the agent asks for it."""
    await systemctl("start", "kubepods-poduid_1.slice")
    await run_limited(node)
    assert limits_of(CGROUPS / "kubepods.slice/kubepods-poduid_1.slice") == LIMITS


async def test_huge_pages_are_limited_where_systemd_knows_nothing_of_them() -> None:
    made = PodCgroups(KubeletSettings(cgroup_driver="systemd"), room={"cpu": 2000, "memory": 1 << 30})
    limits = {"cpu": "505m", "memory": "8Mi", "hugepages-2Mi": "4Mi"}
    pod = Pod({"metadata": {"name": "p", "uid": "huge"}, "spec": {"containers": [{"name": "c", "resources": {"limits": limits}}]}})
    folder = CGROUPS / made.parent(pod)[1:]
    try:
        await made.ensure(pod)
        await systemctl("daemon-reload")
        assert limits_of(folder) == (str(8 << 20), "51000 100000")
        assert (folder / "hugetlb.2MB.max").read_text().strip() == str(4 << 20)
    finally:
        await made.remove("huge")
        await made.dissolve()
    assert not (CGROUPS / "kubepods.slice").exists()
